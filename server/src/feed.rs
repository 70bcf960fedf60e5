//! The feed: candidates from its sources, and the engagement that ClickHouse ranks by.
//!
//! May touch: PostgreSQL and ClickHouse through `storage`; no sockets.
//!
//! Always holds: a source ends by its deadline, or sooner with an error, and never with a part of its answer; what people
//! did is counted in ClickHouse once, however often it is sent.

pub mod candidate;
pub mod clickhouse;
pub mod export;
