//! What the tests of sockets and logs share.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod client;
pub mod model;
pub mod node;
pub mod raw;
pub mod upgrade;
