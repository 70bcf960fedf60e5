//! The server as a library: every room of ARCHITECTURE.md, so that tests can build any part of it.

pub mod accounts;
pub mod api;
pub mod app;
pub mod batcher;
pub mod chat;
pub mod cli;
pub mod config;
pub mod conversations;
pub mod deadline;
pub mod dispatch;
pub mod feed;
pub mod graph;
pub mod limits;
pub mod log;
pub mod marks;
pub mod posts;
pub mod session;
pub mod storage;
pub mod tail;
pub mod telemetry;
pub mod wire;
