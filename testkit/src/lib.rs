//! What the tests of several crates share: real databases, real servers, a real Redis.
//!
//! Tests are processes of their own that run at the same time, so nothing here lives in memory between them: what is
//! shared is a database, made under an advisory lock by whoever comes first.

mod clickhouse;
mod cluster;
mod database;
mod explained;
mod fault_proxy;
mod redis;
mod server;

pub use clickhouse::ClickHouse;
pub use cluster::Cluster;
pub use database::TestDatabase;
pub use explained::{Explained, Found};
pub use fault_proxy::{Fault, FaultProxy};
pub use redis::Redis;
pub use server::Server;
