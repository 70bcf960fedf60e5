//! The pool of database connections as it is when somebody looks at the metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::storage::Pool;

pub(super) struct Connections(pub(super) Pool);

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in [
            ("database_connections", "Open connections to the database", self.0.open()),
            ("database_connections_in_use", "Connections to the database that are handed out", self.0.in_use()),
            ("database_waiting", "Requests that wait for a connection to the database", self.0.waiting()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let statements = ConstCounter::new(self.0.statements());
        let (name, help) = ("database_statements", "Statements sent to the database");
        statements.encode(encoder.encode_descriptor(name, help, None, statements.metric_type())?)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}
