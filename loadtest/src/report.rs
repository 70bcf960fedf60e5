//! Figures: how they are kept, and how they are told.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Durations of one kind, taken from many tasks.
pub(crate) struct Times(Mutex<Histogram<u64>>);

/// The longest that is told apart.
const MOST_US: u64 = 600_000_000;

impl Times {
    pub(crate) fn new() -> Self {
        // Bounds and figures are constants that the histogram accepts.
        #[allow(clippy::expect_used)]
        Self(Mutex::new(Histogram::new_with_bounds(1, MOST_US, 3).expect("valid bounds")))
    }

    pub(crate) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(MOST_US);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(us.max(1));
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |q| times.value_at_quantile(q) as f64 / 1_000.0;
        Percentiles {
            count: times.len(),
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: times.max() as f64 / 1_000.0,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Percentiles {
    pub(crate) fn line(&self) -> String {
        if self.count == 0 {
            return "none".to_owned();
        }
        format!(
            "p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ({} times)",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms, self.count
        )
    }
}

/// One line of a summary.
pub(crate) fn say(what: &str, value: impl std::fmt::Display) {
    println!("{what:<26} {value}");
}

pub(crate) fn write_json(path: Option<&Path>, result: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::write(path, text).with_context(|| format!("--json {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let times = Times::new();
        for ms in 1..=1_000 {
            times.record(Duration::from_millis(ms));
        }
        times.record(Duration::from_secs(100_000));
        let p = times.percentiles();
        let near = |a: f64, b: f64| (a - b).abs() <= b * 0.002;
        assert_eq!(p.count, 1_001);
        assert!(near(p.p50_ms, 501.0) && near(p.p90_ms, 901.0) && near(p.p99_ms, 991.0), "{p:?}");
        assert!(near(p.max_ms, MOST_US as f64 / 1_000.0), "beyond the range it is the range's end: {p:?}");
    }
}
