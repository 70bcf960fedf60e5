use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::Metrics;

/// What all caches of a server are counted by.
#[derive(Clone, Debug)]
pub struct Counts(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cache: &'static str,
    event: &'static str,
}

/// Of one cache.
pub(super) struct Events {
    /// Given out without a look.
    pub near: Counter,
    /// Read from Redis.
    pub shared: Counter,
    /// Given out although stale.
    pub stale: Counter,
    pub made: Counter,
    pub failed: Counter,
    /// Made too late: Redis has a newer one.
    pub outdated: Counter,
    /// Looked for without an answer of Redis.
    pub without_redis: Counter,
}

impl Counts {
    /// Once a server.
    pub fn new(metrics: &Metrics) -> Self {
        Self(metrics.register("cache_events", "What became of requests to a cache", Family::default()))
    }

    pub(super) fn of(&self, cache: &'static str) -> Events {
        let counter = |event| self.0.get_or_create_owned(&Labels { cache, event });
        Events {
            near: counter("near"),
            shared: counter("shared"),
            stale: counter("stale"),
            made: counter("made"),
            failed: counter("failed"),
            outdated: counter("outdated"),
            without_redis: counter("without_redis"),
        }
    }
}
