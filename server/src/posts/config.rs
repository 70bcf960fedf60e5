use serde::{Deserialize, Serialize};

use crate::config::Invalid;

/// What is kept of posts in memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a node keeps of posts, and of what readers have to do with them, in bytes; what was not used for longest goes first.
    pub memory_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory_bytes: 16 << 20 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        Invalid::unless_in("memory_bytes", self.memory_bytes, 1 << 16..=1 << 40).into_iter().collect()
    }
}
