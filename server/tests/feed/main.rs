//! The feed's cache and its bulkhead, over a real Redis that is killed and hung. What is asserted are counts.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

mod away;
mod cache;
mod fixture;
mod stampede;
