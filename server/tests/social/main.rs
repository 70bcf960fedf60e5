//! Posts and people against a real PostgreSQL: what each reader sees, page by page.
#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod fixture;

mod near;
mod people;
mod posts;
