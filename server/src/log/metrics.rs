use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Metrics;

/// What the writers count.
pub(super) struct LogMetrics {
    commands: Counter,
    seconds: Histogram,
    sizes: Histogram,
}

impl LogMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            commands: metrics.register("log_commands", "Commands that the database answered", Counter::default()),
            seconds: metrics.register(
                "log_batch_seconds",
                "How long the statement of a batch took",
                Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]),
            ),
            sizes: metrics.register(
                "log_batch_commands",
                "Commands in a batch",
                Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            ),
        }
    }

    pub(super) fn batch(&self, commands: usize, took: Duration) {
        self.commands.inc_by(commands as u64);
        self.seconds.observe(took.as_secs_f64());
        self.sizes.observe(commands as f64);
    }
}
