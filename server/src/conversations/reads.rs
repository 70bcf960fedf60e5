//! How far users have read: state, not history. Held in memory for a second, latest wins, then written in batches.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_protocol::{Failure, LogId, Seq, UserId};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::store::{self, Mark};
use crate::deadline::Deadline;
use crate::storage::Pool;
use crate::telemetry::Metrics;

/// Positions are written this often, so receipts are told no oftener.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A batch that takes longer is tried again at the next interval.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// Positions in memory. At half of it they are written at once; beyond it a new one is dropped and counted: the next one
/// of the same reader says the same and more.
const MOST_PENDING: usize = 32 * 1024;
/// Positions in one statement.
const BATCH: usize = 1_000;
/// Conversations with more members have no receipts for all.
pub(super) const RECEIPT_MEMBERS: i64 = 32;

/// A position that moved forward, and is written. None comes of a user's own message: the message says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub log: LogId,
    pub user: UserId,
    pub seq: Seq,
    pub message_no: u64,
    /// For all members: the conversation has at most 32. Otherwise for the user's own sessions alone.
    pub to_all: bool,
}

#[derive(Clone)]
pub(super) struct Reads {
    pending: Arc<Pending>,
    flushes: mpsc::Sender<Flush>,
}

struct Flush {
    deadline: Deadline,
    done: oneshot::Sender<()>,
}

/// Which position it is, and how far it goes.
type Key = (UserId, LogId);

#[derive(Clone, Copy)]
struct Position {
    seq: Seq,
    /// Known where it comes of the user's own message; then it is no receipt.
    message_no: Option<u64>,
}

struct Pending {
    positions: Mutex<HashMap<Key, Position>>,
    half_full: Notify,
    dropped: Counter,
}

impl Reads {
    pub(super) fn start(pool: Pool, metrics: &Metrics, receipts: impl Fn(&[Receipt]) + Send + Sync + 'static) -> Self {
        let help = "Read positions dropped because too many waited to be written";
        let dropped = metrics.register("read_positions_dropped", help, Counter::default());
        let pending = Arc::new(Pending { positions: Mutex::default(), half_full: Notify::new(), dropped });
        let (flushes, asked) = mpsc::channel(1);
        tokio::spawn(Writer { pool, pending: pending.clone(), receipts }.work(asked));
        Self { pending, flushes }
    }

    /// The user has read up to `seq`.
    pub(super) fn mark(&self, user: UserId, log: LogId, seq: Seq) {
        self.pending.put((user, log), Position { seq, message_no: None });
    }

    /// The user has said something himself at `seq`.
    pub(super) fn sent(&self, user: UserId, log: LogId, seq: Seq, message_no: u64) {
        self.pending.put((user, log), Position { seq, message_no: Some(message_no) });
    }

    /// Writes all that is pending, if the database takes it by the deadline.
    pub(super) async fn flush(&self, deadline: Deadline) {
        let (done, finished) = oneshot::channel();
        if self.flushes.send(Flush { deadline, done }).await.is_ok() {
            // The writer answers, or has ended.
            let _ = finished.await;
        }
    }
}

impl Pending {
    fn put(&self, key: Key, position: Position) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = positions.len();
        match positions.entry(key) {
            Entry::Occupied(known) if known.get().seq >= position.seq => {}
            Entry::Occupied(mut known) => *known.get_mut() = position,
            Entry::Vacant(_) if pending >= MOST_PENDING => {
                self.dropped.inc();
            }
            Entry::Vacant(place) => {
                place.insert(position);
                if pending == MOST_PENDING / 2 {
                    self.half_full.notify_one();
                }
            }
        }
    }

    fn take(&self) -> Vec<(Key, Position)> {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *positions).into_iter().collect()
    }
}

/// The one that writes, so that batches never wait for each other's rows.
struct Writer<R> {
    pool: Pool,
    pending: Arc<Pending>,
    receipts: R,
}

impl<R: Fn(&[Receipt])> Writer<R> {
    /// Ends when nobody is left who could mark.
    async fn work(self, mut flushes: mpsc::Receiver<Flush>) {
        let mut ticks = interval(FLUSH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                flush = flushes.recv() => {
                    let Some(Flush { deadline, done }) = flush else { return };
                    self.flush(deadline).await;
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                () = self.pending.half_full.notified() => self.flush(Deadline::after(FLUSH_DEADLINE)).await,
                _ = ticks.tick() => self.flush(Deadline::after(FLUSH_DEADLINE)).await,
            }
        }
    }

    /// What is pending now; what comes meanwhile is for the next time. After a failure the rest waits for it too.
    async fn flush(&self, deadline: Deadline) {
        let taken = self.pending.take();
        let mut batches = taken.chunks(BATCH);
        while let Some(batch) = batches.next() {
            match self.write(batch, deadline).await {
                Ok(receipts) if receipts.is_empty() => {}
                Ok(receipts) => (self.receipts)(&receipts),
                Err(_) => {
                    let rest = batch.iter().chain(batches.flatten());
                    return rest.for_each(|(key, position)| self.pending.put(*key, *position));
                }
            }
        }
    }

    async fn write(&self, taken: &[(Key, Position)], deadline: Deadline) -> Result<Vec<Receipt>, Failure> {
        let marks = taken.iter().map(|((user, log), position)| Mark {
            user: *user,
            log: *log,
            seq: position.seq,
            message_no: position.message_no,
        });
        let connection = self.pool.get(deadline).await?;
        store::write_reads(&connection, &marks.collect::<Vec<_>>(), deadline).await.map_err(store::failed("mark_read"))
    }
}
