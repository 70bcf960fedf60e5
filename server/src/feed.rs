//! The feed: candidates of several sources, ranked for one reader, cached, and read in pages; and the engagement that
//! ClickHouse ranks by.
//!
//! May touch: PostgreSQL, Redis and ClickHouse through `storage`, memory and the clock; no sockets. `ranking`, `page`, `budget` and the breaker's
//! state machine are pure: they take the time as an argument, and do no I/O.
//!
//! Always holds: what one reader costs is bounded in time (`budget`), in memory (`cache`) and in what the database is
//! asked for (`bulkhead`); a ranking is made by one node at a time, and an older one never replaces a newer one; a reader
//! who follows a cursor sees no post twice and misses none; a source ends by its deadline, or sooner with an error, and never
//! with a part of its answer; what people did is counted in ClickHouse once, however often it is sent.

pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod cache;
pub mod candidate;
pub mod clickhouse;
mod compose;
mod config;
pub mod export;
mod gather;
pub mod page;
mod postgres;
mod push;
pub mod ranking;

pub use compose::{Feed, Parts};
pub use config::Config;
pub use push::{Pushes, Subscription};
