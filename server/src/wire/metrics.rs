//! What the shards count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Metrics;

#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub sockets: Gauge,
    pub logs: Gauge,
    pub tail_bytes: Gauge,
    pub messages: Counter,
    pub deliveries: Counter,
    pub short_writes: Counter,
    pub pages: Counter,
    pub refused: Counter,
    pub stalled: Counter,
    pub lost: Counter,
}

/// Counted without sharing while a turn of a shard lasts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub messages: u64,
    pub deliveries: u64,
    pub short_writes: u64,
    pub pages: u64,
    pub stalled: u64,
    pub lost: u64,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.register(name, help, Gauge::default());
        let counter = |name, help| metrics.register(name, help, Counter::default());
        Self {
            sockets: gauge("sockets", "Open WebSocket connections"),
            logs: gauge("followed_logs", "Logs that a connection follows, counted a shard"),
            tail_bytes: gauge("tail_bytes", "Entries and pages held in memory"),
            messages: counter("messages", "WebSocket messages received"),
            deliveries: counter("deliveries", "Entries delivered to a connection"),
            short_writes: counter("short_writes", "Writes that a connection took only in part or not at all"),
            pages: counter("pages_read", "Pages of the stored log that came for replays"),
            refused: counter("sockets_refused", "Connections refused because a shard had too many new ones"),
            stalled: counter("sockets_stalled", "Connections closed because nothing came or was taken"),
            lost: counter("topic_messages_lost", "Messages of topics that a connection was too slow for"),
        }
    }

    pub(super) fn add(&self, tally: &mut Tally) {
        let Tally { messages, deliveries, short_writes, pages, stalled, lost } = std::mem::take(tally);
        for (counter, n) in [
            (&self.messages, messages),
            (&self.deliveries, deliveries),
            (&self.short_writes, short_writes),
            (&self.pages, pages),
            (&self.stalled, stalled),
            (&self.lost, lost),
        ] {
            if n > 0 {
                counter.inc_by(n);
            }
        }
    }
}
