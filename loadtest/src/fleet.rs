//! Many sockets that cost little on this side, and the exact account of what each of them was delivered.
//!
//! A [`Fleet`] has workers, each an [`engine`] that owns its share of the sockets: [`link`] is a connection, [`session`] what
//! is said on it, [`frame`] reads deliveries without a copy, [`places`] checks them, [`publish`] sends by a schedule. Workers
//! are threads or processes, told and heard in the same way ([`order`], [`worker`]); this page adds up what they say.
//!
//! Must always hold: a delivery is due for each acked message and each reader of its target, and one that is lost, repeated,
//! reordered or altered is counted as that, once. Times count from when a message was meant to go.

mod clock;
mod engine;
pub(crate) mod failures;
pub(crate) mod founding;
mod frame;
pub(crate) mod framing;
mod link;
pub(crate) mod machine;
pub(crate) mod options;
pub(crate) mod order;
pub(crate) mod places;
mod publish;
pub(crate) mod seats;
mod session;
pub(crate) mod shared;
pub(crate) mod stamp;
pub(crate) mod tally;
pub(crate) mod worker;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bowline_client::protocol::LogId;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

pub(crate) use clock::now_ns;
use failures::Failures;
use order::{Order, Plan, Published, Report, Stream};
use tally::{Counts, Kind, Times};
use worker::Worker;

use crate::times::Percentiles;

/// What all workers together have said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) counts: Counts,
    pub(crate) present: u32,
    pub(crate) behind: u64,
    pub(crate) whole: u32,
    pub(crate) whole_at_ns: u64,
    /// What the processes that hold readers have grown by since before they had any.
    pub(crate) grown_bytes: u64,
    /// Attempts to connect that did not succeed.
    pub(crate) failures: Failures,
    pub(crate) complaints: Vec<String>,
}

/// Its workers end with this value.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    moved: watch::Receiver<u64>,
    readers: Vec<mpsc::Sender<Order>>,
    publisher: mpsc::Sender<Order>,
    /// Orders given to each worker, the publisher's first.
    given: Vec<u64>,
    plan: Plan,
    /// Of each target, what publishing had come to when it was last asked.
    published: Vec<Published>,
}

struct Shared(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By worker, the publisher's first.
    last: Vec<Report>,
    ended: Vec<bool>,
    times: Times,
    /// Since it was last taken, and since it was last drawn.
    lately: Times,
    drawn: Times,
}

/// How long an order may take to be carried out.
const OBEDIENCE: Duration = Duration::from_secs(30);
/// When nothing more arrives for this long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(15);

impl Fleet {
    /// Starts the workers: with `processes` 0 as many as descriptors ask for, and none but this process if it has room.
    /// Nothing is connected yet.
    pub(crate) fn start(plan: Plan, processes: u32) -> anyhow::Result<Self> {
        let room = machine::room_for_sockets()?;
        let all = plan.seats.readers();
        let processes = match processes {
            0 if all + plan.publishers <= room => 0,
            0 => all.div_ceil(room),
            asked => asked,
        };
        let shares = processes.max(1);
        anyhow::ensure!(all.div_ceil(shares) <= room, "{all} sockets in {shares} processes of {room} descriptors each");
        let reading = |n: u32| {
            let (from, to) = (share(all, shares, n), share(all, shares, n + 1));
            Plan {
                first: from,
                count: to - from,
                publishers: 0,
                connect_rate: plan.connect_rate / f64::from(shares),
                handshakes: plan.handshakes.div_ceil(shares),
                ..plan.clone()
            }
        };
        let mut workers = vec![Worker::here(Plan { count: 0, ..plan.clone() })?];
        for n in 0..shares {
            workers.push(if processes == 0 { Worker::here(reading(n)) } else { Worker::apart(reading(n)) }?);
        }
        let inner = Inner {
            last: vec![Report::default(); workers.len()],
            ended: vec![false; workers.len()],
            ..Inner::default()
        };
        let shared = Arc::new(Shared(Mutex::new(inner)));
        let (moves, moved) = watch::channel(0);
        let moves = Arc::new(moves);
        let mut orders = Vec::new();
        for (n, worker) in workers.into_iter().enumerate() {
            orders.push(worker.orders);
            tokio::spawn(listen(n, (worker.answers, worker.child), Arc::clone(&shared), Arc::clone(&moves)));
        }
        let given = vec![0; orders.len()];
        let publisher = orders.remove(0);
        Ok(Self { shared, moved, readers: orders, publisher, given, plan, published: Vec::new() })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn state(&self) -> State {
        self.shared.state()
    }

    /// Something to look at the state with, from elsewhere.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }

    /// All times so far.
    pub(crate) fn times(&self) -> Times {
        self.shared.lock().times.clone()
    }

    /// The conversations, by number. Before anybody connects.
    pub(crate) async fn follow(&mut self, logs: Vec<LogId>) -> anyhow::Result<()> {
        self.everybody(Order::Logs(logs.into_iter().map(|log| log.0).collect())).await
    }

    /// Connects all publishers.
    pub(crate) async fn connect_publishers(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.publishers(Order::Connect).await?;
        let all = self.plan.publishers;
        self.until(patience, "connecting the publishers", |inner| inner.last[0].present >= all).await
    }

    /// Connects all readers who are not connected; how long it took until all were there.
    pub(crate) async fn connect(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let (started, all) = (Instant::now(), self.plan.seats.readers());
        self.everyone_reading(Order::Connect).await?;
        let connected = |inner: &Inner| inner.last[1..].iter().map(|report| report.present).sum::<u32>() >= all;
        self.until(patience, "connecting", connected).await?;
        Ok(started.elapsed())
    }

    pub(crate) async fn publish(&mut self, streams: Vec<Stream>) -> anyhow::Result<()> {
        self.publishers(Order::Publish(streams)).await
    }

    /// Waits until everything that was to be published has its answer.
    pub(crate) async fn published(&mut self, patience: Duration) -> anyhow::Result<()> {
        let orders = self.given[0];
        let done = |inner: &Inner| inner.last[0].orders >= orders && inner.last[0].published.is_some();
        let waited = self.until(patience, "publishing", done).await;
        self.published = self.shared.lock().last[0].published.clone().unwrap_or_default();
        waited
    }

    pub(crate) async fn stop_reading(&mut self, one_of: u32) -> anyhow::Result<()> {
        self.everyone_reading(Order::StopReading { one_of }).await
    }

    pub(crate) async fn read_on(&mut self) -> anyhow::Result<()> {
        self.everyone_reading(Order::ReadOn).await
    }

    pub(crate) async fn cut(&mut self) -> anyhow::Result<()> {
        self.everyone_reading(Order::Cut).await
    }

    /// From here on readers are held against what was published: see [`State::behind`].
    pub(crate) async fn expect(&mut self) -> anyhow::Result<()> {
        let mut expected = vec![0; self.plan.seats.all_targets() as usize];
        for published in &self.published {
            expected[published.target as usize] = if self.plan.topics { published.acked } else { published.seq };
        }
        self.everyone_reading(Order::Expect(expected)).await
    }

    /// Waits until no reader is behind, or nothing arrives any more. Whether all have everything.
    pub(crate) async fn settle(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let (mut seen, mut quiet_since, give_up) = (u64::MAX, Instant::now(), Instant::now() + patience);
        loop {
            let state = self.state();
            if state.behind == 0 {
                return Ok(true);
            }
            if state.behind != seen {
                (seen, quiet_since) = (state.behind, Instant::now());
            }
            if quiet_since.elapsed() > QUIET || Instant::now() > give_up {
                return Ok(false);
            }
            self.check_alive()?;
            // Only a bound: whether anything has moved is looked at above.
            let _ = timeout(Duration::from_millis(200), self.moved.changed()).await;
        }
    }

    /// Deliveries that what was acked comes to.
    pub(crate) fn due(&self) -> u64 {
        let members = self.plan.seats.members();
        self.published.iter().map(|one| one.acked * members[one.target as usize].len() as u64).sum()
    }

    /// Has every worker say what it has counted until now; the times since this was last called.
    pub(crate) async fn lately(&mut self) -> anyhow::Result<Times> {
        self.everybody(Order::Report).await?;
        Ok(std::mem::take(&mut self.shared.lock().lately))
    }

    async fn everybody(&mut self, order: Order) -> anyhow::Result<()> {
        self.publishers(order.clone()).await?;
        self.everyone_reading(order).await
    }

    async fn publishers(&mut self, order: Order) -> anyhow::Result<()> {
        self.publisher.send(order).await.context("the publishers' worker is gone")?;
        self.given[0] += 1;
        self.obeyed().await
    }

    async fn everyone_reading(&mut self, order: Order) -> anyhow::Result<()> {
        for (n, reader) in self.readers.iter().enumerate() {
            reader.send(order.clone()).await.context("a worker is gone")?;
            self.given[n + 1] += 1;
        }
        self.obeyed().await
    }

    async fn obeyed(&mut self) -> anyhow::Result<()> {
        let given = self.given.clone();
        let obeyed = |inner: &Inner| inner.last.iter().zip(&given).all(|(report, given)| report.orders >= *given);
        self.until(OBEDIENCE, "waiting for the workers", obeyed).await
    }

    async fn until(&mut self, patience: Duration, what: &str, done: impl Fn(&Inner) -> bool) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                if done(&self.shared.lock()) {
                    return Ok(());
                }
                self.check_alive()?;
                self.moved.changed().await.context("the workers are gone")?;
            }
        };
        match timeout(patience, waiting).await {
            Ok(done) => done,
            Err(_) => bail!("{what}: not within {patience:?}{}", self.trouble()),
        }
    }

    /// What is known of why something is not done: who is not there, and what went wrong.
    fn trouble(&self) -> String {
        let (state, all) = (self.state(), self.plan.seats.readers());
        let mut told = String::new();
        if state.failures.total() > 0 {
            let absent = all.saturating_sub(state.present);
            let _ = write!(told, ": {absent} of {all} sockets are not there; attempts that failed: {}", state.failures);
        }
        state.complaints.iter().for_each(|complaint| _ = write!(told, "; {complaint}"));
        told
    }

    fn check_alive(&self) -> anyhow::Result<()> {
        let inner = self.shared.lock();
        match inner.last.iter().find_map(|report| report.failed.clone()) {
            Some(why) => bail!("a worker failed: {why}"),
            None if inner.ended.contains(&true) => bail!("a worker has ended"),
            None => Ok(()),
        }
    }
}

/// Looks at a fleet that runs.
#[derive(Clone)]
pub(crate) struct Watcher(Arc<Shared>);

impl Watcher {
    pub(crate) fn state(&self) -> State {
        self.0.state()
    }

    /// Times of one kind since this was last called for it; none if there were none.
    pub(crate) fn drawn(&self, kind: Kind) -> Option<Percentiles> {
        self.0.lock().drawn.take(kind)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        let inner = self.lock();
        let mut state = State::default();
        for (n, report) in inner.last.iter().enumerate() {
            state.counts.add(&report.counts);
            state.behind += report.behind;
            state.failures.add(&report.failures);
            state.complaints.extend(report.complaints.iter().cloned());
            if n > 0 {
                state.present += report.present;
                state.whole += report.whole;
                state.whole_at_ns = state.whole_at_ns.max(report.whole_at_ns);
                state.grown_bytes += report.grown_bytes;
            }
        }
        state
    }
}

/// Takes what a worker says until it has ended: when it fails, or its orders do.
async fn listen(
    n: usize,
    (mut answers, _child): (mpsc::Receiver<Report>, Option<Child>),
    shared: Arc<Shared>,
    moves: Arc<watch::Sender<u64>>,
) {
    while let Some(mut report) = answers.recv().await {
        let times = std::mem::take(&mut report.times);
        {
            let mut inner = shared.lock();
            inner.times.add(&times);
            inner.lately.add(&times);
            inner.drawn.add(&times);
            if report.failed.is_some() {
                inner.last[n].failed = report.failed;
            } else {
                inner.last[n] = report;
            }
        }
        moves.send_modify(|moves| *moves += 1);
    }
    shared.lock().ended[n] = true;
    moves.send_modify(|moves| *moves += 1);
}

/// Where the n-th of equal shares begins.
fn share(all: u32, shares: u32, n: u32) -> u32 {
    (u64::from(all) * u64::from(n) / u64::from(shares)) as u32
}
