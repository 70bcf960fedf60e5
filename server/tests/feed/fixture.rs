//! Nodes with a cache each, and a maker that counts what it makes and waits where the test wants it to.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowline::deadline::Deadline;
use bowline::feed::cache::{Cache, Codec, Config, Counts, Entry, Making, Miss};
use bowline::storage::redis::{self, Redis};
use bowline::telemetry::Metrics;
use bowline_testkit::Redis as Server;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) const LONG: Duration = Duration::from_secs(3_600);
/// Greater numbers are made without all that they could be made of.
pub(crate) const PARTLY: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// Nothing ends by itself while a test runs.
pub(crate) fn patient() -> Config {
    Config { near_min: LONG, near_max: LONG, soft: LONG, hard: 2 * LONG, make: LONG, turn: LONG, ..Config::default() }
}

/// Every request looks.
pub(crate) fn looking() -> Config {
    Config { near_min: Duration::ZERO, near_max: Duration::ZERO, ..patient() }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

pub(crate) fn key(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) cache: Cache<u64>,
    pub(crate) redis: Option<Redis>,
    metrics: Metrics,
}

impl Node {
    /// On a machine that is busy Redis is slow: here a command has as long as it takes.
    pub(crate) async fn new(config: Config, server: Option<&Server>) -> Self {
        Self::with_timeout(config, server, PATIENCE).await
    }

    /// Gives a command up soon, as a node does.
    pub(crate) async fn hasty(config: Config, server: &Server) -> Self {
        Self::with_timeout(config, Some(server), Duration::from_millis(200)).await
    }

    async fn with_timeout(config: Config, server: Option<&Server>, command_timeout: Duration) -> Self {
        let metrics = Metrics::default();
        let url = server.map(|server| SecretString::from(server.url()));
        let redis =
            Redis::open(&redis::Config { url, command_timeout, ..redis::Config::default() }, &metrics).await.unwrap();
        let codec = Codec {
            is_whole: |value: &u64| *value <= PARTLY,
            to_bytes: |value: &u64| value.to_be_bytes().to_vec(),
            from_bytes: |bytes| bytes.try_into().ok().map(u64::from_be_bytes),
        };
        let cache = Cache::new("test", "test", config, codec, redis.clone(), &Counts::new(&metrics));
        if let Some(redis) = &redis {
            let up = async {
                while !redis.is_up() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(PATIENCE, up).await.expect("Redis answers");
        }
        Self { cache, redis, metrics }
    }

    pub(crate) async fn get(&self, user: usize, maker: &Arc<Maker>) -> Result<u64, Arc<Miss<Failed>>> {
        self.cache.get(key(user), soon(), maker.work()).await.map(|entry| entry.value)
    }

    pub(crate) async fn find(&self, user: usize) -> Option<Arc<Entry<u64>>> {
        self.cache.find(key(user), soon(), |_| true).await
    }

    pub(crate) fn events(&self, event: &str) -> u64 {
        let line = format!("bowline_cache_events_total{{cache=\"test\",event=\"{event}\"}} ");
        let text = self.metrics.text();
        text.lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse().unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it can't be made")]
pub(crate) struct Failed;

pub(crate) type Work = Pin<Box<dyn Future<Output = Result<u64, Failed>> + Send>>;

/// Makes the numbers 1, 2, 3 … when [`Maker::allow`] lets it.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) begun: AtomicUsize,
    pub(crate) versions: std::sync::Mutex<Vec<(u64, Option<u64>)>>,
    allowed: Semaphore,
    fails: bool,
}

impl Maker {
    pub(crate) fn new(allowed: usize) -> Arc<Self> {
        Self::with(allowed, false)
    }

    pub(crate) fn failing() -> Arc<Self> {
        Self::with(1_000, true)
    }

    fn with(allowed: usize, fails: bool) -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicUsize::new(0),
            versions: std::sync::Mutex::default(),
            allowed: Semaphore::new(allowed),
            fails,
        })
    }

    pub(crate) fn allow(&self, more: usize) {
        self.allowed.add_permits(more);
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// The versions made, each with that of what was there before.
    pub(crate) fn versions(&self) -> Vec<(u64, Option<u64>)> {
        self.versions.lock().unwrap().clone()
    }

    pub(crate) fn work(self: &Arc<Self>) -> impl FnOnce(Making<u64>) -> Work + Send + 'static {
        let maker = self.clone();
        move |making| {
            Box::pin(async move {
                let number = maker.begun.fetch_add(1, Ordering::Relaxed) + 1;
                maker.allowed.acquire().await.unwrap().forget();
                maker.versions.lock().unwrap().push((making.version, making.before.map(|entry| entry.version)));
                if maker.fails { Err(Failed) } else { Ok(number as u64) }
            })
        }
    }
}

/// Waits for a condition; the bound is for a test that fails.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
