use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, millis};

/// How long what is made is of use, and what it may cost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A node believes what it has for a time between these two, so that not all look at once.
    #[serde(rename = "near_min_ms", with = "millis")]
    pub near_min: Duration,
    #[serde(rename = "near_max_ms", with = "millis")]
    pub near_max: Duration,
    /// Older (give or take a tenth), it is made anew while it is still given out.
    #[serde(rename = "soft_ms", with = "millis")]
    pub soft: Duration,
    /// Older, it is gone.
    #[serde(rename = "hard_ms", with = "millis")]
    pub hard: Duration,
    /// What a node keeps, in bytes; what was not used for longest goes first.
    pub memory_bytes: u64,
    /// Making one is given up after this time.
    #[serde(rename = "make_ms", with = "millis")]
    pub make: Duration,
    /// One who has not finished by then has lost his turn.
    #[serde(rename = "turn_ms", with = "millis")]
    pub turn: Duration,
    /// Stale ones that a node makes anew at once; others are given out stale until there is room.
    pub refreshes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            near_min: Duration::from_secs(2),
            near_max: Duration::from_secs(5),
            soft: Duration::from_secs(60),
            hard: Duration::from_secs(600),
            memory_bytes: 32 << 20,
            make: Duration::from_millis(450),
            turn: Duration::from_millis(600),
            refreshes: 64,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("near_min_ms", in_ms(self.near_min), 0..=3_600_000),
            ("near_max_ms", in_ms(self.near_max), in_ms(self.near_min)..=3_600_000),
            ("soft_ms", in_ms(self.soft), 1..=86_400_000),
            ("hard_ms", in_ms(self.hard), in_ms(self.soft)..=86_400_000),
            ("memory_bytes", self.memory_bytes, 1 << 16..=1 << 40),
            ("make_ms", in_ms(self.make), 1..=60_000),
            ("turn_ms", in_ms(self.turn), in_ms(self.make)..=120_000),
            ("refreshes", self.refreshes as u64, 1..=10_000),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}
