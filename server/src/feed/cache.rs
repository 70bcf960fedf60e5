//! What is costly to make, kept for a while: in this process, and in Redis for all nodes.
//!
//! - What a node has, it believes for a few seconds; then it looks whether Redis has something newer.
//! - After a minute or so (`soft`) it is stale: it is still given out while ONE caller of one node makes it anew. Only after
//!   `hard` is it gone, and callers wait for it to be made, by one of them in all nodes together.
//! - Whatever is made has a version. An older one never replaces a newer one, in Redis or in a node, also when the one who
//!   made it was stopped for longer than his turn lasts.
//! - What could not be made whole is made anew as soon as a node looks.
//! - What was made before somebody said that it is outdated is given out only where nothing newer can be had.
//! - With Redis away or none at all, the same holds within each node.
//!
//! A caller who goes away changes nothing: what is being made is made, and kept.

mod config;
mod counts;
mod entry;
mod memory;
mod shared;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::marks::Marks;
use crate::storage::redis::Redis;
pub use config::Config;
pub use counts::Counts;
use counts::Events;
pub use entry::Entry;
use entry::{Age, Life};
use memory::Memory;
use shared::{Shared, Turn};

/// How often one who waits for another node's result looks.
const LOOK: Duration = Duration::from_millis(20);

/// Keeps values of one kind by id. Cheap to clone; all clones are one cache.
pub struct Cache<V: Send + Sync + 'static> {
    inner: Arc<Inner<V>>,
}

/// What the cache is told of its values.
pub struct Codec<V> {
    /// Whether it is all that it could be: one that is not is stale as soon as a node looks for something newer.
    pub is_whole: fn(&V) -> bool,
    /// How it crosses Redis.
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

struct Inner<V: Send + Sync + 'static> {
    config: Config,
    memory: Memory<V>,
    shared: Option<Arc<Shared<V>>>,
    codec: Codec<V>,
    /// What is being made anew. Held for one look.
    refreshing: Mutex<HashSet<Uuid>>,
    /// What was made before it was marked is outdated.
    marks: Marks,
    events: Events,
}

type Make<V, E> = Box<dyn FnOnce(Making<V>) -> Pin<Box<dyn Future<Output = Result<V, E>> + Send>> + Send>;

/// What a look finds.
enum Found<V> {
    Fresh(Arc<Entry<V>>),
    Stale(Arc<Entry<V>>),
    /// Made before what it is made of changed; of use only where nothing newer can be had.
    Outdated(Arc<Entry<V>>),
    Nothing,
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
        let inner = Inner {
            memory: Memory::new(&config),
            shared: redis.map(|redis| Arc::new(Shared::new(redis, space, codec.from_bytes, &config))),
            config,
            codec,
            refreshing: Mutex::default(),
            marks: Marks::default(),
            events: counts.of(name),
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
        if let Some(entry) = self.inner.memory.near(key).await {
            if !self.inner.is_outdated(key, &entry) {
                self.inner.events.near.inc();
                return Ok(entry);
            }
            self.inner.memory.look_again(key).await;
        }
        // In a task, so that a caller who goes away does not take what the others wait for with him. It ends by the deadline.
        let make: Make<V, E> = Box::new(|making| Box::pin(make(making)));
        let loading = tokio::spawn(self.inner.clone().load(key, deadline, make));
        match timeout_at(deadline.instant().into(), loading).await {
            Ok(Ok(loaded)) => loaded,
            // Whoever panicked has said so.
            Ok(Err(_)) | Err(_) => Err(Arc::new(Miss::Late)),
        }
    }

    /// What is made of `key` changed: the next caller of this node waits for a new one, where it can be had. Never waits.
    pub fn outdate(&self, key: Uuid) {
        self.inner.marks.mark(key);
    }

    /// What this node keeps of `key`, stale or not.
    pub async fn kept(&self, key: Uuid) -> Option<Arc<Entry<V>>> {
        self.inner.memory.kept(key).await
    }

    /// What is kept of `key`, stale or not, if it is what is wanted. Nothing is made.
    pub async fn find(&self, key: Uuid, deadline: Deadline, wanted: impl Fn(&V) -> bool) -> Option<Arc<Entry<V>>> {
        let memory = &self.inner.memory;
        for entry in [memory.near(key).await, memory.kept(key).await].into_iter().flatten() {
            if wanted(&entry.value) {
                return Some(entry);
            }
        }
        let read = self.inner.shared.as_ref()?.read(key, None, deadline).await.ok()??;
        let entry = memory.keep(key, Arc::new(read)).await;
        wanted(&entry.value).then_some(entry)
    }
}

impl<V: Send + Sync + 'static> Inner<V> {
    async fn load<E>(
        self: Arc<Self>,
        key: Uuid,
        deadline: Deadline,
        make: Make<V, E>,
    ) -> Result<Arc<Entry<V>>, Arc<Miss<E>>>
    where
        E: Send + Sync + 'static,
    {
        let mut stale = None;
        let load = async {
            match self.look(key, deadline).await {
                Found::Fresh(entry) => Ok(entry),
                Found::Stale(entry) => {
                    self.events.stale.inc();
                    stale = Some((entry.clone(), make));
                    Ok(entry)
                }
                Found::Outdated(entry) => {
                    let made = self.make(key, Some(entry.clone()), deadline, make).await;
                    made.or_else(|_: Miss<E>| Ok(entry))
                }
                Found::Nothing => self.make(key, None, deadline, make).await,
            }
        };
        let loaded = self.memory.near_or(key, load).await;
        // Once the stale one is near, so that it does not come after what is made of it.
        if let Some((stale, make)) = stale {
            self.refresh(key, stale, make);
        }
        loaded
    }

    /// In Redis, or where that has nothing newer or is away, in this process.
    async fn look(&self, key: Uuid, deadline: Deadline) -> Found<V> {
        let kept = self.memory.kept(key).await;
        let version = kept.as_ref().map(|entry| entry.version);
        let Some(shared) = &self.shared else { return self.found(key, kept) };
        match shared.read(key, version, deadline).await {
            Ok(Some(newer)) => {
                self.events.shared.inc();
                self.found(key, Some(self.memory.keep(key, Arc::new(newer)).await))
            }
            Ok(None) => self.found(key, kept),
            Err(_) => {
                self.events.without_redis.inc();
                self.found(key, kept)
            }
        }
    }

    fn found(&self, key: Uuid, entry: Option<Arc<Entry<V>>>) -> Found<V> {
        match entry.filter(|entry| !entry.is_gone()) {
            None => Found::Nothing,
            Some(entry) if self.is_outdated(key, &entry) => Found::Outdated(entry),
            Some(entry) if entry.is_stale(rand::random()) => Found::Stale(entry),
            Some(entry) => Found::Fresh(entry),
        }
    }

    fn is_outdated(&self, key: Uuid, entry: &Entry<V>) -> bool {
        !self.marks.unchanged([key], entry.began())
    }

    /// Makes what is stale anew, unless that is being done or too much of it is.
    fn refresh<E: Send + Sync + 'static>(self: &Arc<Self>, key: Uuid, stale: Arc<Entry<V>>, make: Make<V, E>) {
        let Some(refreshing) = Refreshing::start(self.clone(), key) else { return };
        tokio::spawn(async move {
            let deadline = Deadline::after(refreshing.inner.config.make);
            // An error is counted; the stale one is still there.
            let _ = refreshing.inner.make(key, Some(stale), deadline, make).await;
        });
    }

    async fn make<E>(
        &self,
        key: Uuid,
        stale: Option<Arc<Entry<V>>>,
        deadline: Deadline,
        make: Make<V, E>,
    ) -> Result<Arc<Entry<V>>, Miss<E>> {
        let deadline = deadline.capped(self.config.make);
        let (version, turn) = match self.turn(key, stale.as_ref(), deadline).await? {
            Turn::Made(entry) => return Ok(self.memory.keep(key, Arc::new(entry)).await),
            Turn::Mine(version) => (version, self.shared.clone()),
            Turn::Alone => (version_by_clock(stale.as_ref()), None),
        };
        let began = Instant::now();
        let making = make(Making { version, before: stale, deadline });
        let value = match timeout_at(deadline.instant().into(), making).await {
            Ok(Ok(value)) => value,
            failed => {
                self.events.failed.inc();
                if let Some(turn) = turn {
                    tokio::spawn(async move { turn.give_up(key, version).await });
                }
                return Err(failed.ok().and_then(Result::err).map_or(Miss::Late, Miss::Failed));
            }
        };
        self.events.made.inc();
        let bytes = (self.codec.to_bytes)(&value);
        let mut life = Life::new(&self.config, began.elapsed(), rand::random());
        if !(self.codec.is_whole)(&value) {
            life.soft = Duration::ZERO;
        }
        let entry = Entry::new(version, value, life, Age::at_present(began.elapsed()), bytes.len());
        let newest = self.memory.keep(key, Arc::new(entry)).await;
        if let Some(turn) = turn {
            let outdated = self.events.outdated.clone();
            tokio::spawn(async move { outdated.inc_by(turn.write(key, version, life, &bytes).await.into()) });
        }
        Ok(newest)
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
}

/// Greater than the one before, and than any of another node that did not happen in the same microsecond.
fn version_by_clock<V>(before: Option<&Arc<Entry<V>>>) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    now.max(before.map_or(0, |entry| entry.version + 1))
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
        // Made only where it holds a place, since its end gives that place up.
        started.then(|| Self { inner, key })
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
