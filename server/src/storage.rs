//! PostgreSQL: the pool that the traffic uses, the migrations, and the embedded default when no database is configured.
//!
//! May touch sockets, processes and files; knows no domain. Two clients, one job each: `deadpool-postgres` carries the
//! traffic with unnamed statements only (so it works through PgBouncer in transaction mode), `sqlx` owns the schema.
//!
//! Always holds: a process has at most `max_connections` connections for its traffic; nobody waits for one past its
//! deadline, nor when `max_waiting` others already wait; a connection whose statement was abandoned is never used again.

mod config;
mod fault;
pub mod migrate;
mod pool;

pub use config::{Config, Invalid};
pub use fault::Fault;
pub use pool::{Connection, Pool};
