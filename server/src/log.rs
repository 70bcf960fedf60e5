//! The log: appending by group commit, reading ranges, and finding what other nodes appended.
//!
//! It may use the pool of `storage`, and passes arrays and outcome codes: every right to a log is decided in the SQL
//! function `append`, nowhere here. What must always hold:
//! - A caller is told `Stored` only after the commit, and exactly once. `outcome_unknown` says that it may be stored;
//!   every other failure promises that it is not.
//! - The commands of one log are stored in the order of the calls.
//! - What was committed goes to the sink before its callers are answered, for each log in seq order and without holes in
//!   one call. A user's log is written by the writers of many conversations: their calls may come out of order.
//! - Nothing waits without a bound: see [`Config`].

mod batch;
mod changes;
mod command;
mod content;
mod metrics;
mod plans;
mod queue;
mod social;
mod store;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_protocol::{Code, Epoch, Failure, LogId, Seq, wire};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use tokio_util::task::TaskTracker;

pub use changes::{Change, Changes};
pub use command::{Action, Command, Done, MEMBERS, Stored};
pub use content::message;
pub use social::{Social, attached};

use crate::config::{Invalid, millis};
use crate::deadline::Deadline;
use crate::storage::{Fault, Pool};
use crate::telemetry::Metrics;
use metrics::LogMetrics;
use queue::Queue;
use writer::Writer;

/// Entries of one aligned page.
pub const PAGE: u64 = 128;
/// Entries that one read returns at the most.
pub const READ_ENTRIES: u64 = 1_024;

/// Bounds of the writers. A command over a bound is refused at once with `overloaded`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Each has one connection and one statement under way. A second one starts only while a whole batch waits, or when the
    /// first takes long.
    pub writers: usize,
    pub batch_commands: usize,
    pub batch_bytes: usize,
    /// Commands that wait, and their bytes.
    pub queue_commands: usize,
    pub queue_bytes: usize,
    /// How long a command may be expected to wait for its turn.
    #[serde(rename = "queue_time_ms", with = "millis")]
    pub queue_time: Duration,
    /// How often the change feed looks.
    #[serde(rename = "change_interval_ms", with = "millis")]
    pub change_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            writers: 4,
            batch_commands: 256,
            batch_bytes: 1024 * 1024,
            queue_commands: 16_384,
            queue_bytes: 16 * 1024 * 1024,
            queue_time: Duration::from_secs(1),
            change_interval: Duration::from_secs(1),
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let time = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("writers", self.writers as u64, 1..=64),
            ("batch_commands", self.batch_commands as u64, 1..=10_000),
            ("batch_bytes", self.batch_bytes as u64, 1_024..=64 << 20),
            ("queue_commands", self.queue_commands as u64, 1..=1_000_000),
            ("queue_bytes", self.queue_bytes as u64, 1_024..=1 << 30),
            ("queue_time_ms", time(self.queue_time), 1..=60_000),
            ("change_interval_ms", time(self.change_interval), 10..=60_000),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}

/// Every log of the database. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

/// Entries of one log as they are now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// Where the log ended when they were read.
    pub as_of_seq: Seq,
    /// Entries before this one are no longer kept.
    pub first_seq: Seq,
    /// In seq order.
    pub entries: Vec<wire::Entry>,
}

/// What one batch stored in one log: dense, in seq order.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub log: LogId,
    pub entries: Vec<wire::Entry>,
}

struct Inner {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    writers: TaskTracker,
    config: Config,
}

/// Takes what one batch stored, and a call that answers whoever waits for it.
type Sink = dyn Fn(&[Committed], &mut dyn FnMut()) + Send + Sync;

/// What the writers share.
struct Shared {
    pool: Pool,
    epoch: AtomicU64,
    sink: Box<Sink>,
    metrics: LogMetrics,
}

impl Log {
    /// Starts the writers on the current runtime. They end when the last clone is dropped, or by [`Log::close`].
    ///
    /// `sink` gets everything that this node commits, a batch at a time. It is called by the writers and must not wait. Its
    /// second argument answers the callers, who are answered afterwards if it does not call it: so what it hands on and the
    /// answers can go together.
    pub fn start(
        pool: Pool,
        config: Config,
        metrics: &Metrics,
        sink: impl Fn(&[Committed], &mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            pool,
            epoch: AtomicU64::new(0),
            sink: Box::new(sink),
            metrics: LogMetrics::new(metrics),
        });
        let writers = TaskTracker::new();
        let queue = Arc::new(Queue::new(config.clone()));
        for _ in 0..config.writers {
            writers.spawn(Writer::new(queue.clone(), shared.clone()).run());
        }
        writers.close();
        Self { inner: Arc::new(Inner { queue, shared, writers, config }) }
    }

    /// Stores a command, after all that were given for the same log before. Never waits. `done` is called exactly once:
    /// at once if the command is refused for lack of room, else by a writer, at the latest when the deadline has passed.
    pub fn append(&self, command: Command, deadline: Deadline, done: Done) {
        match command.check() {
            Ok(()) => self.inner.queue.push(command, deadline, done),
            Err(failure) => done(Err(failure)),
        }
    }

    /// The entries in (after, to], at most [`READ_ENTRIES`] of them, rendered as they are now. `not_found` if there is no
    /// such log. Nothing is checked about who asks.
    pub async fn read(&self, log: LogId, after: Seq, to: Seq, deadline: Deadline) -> Result<Range, Failure> {
        let (after, to) = (after.min(i64::MAX as u64) as i64, to.min(i64::MAX as u64) as i64);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&log.0, Type::UUID), (&after, Type::INT8), (&to, Type::INT8)];
        self.range(store::RANGE, &parameters, deadline).await
    }

    /// The entries of several aligned pages (⌊seq/128⌋), in one statement.
    pub async fn read_pages(&self, log: LogId, pages: &[u64], deadline: Deadline) -> Result<Range, Failure> {
        if pages.len() as u64 * PAGE > READ_ENTRIES {
            return Err(Failure::too_large("pages", READ_ENTRIES / PAGE));
        }
        let pages: Vec<i64> = pages.iter().map(|page| (*page).min(i64::MAX as u64 / PAGE - 1) as i64).collect();
        self.range(store::PAGES, &[(&log.0, Type::UUID), (&pages, Type::INT8_ARRAY)], deadline).await
    }

    /// What any node commits from the first look on.
    pub fn changes(&self) -> Changes {
        Changes::new(self.clone())
    }

    /// The epoch that this node believes in: appends are refused with `epoch_changed` once the database has another one.
    /// 0 until the first append or [`Log::current_epoch`].
    pub fn epoch(&self) -> Epoch {
        self.inner.shared.epoch()
    }

    /// Believes in a newer epoch: for when nothing that was read under the old one is kept any more.
    pub fn adopt_epoch(&self, epoch: Epoch) {
        self.inner.shared.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The epoch in force in the database. The first one that this node hears of is the one that it believes in.
    pub async fn current_epoch(&self, deadline: Deadline) -> Result<Epoch, Failure> {
        let connection = self.pool().get(deadline).await?;
        let epoch = store::current_epoch(&connection, deadline).await.map_err(|fault| failed_read(&fault))?;
        self.inner.shared.learn_epoch(epoch);
        Ok(epoch)
    }

    /// From where on a cursor of an older epoch can't be trusted in this log; `None` if nothing happened since.
    pub async fn first_unsure_seq(
        &self,
        log: LogId,
        cursor_epoch: Epoch,
        deadline: Deadline,
    ) -> Result<Option<Seq>, Failure> {
        let connection = self.pool().get(deadline).await?;
        store::first_unsure_seq(&connection, log, cursor_epoch, deadline).await.map_err(|fault| failed_read(&fault))
    }

    /// Takes no more commands (`unavailable`) and waits until those that wait have their outcome, no longer than the
    /// deadline. Whether all have.
    pub async fn close(&self, deadline: Deadline) -> bool {
        self.inner.queue.close();
        tokio::time::timeout(deadline.left(), self.inner.writers.wait()).await.is_ok()
    }

    async fn range(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        deadline: Deadline,
    ) -> Result<Range, Failure> {
        let connection = self.pool().get(deadline).await?;
        let found =
            store::entries(&connection, sql, parameters, deadline).await.map_err(|fault| failed_read(&fault))?;
        let (as_of_seq, first_seq, entries) = found.ok_or(Code::NotFound)?;
        Ok(Range { as_of_seq, first_seq, entries })
    }

    fn pool(&self) -> &Pool {
        &self.inner.shared.pool
    }

    fn config(&self) -> &Config {
        &self.inner.config
    }
}

/// Begins the next epoch, after a restore; run by an operator, while nodes may be serving. Takes as long as it takes.
pub async fn bump_epoch(client: &Client) -> Result<Epoch, tokio_postgres::Error> {
    client.batch_execute("SET statement_timeout = 0").await?;
    let row = client.query_one("SELECT bump_epoch()", &[]).await?;
    Ok(row.try_get::<_, i64>(0)? as Epoch)
}

fn failed_read(fault: &Fault) -> Failure {
    tracing::warn!(%fault, "the log can't be read");
    fault.read()
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Shared {
    fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Acquire)
    }

    fn learn_epoch(&self, epoch: Epoch) {
        let _ = self.epoch.compare_exchange(0, epoch, Ordering::AcqRel, Ordering::Acquire);
    }
}
