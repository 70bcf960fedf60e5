//! What was read of the database, kept by key for a moment; what is not kept is read for all who wait for it, in one statement.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_protocol::Failure;
use moka::sync::Cache;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::batcher::{Batcher, Job, latest};
use crate::deadline::Deadline;
use crate::storage::{Connection, Pool};
use crate::telemetry::Metrics;

/// How long what is no longer fresh stands in where the database does not answer.
const STANDS_IN: Duration = Duration::from_secs(60);
/// One key of the 1,024 that are read by one statement.
const KEY_WEIGHT: usize = 16;

/// Values of one kind. Cheap to clone; all clones are one.
pub(super) struct Kept<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    cache: Cache<K, Held<V>>,
    fresh: Duration,
    reads: Batcher<Vec<K>, HashMap<K, V>>,
    events: Events,
}

/// A value, and when the read of it began.
#[derive(Clone)]
struct Held<V> {
    read: Instant,
    value: V,
}

/// What is known of the keys that were asked for.
pub(super) struct Known<K, V> {
    values: HashMap<K, V>,
    unread: Option<(HashSet<K>, Failure)>,
}

/// What all of these are counted by.
pub(super) struct Counts(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    event: &'static str,
}

/// Of one kind.
pub(super) struct Events {
    found: Counter,
    read: Counter,
    stood_in: Counter,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "What was asked of posts: found in memory, read of the database, or old where that did not answer";
        Self(metrics.register("posts_near", help, Family::default()))
    }

    pub(super) fn of(&self, kind: &'static str) -> Events {
        let event = |event| self.0.get_or_create_owned(&Labels { kind, event });
        Events { found: event("found"), read: event("read"), stood_in: event("stood_in") }
    }
}

/// Gives what there is; a key that it leaves out is nothing, and that is not kept.
pub(super) type Read<K, V> = for<'a> fn(&'a Connection, &'a [K], Deadline) -> Reading<'a, K, V>;
pub(super) type Reading<'a, K, V> = Pin<Box<dyn Future<Output = Result<Vec<(K, V)>, Failure>> + Send + 'a>>;

impl<K, V> Kept<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `bytes` is what values may hold in all, `weight` what one holds.
    pub(super) fn start(
        pool: &Pool,
        fresh: Duration,
        (bytes, weight): (u64, fn(&V) -> u32),
        events: Events,
        read: Read<K, V>,
    ) -> Self {
        let weigher = move |_: &K, held: &Held<V>| weight(&held.value);
        let cache = Cache::builder().max_capacity(bytes).weigher(weigher).time_to_live(STANDS_IN).build();
        let (pool, kept) = (pool.clone(), cache.clone());
        let run = move |jobs| run(pool.clone(), kept.clone(), read, jobs);
        let reads = Batcher::at_once(|keys: &Vec<K>| keys.len() * KEY_WEIGHT, run);
        Self { inner: Arc::new(Inner { cache, fresh, reads, events }) }
    }

    /// What is known of these keys by the deadline. `unchanged` says of a value whether it is still so, as far as is known,
    /// if the read of it began then.
    pub(super) async fn get(
        &self,
        keys: &[K],
        unchanged: impl Fn(&K, &V, Instant) -> bool,
        deadline: Deadline,
    ) -> Known<K, V> {
        let Inner { cache, fresh, reads, events } = &*self.inner;
        let now = Instant::now();
        let mut known = Known { values: HashMap::with_capacity(keys.len()), unread: None };
        let (mut wanted, mut old) = (Vec::new(), Vec::new());
        for key in keys {
            match cache.get(key).filter(|held| unchanged(key, &held.value, held.read)) {
                Some(held) if now.saturating_duration_since(held.read) < *fresh => {
                    known.values.insert(*key, held.value);
                }
                other => {
                    wanted.push(*key);
                    old.extend(other.map(|held| (*key, held.value)));
                }
            }
        }
        events.found.inc_by(known.values.len() as u64);
        if wanted.is_empty() {
            return known;
        }
        events.read.inc_by(wanted.len() as u64);
        match reads.ask(wanted.clone(), deadline).await {
            Ok(read) => known.values.extend(read),
            Err(failure) => {
                events.stood_in.inc_by(old.len() as u64);
                known.values.extend(old);
                let unread = wanted.into_iter().filter(|key| !known.values.contains_key(key)).collect();
                known.unread = Some((unread, failure));
            }
        }
        known
    }
}

impl<K: Eq + Hash, V> Known<K, V> {
    /// What there is; an error where that is not known.
    pub(super) fn of(&self, key: &K) -> Result<Option<&V>, &Failure> {
        match &self.unread {
            Some((unread, failure)) if unread.contains(key) => Err(failure),
            _ => Ok(self.values.get(key)),
        }
    }
}

/// One statement for all jobs.
async fn run<K, V>(pool: Pool, cache: Cache<K, Held<V>>, read: Read<K, V>, jobs: Vec<Job<Vec<K>, HashMap<K, V>>>)
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let Some(deadline) = latest(&jobs) else { return };
    let asked: HashSet<K> = jobs.iter().flat_map(|job| job.asked.iter().copied()).collect();
    let asked: Vec<K> = asked.into_iter().collect();
    let outcome = async {
        let connection = pool.get(deadline).await?;
        let began = Instant::now();
        Ok((began, read(&connection, &asked, deadline).await?))
    }
    .await;
    match outcome {
        Ok((began, values)) => {
            let values: HashMap<K, V> = values.into_iter().collect();
            for (key, value) in &values {
                cache.insert(*key, Held { read: began, value: value.clone() });
            }
            for job in jobs {
                let of_job = job.asked.iter().filter_map(|key| Some((*key, values.get(key)?.clone()))).collect();
                job.answer(Ok(of_job));
            }
        }
        Err(failure) => {
            let failure: Failure = failure;
            jobs.into_iter().for_each(|job| job.answer(Err(failure.clone())));
        }
    }
}

impl<K, V> Clone for Kept<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}
