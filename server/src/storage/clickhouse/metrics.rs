use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Fault;
use crate::telemetry::Metrics;

pub(super) struct ClickHouseMetrics {
    reads: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl ClickHouseMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help =
            "Reads from ClickHouse by how they ended: answered, full (refused here), late, stopped, away, refused";
        Self { reads: metrics.register("clickhouse_reads", help, Family::default()) }
    }

    pub(super) fn read(&self, fault: Option<&Fault>) {
        let outcome = match fault {
            None => "answered",
            Some(Fault::Full) => "full",
            Some(Fault::Late) => "late",
            Some(Fault::Stopped(_)) => "stopped",
            Some(Fault::Away(_)) => "away",
            Some(Fault::Refused(_)) => "refused",
        };
        self.reads.get_or_create(&Outcome { outcome }).inc();
    }
}
