//! What one node has: what it believes without looking, and what is still of use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use uuid::Uuid;

use super::{Config, Entry};

/// Both together never hold more than `memory_bytes`; what was not used for longest goes first.
pub(super) struct Memory<V: Send + Sync + 'static> {
    near: Cache<Uuid, Arc<Entry<V>>>,
    kept: Cache<Uuid, Arc<Entry<V>>>,
}

impl<V: Send + Sync + 'static> Memory<V> {
    pub(super) fn new(config: &Config) -> Self {
        let half = || {
            let weigher = |_: &Uuid, entry: &Arc<Entry<V>>| entry.weight();
            Cache::builder().max_capacity(config.memory_bytes / 2).weigher(weigher)
        };
        let believed = Believed { min: config.near_min, max: config.near_max };
        Self { near: half().expire_after(believed).build(), kept: half().time_to_live(config.hard).build() }
    }

    /// What is believed without looking.
    pub(super) async fn near(&self, key: Uuid) -> Option<Arc<Entry<V>>> {
        self.near.get(&key).await.filter(|entry| !entry.is_gone())
    }

    /// What is near is not believed any more.
    pub(super) async fn look_again(&self, key: Uuid) {
        self.near.invalidate(&key).await;
    }

    /// What is still of use.
    pub(super) async fn kept(&self, key: Uuid) -> Option<Arc<Entry<V>>> {
        self.kept.get(&key).await.filter(|entry| !entry.is_gone())
    }

    /// What is near, or what `load` gives, which is then near. Of all who ask at once, one load is run.
    pub(super) async fn near_or<E: Send + Sync + 'static>(
        &self,
        key: Uuid,
        load: impl Future<Output = Result<Arc<Entry<V>>, E>>,
    ) -> Result<Arc<Entry<V>>, Arc<E>> {
        self.near.try_get_with(key, load).await
    }

    /// Keeps it, unless a newer one is there; gives back the one that is.
    pub(super) async fn keep(&self, key: Uuid, entry: Arc<Entry<V>>) -> Arc<Entry<V>> {
        let newer = |kept: Option<moka::Entry<Uuid, Arc<Entry<V>>>>| {
            let kept = kept.map(moka::Entry::into_value).filter(|kept| kept.version > entry.version && !kept.is_gone());
            std::future::ready(kept.unwrap_or(entry))
        };
        let kept = self.kept.entry(key).and_upsert_with(newer).await.into_value();
        self.near.insert(key, kept.clone()).await;
        kept
    }
}

/// How long what is near is believed.
struct Believed {
    min: Duration,
    max: Duration,
}

impl<V: Send + Sync + 'static> Expiry<Uuid, Arc<Entry<V>>> for Believed {
    fn expire_after_create(&self, _: &Uuid, _: &Arc<Entry<V>>, _: Instant) -> Option<Duration> {
        Some(rand::random_range(self.min..=self.max))
    }

    fn expire_after_update(&self, _: &Uuid, _: &Arc<Entry<V>>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(rand::random_range(self.min..=self.max))
    }
}
