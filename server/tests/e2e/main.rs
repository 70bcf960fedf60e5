//! The real program over real sockets and a real PostgreSQL, as a client of another maker meets it.
#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod client;
mod person;
mod world;

mod bad_input;
mod chat;
mod ending;
mod faults;
mod feed;
mod floods;
mod membership;
mod nodes;
mod resume;
mod slow;
mod social;
mod storm;
mod topics;
