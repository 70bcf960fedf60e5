//! The protocol of one connection, without sockets, clocks or a database.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod peer;

mod arbitrary;
mod connecting;
mod living;
mod resuming;
mod topics;
