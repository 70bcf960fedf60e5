//! ClickHouse over HTTP: bounded reads for the feed, and batches that count once however often they are sent.
//!
//! What must always hold: a read has ended by its deadline here, and on the server too. Four layers see to it, and each one
//! holds where those before it fail:
//! 1. the server's own limit, what is left of the deadline less the way back, ends in an error and never in half an answer;
//! 2. the caller waits until the deadline and no longer;
//! 3. the connection of a caller who has gone is closed, and the server ends what nobody waits for;
//! 4. a `KILL QUERY` follows, for a proxy in between that has not passed this on.
//!
//! Nothing waits for a place: reads over `max_in_flight` are refused at once.

mod config;
mod fault;
mod metrics;
pub mod migrate;
mod running;

use std::sync::Arc;
use std::time::Duration;

use ::clickhouse::query::Query;
use ::clickhouse::{Client, RowOwned, RowRead, RowWrite};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use crate::deadline::Deadline;
use crate::telemetry::Metrics;
pub use config::Config;
pub use fault::Fault;
use metrics::ClickHouseMetrics;
use running::Running;

/// What the way of an answer takes: the server's limit ends so much before the deadline.
const WAY_BACK: Duration = Duration::from_millis(10);
/// With less than this left for the server, nothing is asked.
const LEAST: Duration = Duration::from_millis(10);

/// A ClickHouse database. Cheap to clone; connects when it is asked for something.
#[derive(Clone)]
pub struct ClickHouse {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    reads: Semaphore,
    kills: Arc<Semaphore>,
    metrics: ClickHouseMetrics,
}

impl ClickHouse {
    pub fn new(url: &SecretString, config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                client: config::client(url.expose_secret())?,
                reads: Semaphore::new(config.max_in_flight),
                kills: Arc::new(Semaphore::new(running::KILLS)),
                metrics: ClickHouseMetrics::new(metrics),
            }),
        })
    }

    /// The rows of a `SELECT`, whose parameters `bind` gives. The query can change nothing.
    ///
    /// Ends by the deadline, here and on the server, also where the future is dropped before.
    pub async fn read<R: RowOwned + RowRead>(
        &self,
        sql: &str,
        bind: impl FnOnce(Query) -> Query,
        deadline: Deadline,
    ) -> Result<Vec<R>, Fault> {
        let Ok(_place) = self.inner.reads.try_acquire() else { return self.counted(Err(Fault::Full)) };
        let limit = deadline.left().saturating_sub(WAY_BACK);
        if limit < LEAST {
            return self.counted(Err(Fault::Late));
        }
        let running = Running::new(&self.inner.client, &self.inner.kills);
        let query = limited(self.inner.client.query(sql), limit)
            .with_setting("query_id", running.query_id())
            .with_setting("readonly", "2")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1");
        let answer = tokio::time::timeout_at(deadline.instant().into(), bind(query).fetch_all::<R>()).await;
        let answer = answer.map_or(Err(Fault::Late), |answer| answer.map_err(Fault::from));
        if answer.as_ref().map_or_else(Fault::ended_on_server, |_| true) {
            running.ended();
        }
        self.counted(answer)
    }

    /// Stores a batch. Each view counts it once, however often it is given with the same token: a batch of which nobody knows
    /// whether it was stored is given again, with the same rows.
    pub async fn insert<R: RowOwned + RowWrite>(
        &self,
        table: &str,
        rows: &[R],
        token: &str,
        deadline: Deadline,
    ) -> Result<(), Fault> {
        let limit = deadline.left().saturating_sub(WAY_BACK);
        if limit < LEAST {
            return Err(Fault::Late);
        }
        // The batch is one block, and the token is its own: neither the server's batching nor its guess of what is equal.
        let client = self.inner.client.clone().with_validation(false);
        let stored = async {
            let mut insert = client
                .insert::<R>(table)
                .await?
                .with_setting("async_insert", "0")
                .with_setting("insert_deduplication_token", token)
                .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
                .with_setting("max_execution_time", seconds(limit));
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        };
        let stored = tokio::time::timeout_at(deadline.instant().into(), stored).await;
        stored.map_or(Err(Fault::Late), |stored| stored.map_err(Fault::from))
    }

    /// Runs a statement of the schema. When it fails late, it may have been done.
    async fn execute(&self, sql: &str, deadline: Deadline) -> Result<(), Fault> {
        let statement =
            limited(self.inner.client.query(sql), deadline.left()).with_setting("async_insert", "0").execute();
        let done = tokio::time::timeout_at(deadline.instant().into(), statement).await;
        done.map_or(Err(Fault::Late), |done| done.map_err(Fault::from))
    }

    fn counted<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        self.inner.metrics.read(outcome.as_ref().err());
        outcome
    }
}

/// The server's own limit, in force from the first block on; over it the answer is an error.
fn limited(query: Query, limit: Duration) -> Query {
    query
        .with_setting("max_execution_time", seconds(limit))
        .with_setting("timeout_before_checking_execution_speed", "0")
        .with_setting("timeout_overflow_mode", "throw")
}

/// With its fraction: a whole number would round a short limit to 0, which means none at all.
fn seconds(limit: Duration) -> String {
    format!("{:.3}", limit.as_secs_f64().max(0.001))
}
