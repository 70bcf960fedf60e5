//! The log against a real PostgreSQL: its guarantees, and each race that could break one.

#![allow(clippy::unwrap_used)]

mod fixture;
mod proxy;

mod epochs;
mod feed;
mod migrations;
mod overload;
mod races;
mod reading;
mod rights;
