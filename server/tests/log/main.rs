//! The log against a real PostgreSQL: its guarantees, and each race that could break one.

mod fixture;
mod proxy;

mod epochs;
mod feed;
mod migrations;
mod overload;
mod races;
mod reading;
mod rights;
