use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_protocol::UserId;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event::{Event, VIEW, made_at_ms};
use super::metrics::now_ms;
use super::{Config, INSERT_TIME, TABLE};
use crate::deadline::Deadline;
use crate::storage::clickhouse::ClickHouse;
use crate::telemetry::Metrics;

/// What is sent when the server ends, if ClickHouse takes it by then.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Who saw what in a feed, on its way to ClickHouse. Cheap to clone.
///
/// Not durable: at most `views` of them wait in memory, and what comes beyond is dropped and counted; what waits when the
/// process dies is lost. What is sent counts once, also where an answer is lost.
#[derive(Clone)]
pub struct Views {
    inner: Arc<Inner>,
}

struct Inner {
    waiting: Mutex<VecDeque<Event>>,
    /// A batch is full.
    full: Notify,
    config: Config,
    recorded: Counter,
    dropped: Counter,
}

/// Keeps its rows and its token until ClickHouse has it.
struct Batch {
    token: String,
    events: Vec<Event>,
}

impl Views {
    pub fn new(config: Config, metrics: &Metrics) -> Self {
        let recorded = metrics.register("feed_views", "Views of posts in feeds that were taken", Counter::default());
        let help = "Views of posts in feeds that were dropped because too many waited for ClickHouse";
        let dropped = metrics.register("feed_views_dropped", help, Counter::default());
        let waiting = Mutex::default();
        Self { inner: Arc::new(Inner { waiting, full: Notify::new(), config, recorded, dropped }) }
    }

    /// Takes a view, or drops it when too many wait. Never waits.
    pub fn record(&self, reader: UserId, post: Uuid, author: UserId) {
        let Some(post_at) = made_at_ms(post) else { return };
        let event = Event { at: now_ms(), kind: VIEW, actor: reader.0, post, author: author.0, post_at };
        let inner = &self.inner;
        let mut waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= inner.config.views {
            inner.dropped.inc();
            return;
        }
        waiting.push_back(event);
        inner.recorded.inc();
        if waiting.len() == inner.config.batch_rows {
            inner.full.notify_one();
        }
    }

    /// Views that wait; those of a batch that is being sent are among them.
    pub fn waiting(&self) -> usize {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends what waits, until stopped; then once more.
    pub async fn run(self, clickhouse: ClickHouse, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.inner.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = self.inner.full.notified() => {}
            }
            while !stop.is_cancelled() && self.send(&mut batch, &clickhouse, INSERT_TIME).await {}
        }
        self.send(&mut batch, &clickhouse, LAST_TIME).await;
    }

    /// Sends a batch, the one before if it failed. Whether another full one waits.
    async fn send(&self, batch: &mut Option<Batch>, clickhouse: &ClickHouse, time: Duration) -> bool {
        let Some(sent) = batch.get_or_insert_with(|| self.first()).non_empty() else {
            *batch = None;
            return false;
        };
        if let Err(error) = clickhouse.insert(TABLE, &sent.events, &sent.token, Deadline::after(time)).await {
            tracing::debug!(%error, "views wait for ClickHouse");
            return false;
        }
        self.done(sent.events.len());
        *batch = None;
        self.waiting() >= self.inner.config.batch_rows
    }

    /// They wait until they are stored, so that the bound is one for all.
    fn first(&self) -> Batch {
        let waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let events = waiting.iter().take(self.inner.config.batch_rows).cloned().collect();
        Batch { token: format!("views {}", Uuid::new_v4().simple()), events }
    }

    fn done(&self, events: usize) {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..events);
    }
}

impl Batch {
    fn non_empty(&self) -> Option<&Self> {
        (!self.events.is_empty()).then_some(self)
    }
}
