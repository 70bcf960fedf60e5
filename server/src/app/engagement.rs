//! Hands engagement to ClickHouse, once its schema is there. A server serves without it: ClickHouse may come later.

use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::feed::export::{Config, Exporter, Views};
use crate::storage::Storage;
use crate::storage::clickhouse::{ClickHouse, migrate};
use crate::telemetry::Metrics;

/// Between two attempts to bring the schema up to date.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) struct Engagement {
    clickhouse: ClickHouse,
    exporter: Exporter,
    views: Views,
    migrates_by: Option<SecretString>,
}

impl Engagement {
    pub(super) fn new(
        clickhouse: ClickHouse,
        views: Views,
        storage: &Storage,
        config: &Config,
        metrics: &Metrics,
    ) -> Self {
        Self {
            exporter: Exporter::new(clickhouse.clone(), storage.pool().clone(), config.clone(), metrics),
            views,
            clickhouse,
            migrates_by: storage.migrates_by().cloned(),
        }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        if let Some(turn) = &self.migrates_by
            && stop.run_until_cancelled(bring_up_to_date(&self.clickhouse, turn)).await.is_none()
        {
            return;
        }
        tokio::join!(self.exporter.run(stop.clone()), self.views.run(self.clickhouse, stop));
    }
}

async fn bring_up_to_date(clickhouse: &ClickHouse, turn: &SecretString) {
    let mut said = false;
    loop {
        match migrate::up(clickhouse, turn, migrate::FILES).await {
            Ok(applied) if applied.is_empty() => return,
            Ok(applied) => return tracing::info!(?applied, "the schema of ClickHouse was brought up to date"),
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the schema of ClickHouse can't be brought up to date yet"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}
