//! What is costly to make, kept for a while: in this process, and in Redis for all nodes.
//!
//! - What a node has, it believes for a few seconds; then it looks whether Redis has something newer.
//! - After a minute or so (`soft`) it is stale: it is still given out while ONE caller of one node makes it anew. Only after
//!   `hard` is it gone, and callers wait for it to be made, by one of them in all nodes together.
//! - Whatever is made has a version. An older one never replaces a newer one, in Redis or in a node, also when the one who
//!   made it was stopped for longer than his turn lasts.
//! - With Redis away or none at all, the same holds within each node.
//!
//! A caller who goes away changes nothing: what is being made is made, and kept.

mod entry;
mod shared;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache as Memory;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::config::{Invalid, millis};
use crate::deadline::Deadline;
use crate::storage::redis::Redis;
use crate::telemetry::Metrics;
pub use entry::Entry;
use entry::{Age, Life};
use shared::{Shared, Turn};

/// How often one who waits for another node's result looks.
const LOOK: Duration = Duration::from_millis(20);

/// How long what is made is of use, and what it may cost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A node believes what it has for a time between these two, so that not all look at once.
    #[serde(rename = "near_min_ms", with = "millis")]
    pub near_min: Duration,
    #[serde(rename = "near_max_ms", with = "millis")]
    pub near_max: Duration,
    /// Older (give or take a tenth), it is made anew while it is still given out.
    #[serde(rename = "soft_ms", with = "millis")]
    pub soft: Duration,
    /// Older, it is gone.
    #[serde(rename = "hard_ms", with = "millis")]
    pub hard: Duration,
    /// What a node keeps, in bytes; what was not used for longest goes first.
    pub memory_bytes: u64,
    /// Making one is given up after this time.
    #[serde(rename = "make_ms", with = "millis")]
    pub make: Duration,
    /// One who has not finished by then has lost his turn.
    #[serde(rename = "turn_ms", with = "millis")]
    pub turn: Duration,
    /// Stale ones that a node makes anew at once; others are given out stale until there is room.
    pub refreshes: usize,
}

/// Keeps values of one kind by id. Cheap to clone; all clones are one cache.
pub struct Cache<V: Send + Sync + 'static> {
    inner: Arc<Inner<V>>,
}

/// How a value crosses Redis.
pub struct Codec<V> {
    pub to_bytes: fn(&V) -> Vec<u8>,
    /// Nothing for what is no value, such as one of another version of this program.
    pub from_bytes: fn(&[u8]) -> Option<V>,
}

/// What making a value begins with.
pub struct Making<V> {
    /// Of what will be made: greater than that of any before.
    pub version: u64,
    /// What was there, stale.
    pub before: Option<Arc<Entry<V>>>,
    /// By then it must be made.
    pub deadline: Deadline,
}

/// Why there is nothing to give out.
#[derive(Debug, thiserror::Error)]
pub enum Miss<E> {
    /// It was not made in time, here or by the other node whose turn it is.
    #[error("it was not made in time")]
    Late,
    /// Making it failed.
    #[error("{0}")]
    Failed(E),
}

/// What all caches of a server are counted by.
#[derive(Clone, Debug)]
pub struct Counts(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cache: &'static str,
    event: &'static str,
}

struct Inner<V: Send + Sync + 'static> {
    config: Config,
    /// What is believed without looking.
    near: Memory<Uuid, Arc<Entry<V>>>,
    /// What is still of use.
    kept: Memory<Uuid, Arc<Entry<V>>>,
    shared: Option<Arc<Shared<V>>>,
    to_bytes: fn(&V) -> Vec<u8>,
    /// What is being made anew. Held for one look.
    refreshing: Mutex<HashSet<Uuid>>,
    /// Of one cache.
    near_hits: Counter,
    shared_hits: Counter,
    stale: Counter,
    made: Counter,
    failed: Counter,
    outdated: Counter,
    without_redis: Counter,
}

/// What a look finds.
enum Found<V> {
    Fresh(Arc<Entry<V>>),
    Stale(Arc<Entry<V>>),
    Nothing,
}

impl Counts {
    /// Once a server.
    pub fn new(metrics: &Metrics) -> Self {
        Self(metrics.register("cache_events", "What became of requests to a cache", Family::default()))
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// `name` is its label in the metrics. `space` begins its keys in Redis: it changes whenever what is kept changes its
    /// meaning or its bytes.
    pub fn new(
        name: &'static str,
        space: &str,
        config: Config,
        codec: Codec<V>,
        redis: Option<Redis>,
        counts: &Counts,
    ) -> Self {
        let counter = |event| counts.0.get_or_create_owned(&Labels { cache: name, event });
        let half = || {
            let weigher = |_: &Uuid, entry: &Arc<Entry<V>>| entry.weight();
            Memory::builder().max_capacity(config.memory_bytes / 2).weigher(weigher)
        };
        let believed = Believed { min: config.near_min, max: config.near_max };
        let inner = Inner {
            near: half().expire_after(believed).build(),
            kept: half().time_to_live(config.hard).build(),
            shared: redis.map(|redis| Arc::new(Shared::new(redis, space, codec.from_bytes, &config))),
            config,
            to_bytes: codec.to_bytes,
            refreshing: Mutex::default(),
            near_hits: counter("near"),
            shared_hits: counter("shared"),
            stale: counter("stale"),
            made: counter("made"),
            failed: counter("failed"),
            outdated: counter("outdated"),
            without_redis: counter("without_redis"),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is kept of `key`, fresh or stale; where nothing is, what `make` makes of it, by the deadline.
    ///
    /// Of all who ask at once, on all nodes, one `make` is run. All who waited for it share its outcome, an error too.
    pub async fn get<E, F, Made>(&self, key: Uuid, deadline: Deadline, make: F) -> Result<Arc<Entry<V>>, Arc<Miss<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce(Making<V>) -> Made + Send + 'static,
        Made: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(entry) = self.inner.near.get(&key).await {
            self.inner.near_hits.inc();
            return Ok(entry);
        }
        // In a task, so that a caller who goes away does not take what the others wait for with him.
        let inner = self.inner.clone();
        let load = async move {
            let near = inner.near.clone();
            near.try_get_with(key, inner.load(key, deadline, make)).await
        };
        match timeout_at(deadline.instant().into(), tokio::spawn(load)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) | Err(_) => Err(Arc::new(Miss::Late)),
        }
    }

    /// What is kept of `key`, stale or not, if it is what is wanted. Nothing is made.
    pub async fn find(&self, key: Uuid, deadline: Deadline, wanted: impl Fn(&V) -> bool) -> Option<Arc<Entry<V>>> {
        for memory in [&self.inner.near, &self.inner.kept] {
            if let Some(entry) = memory.get(&key).await.filter(|entry| !entry.is_gone() && wanted(&entry.value)) {
                return Some(entry);
            }
        }
        let read = self.inner.shared.as_ref()?.read(key, None, deadline).await.ok()??;
        let entry = self.inner.keep(key, Arc::new(read)).await;
        wanted(&entry.value).then_some(entry)
    }
}

impl<V: Send + Sync + 'static> Inner<V> {
    async fn load<E, F, Made>(self: Arc<Self>, key: Uuid, deadline: Deadline, make: F) -> Result<Arc<Entry<V>>, Miss<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce(Making<V>) -> Made + Send + 'static,
        Made: Future<Output = Result<V, E>> + Send + 'static,
    {
        match self.look(key, deadline).await {
            Found::Fresh(entry) => Ok(entry),
            Found::Stale(entry) => {
                self.stale.inc();
                self.refresh(key, entry.clone(), make);
                Ok(entry)
            }
            Found::Nothing => self.make(key, None, deadline, make).await,
        }
    }

    /// In Redis, or where that has nothing newer or is away, in this process.
    async fn look(&self, key: Uuid, deadline: Deadline) -> Found<V> {
        let kept = self.kept.get(&key).await.filter(|entry| !entry.is_gone());
        let version = kept.as_ref().map(|entry| entry.version);
        let Some(shared) = &self.shared else { return Found::by_age(kept) };
        match shared.read(key, version, deadline).await {
            Ok(Some(newer)) => {
                self.shared_hits.inc();
                Found::by_age(Some(self.keep(key, Arc::new(newer)).await))
            }
            Ok(None) => Found::by_age(kept),
            Err(_) => {
                self.without_redis.inc();
                Found::by_age(kept)
            }
        }
    }

    /// Makes what is stale anew, unless that is being done or too much of it is.
    fn refresh<E, F, Made>(self: &Arc<Self>, key: Uuid, stale: Arc<Entry<V>>, make: F)
    where
        E: Send + Sync + 'static,
        F: FnOnce(Making<V>) -> Made + Send + 'static,
        Made: Future<Output = Result<V, E>> + Send + 'static,
    {
        let Some(refreshing) = Refreshing::start(self.clone(), key) else { return };
        tokio::spawn(async move {
            let deadline = Deadline::after(refreshing.inner.config.make);
            // An error is counted; the stale one is still there.
            let _ = refreshing.inner.make(key, Some(stale), deadline, make).await;
        });
    }

    async fn make<E, F, Made>(
        &self,
        key: Uuid,
        stale: Option<Arc<Entry<V>>>,
        deadline: Deadline,
        make: F,
    ) -> Result<Arc<Entry<V>>, Miss<E>>
    where
        F: FnOnce(Making<V>) -> Made,
        Made: Future<Output = Result<V, E>>,
    {
        let deadline = deadline.capped(self.config.make);
        let (version, has_turn) = match self.turn(key, stale.as_ref(), deadline).await? {
            Turn::Made(entry) => return Ok(self.keep(key, Arc::new(entry)).await),
            Turn::Mine(version) => (version, true),
            Turn::Alone => (version_by_clock(stale.as_ref()), false),
        };
        let began = Instant::now();
        let making = make(Making { version, before: stale, deadline });
        let made = timeout_at(deadline.instant().into(), making).await;
        let shared = self.shared.clone().filter(|_| has_turn);
        let value = match made {
            Ok(Ok(value)) => value,
            failed => {
                self.failed.inc();
                if let Some(shared) = shared {
                    tokio::spawn(async move { shared.give_up(key, version).await });
                }
                return Err(failed.ok().and_then(Result::err).map_or(Miss::Late, Miss::Failed));
            }
        };
        self.made.inc();
        let bytes = (self.to_bytes)(&value);
        let life = Life::new(&self.config, began.elapsed(), rand::random());
        let entry = self
            .keep(key, Arc::new(Entry::new(version, value, life, Age::at_present(Duration::ZERO), bytes.len())))
            .await;
        if let Some(shared) = shared {
            let outdated = self.outdated.clone();
            tokio::spawn(async move { outdated.inc_by(shared.write(key, version, life, &bytes).await.into()) });
        }
        Ok(entry)
    }

    /// Whose turn it is to make what is newer than `stale`. Without `stale`, another node's result is waited for.
    async fn turn<E>(&self, key: Uuid, stale: Option<&Arc<Entry<V>>>, deadline: Deadline) -> Result<Turn<V>, Miss<E>> {
        let Some(shared) = &self.shared else { return Ok(Turn::Alone) };
        loop {
            match shared.turn(key, stale.map(|entry| entry.version), deadline).await {
                Ok(Some(turn)) => return Ok(turn),
                Ok(None) if stale.is_none() && deadline.left() > LOOK => sleep(LOOK).await,
                Ok(None) => return Err(Miss::Late),
                Err(_) => return Ok(Turn::Alone),
            }
        }
    }

    /// Keeps it, unless a newer one is there; gives back the one that is.
    async fn keep(&self, key: Uuid, entry: Arc<Entry<V>>) -> Arc<Entry<V>> {
        let newer = |kept: Option<moka::Entry<Uuid, Arc<Entry<V>>>>| {
            let kept = kept.map(moka::Entry::into_value).filter(|kept| kept.version > entry.version && !kept.is_gone());
            std::future::ready(kept.unwrap_or(entry))
        };
        let kept = self.kept.entry(key).and_upsert_with(newer).await.into_value();
        self.near.insert(key, kept.clone()).await;
        kept
    }
}

/// Greater than the one before, and than any of another node that did not happen in the same microsecond.
fn version_by_clock<V>(before: Option<&Arc<Entry<V>>>) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    now.max(before.map_or(0, |entry| entry.version + 1))
}

impl<V> Found<V> {
    fn by_age(entry: Option<Arc<Entry<V>>>) -> Self {
        match entry.filter(|entry| !entry.is_gone()) {
            None => Found::Nothing,
            Some(entry) if entry.is_stale(rand::random()) => Found::Stale(entry),
            Some(entry) => Found::Fresh(entry),
        }
    }
}

/// A place among those that are made anew at once.
struct Refreshing<V: Send + Sync + 'static> {
    inner: Arc<Inner<V>>,
    key: Uuid,
}

impl<V: Send + Sync + 'static> Refreshing<V> {
    fn start(inner: Arc<Inner<V>>, key: Uuid) -> Option<Self> {
        let mut refreshing = inner.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let started = refreshing.len() < inner.config.refreshes && refreshing.insert(key);
        drop(refreshing);
        started.then_some(Self { inner, key })
    }
}

impl<V: Send + Sync + 'static> Drop for Refreshing<V> {
    fn drop(&mut self) {
        self.inner.refreshing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V: Send + Sync + 'static> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
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

impl Default for Config {
    fn default() -> Self {
        Self {
            near_min: Duration::from_secs(2),
            near_max: Duration::from_secs(5),
            soft: Duration::from_secs(60),
            hard: Duration::from_secs(600),
            memory_bytes: 32 << 20,
            make: Duration::from_millis(450),
            turn: Duration::from_millis(600),
            refreshes: 64,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("near_min_ms", in_ms(self.near_min), 0..=3_600_000),
            ("near_max_ms", in_ms(self.near_max), in_ms(self.near_min)..=3_600_000),
            ("soft_ms", in_ms(self.soft), 1..=86_400_000),
            ("hard_ms", in_ms(self.hard), in_ms(self.soft)..=86_400_000),
            ("memory_bytes", self.memory_bytes, 1 << 16..=1 << 40),
            ("make_ms", in_ms(self.make), 1..=60_000),
            ("turn_ms", in_ms(self.turn), in_ms(self.make)..=120_000),
            ("refreshes", self.refreshes as u64, 1..=10_000),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}
