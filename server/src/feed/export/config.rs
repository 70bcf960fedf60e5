use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, millis};

/// How engagement goes to ClickHouse, where there is one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often what is new is sent.
    #[serde(rename = "interval_ms", with = "millis")]
    pub interval: Duration,
    /// Rows of one batch; a full one is sent at once.
    pub batch_rows: usize,
    /// How long the node that exports is waited for when it says nothing, before another one goes on.
    #[serde(rename = "lease_ms", with = "millis")]
    pub lease: Duration,
    /// Views that wait in memory; more are dropped and counted.
    pub views: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), batch_rows: 10_000, lease: Duration::from_secs(15), views: 100_000 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let time = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("interval_ms", time(self.interval), 10..=60_000),
            ("batch_rows", self.batch_rows as u64, 1..=100_000),
            ("lease_ms", time(self.lease), 1_000..=600_000),
            ("views", self.views as u64, 1..=10_000_000),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}
