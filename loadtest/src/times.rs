//! Durations of one kind, taken from many tasks, and what is told of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

pub(crate) struct Times(Mutex<Both>);

struct Both {
    all: Histogram<u64>,
    /// Since it was last looked at; coarser, since it is only drawn.
    lately: Histogram<u64>,
}

/// The longest that is told apart.
const MOST_US: u64 = 600_000_000;

impl Times {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Both { all: histogram(3), lately: histogram(2) }))
    }

    pub(crate) fn record(&self, took: Duration) {
        let us = us(took);
        let mut both = self.lock();
        both.all.saturating_record(us);
        both.lately.saturating_record(us);
    }

    /// For whoever keeps times under a lock of his own, with [`Self::record_in`].
    pub(crate) fn histogram() -> Histogram<u64> {
        histogram(3)
    }

    pub(crate) fn record_in(times: &mut Histogram<u64>, took: Duration) {
        times.saturating_record(us(took));
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles::of(&self.lock().all)
    }

    /// Of what came since the last call; nothing if nothing came.
    pub(crate) fn lately(&self) -> Option<Percentiles> {
        let mut both = self.lock();
        let lately = (!both.lately.is_empty()).then(|| Percentiles::of(&both.lately));
        both.lately.reset();
        lately
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    // Bounds and figures are constants that the histogram accepts.
    #[allow(clippy::expect_used)]
    Histogram::new_with_bounds(1, MOST_US, digits).expect("valid bounds")
}

fn us(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(MOST_US).max(1)
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
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= b * 0.01
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let times = Times::new();
        for ms in 1..=1_000 {
            times.record(Duration::from_millis(ms));
        }
        times.record(Duration::from_secs(100_000));
        let p = times.percentiles();
        assert_eq!(p.count, 1_001);
        assert!(near(p.p50_ms, 501.0) && near(p.p90_ms, 901.0) && near(p.p99_ms, 991.0), "{p:?}");
        assert!(near(p.max_ms, MOST_US as f64 / 1_000.0), "beyond the range it is the range's end: {p:?}");
    }

    #[test]
    fn a_look_sees_what_came_since_the_one_before() {
        let times = Times::new();
        assert!(times.lately().is_none());
        times.record(Duration::from_millis(10));
        assert!(times.lately().is_some_and(|lately| lately.count == 1 && near(lately.p99_ms, 10.0)));
        assert!(times.lately().is_none());
        times.record(Duration::from_millis(20));
        assert!(times.lately().is_some_and(|lately| near(lately.p99_ms, 20.0)));
        assert_eq!(times.percentiles().count, 2);
    }
}
