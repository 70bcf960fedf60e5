//! Engagement goes to ClickHouse: what people did, from the log, and what they saw, from memory.
//!
//! **From the log** (posts, likes, comments, shares) nothing is lost and nothing counts twice. One node at a time exports,
//! by a lease in PostgreSQL. It pages what was committed since the stored position, and before it sends a batch it stores
//! where that batch ends: so a batch whose answer is lost, or whose node dies, is sent again with the same rows and the
//! same token, and ClickHouse knows it. While ClickHouse is away the log keeps what is owed.
//!
//! **From memory** (views) each node sends its own. They are bounded, and dropped and counted beyond: see [`Views`].

mod config;
mod event;
mod metrics;
mod store;
mod views;

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::storage::Pool;
use crate::storage::clickhouse::ClickHouse;
use crate::telemetry::Metrics;
pub use config::Config;
use metrics::ExportMetrics;
use store::{Place, Round};
pub use views::Views;

/// For one statement of the position. Several of them and a batch fit in a lease.
const STATEMENT_TIME: Duration = Duration::from_secs(2);
/// A batch that takes longer is sent again, with the same token.
const INSERT_TIME: Duration = Duration::from_secs(5);
pub(super) const TABLE: &str = "events";

/// Exports what is in the log, while this node holds the lease.
pub struct Exporter {
    /// Names this life of this node among the holders of the lease.
    node: Uuid,
    clickhouse: ClickHouse,
    pool: Pool,
    config: Config,
    metrics: ExportMetrics,
    /// The last attempt failed; so that an outage is one line in the log.
    stuck: bool,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Another node holds the lease.
    NotOurs,
    /// All of the round is exported.
    Finished,
    /// A full batch was stored: there is more.
    More,
}

impl Exporter {
    pub fn new(clickhouse: ClickHouse, pool: Pool, config: Config, metrics: &Metrics) -> Self {
        let metrics = ExportMetrics::new(metrics);
        Self { node: Uuid::new_v4(), clickhouse, pool, config, metrics, stuck: false }
    }

    /// Until stopped. What fails is tried again, a moment later.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // A batch that is being sent is waited for: it would otherwise be sent again by another node.
            while self.noted().await == Some(Step::More) && !stop.is_cancelled() {}
        }
        if let Err(error) = store::release(&self.pool, self.node, Deadline::after(STATEMENT_TIME)).await {
            tracing::debug!(%error, "the lease of the export ends by itself");
        }
    }

    async fn noted(&mut self) -> Option<Step> {
        match self.step().await {
            Ok(step) => {
                if step != Step::NotOurs && std::mem::take(&mut self.stuck) {
                    tracing::info!("the export to ClickHouse goes on");
                }
                Some(step)
            }
            Err(error) => {
                self.metrics.failures.inc();
                if !std::mem::replace(&mut self.stuck, true) {
                    tracing::warn!(%error, "the export to ClickHouse is stuck");
                }
                None
            }
        }
    }

    /// One batch: reads it, stores where it ends, sends it, stores that it was sent.
    async fn step(&mut self) -> Result<Step, store::Error> {
        let deadline = || Deadline::after(STATEMENT_TIME);
        let lease = self.config.lease;
        let Some(round) = store::hold(&self.pool, self.node, lease, deadline()).await? else {
            self.metrics.lag(None);
            return Ok(Step::NotOurs);
        };
        let batch = store::batch(&self.pool, &round, self.config.batch_rows, deadline()).await?;
        self.metrics.lag(batch.oldest_ms);
        let Some(end) = batch.end else {
            return self.finish(&round).await;
        };
        // A node that stood still since then sends nothing: the lease, and ClickHouse's memory, may be over.
        let send_by = Deadline::after(STATEMENT_TIME + INSERT_TIME);
        if round.in_flight.is_none() && !store::pin(&self.pool, self.node, end, lease, deadline()).await? {
            return Ok(Step::NotOurs);
        }
        let token = token(round.after, end);
        self.clickhouse.insert(TABLE, &batch.events, &token, send_by.capped(INSERT_TIME)).await?;
        self.metrics.rows.inc_by(batch.events.len() as u64);
        if !store::advance(&self.pool, self.node, end, lease, deadline()).await? {
            return Ok(Step::NotOurs);
        }
        let full = batch.entries >= self.config.batch_rows;
        if full || round.in_flight.is_some() { Ok(Step::More) } else { self.finish(&round).await }
    }

    async fn finish(&self, round: &Round) -> Result<Step, store::Error> {
        let deadline = Deadline::after(STATEMENT_TIME);
        if !store::finish(&self.pool, self.node, round, deadline).await? {
            return Ok(Step::NotOurs);
        }
        self.metrics.lag(None);
        Ok(Step::Finished)
    }
}

/// A batch is all between two places, so these are its name.
fn token(after: Place, end: Place) -> String {
    format!("log {after} {end}")
}
