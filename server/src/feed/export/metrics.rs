use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Metrics;

pub(super) struct ExportMetrics {
    pub rows: Counter,
    pub failures: Counter,
    lag: Gauge<f64, AtomicU64>,
}

impl ExportMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let lag = "Age of the oldest engagement that ClickHouse is owed; 0 on nodes that do not export";
        Self {
            rows: metrics.register(
                "feed_export_rows",
                "Engagement of the log stored in ClickHouse",
                Counter::default(),
            ),
            failures: metrics.register("feed_export_failures", "Attempts to export that failed", Counter::default()),
            lag: metrics.register("feed_export_lag_seconds", lag, Gauge::default()),
        }
    }

    /// `oldest_ms`: when the oldest that is owed was committed; `None` if nothing is.
    pub(super) fn lag(&self, oldest_ms: Option<i64>) {
        let age = oldest_ms.map_or(0, |oldest| (now_ms() - oldest).max(0));
        self.lag.set(age as f64 / 1_000.0);
    }
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
