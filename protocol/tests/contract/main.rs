//! The contract as every implementation has to keep it: the golden vectors, whatever bytes come, and its documentation.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod arbitrary;
mod docs;
mod golden;
mod vectors;
