//! Conversations against a real PostgreSQL: who is given what, and what it costs the database.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod fixture;

mod attaching;
mod changing;
mod cost;
mod history;
mod lists;
mod reads;
