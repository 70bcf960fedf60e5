//! The log against a real PostgreSQL: its guarantees, and each race that could break one.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod fixture;
mod proxy;

mod epochs;
mod feed;
mod migrations;
mod overload;
mod races;
mod reading;
mod rights;
mod social;
