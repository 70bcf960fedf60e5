//! On a real ClickHouse, with and without a proxy that spoils what passes.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod candidates;
mod export;
mod fixture;
mod layers;
mod migrations;
