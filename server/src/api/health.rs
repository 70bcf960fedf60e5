//! What an operator's machinery asks.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};

use super::Api;
use crate::deadline::Deadline;

/// A probe that waits longer than this takes the server for dead.
const PROBE: Duration = Duration::from_secs(2);

#[derive(serde::Serialize)]
struct Readiness {
    database: bool,
    draining: bool,
}

/// The process runs and answers: no more, or a database that is away would have every node restarted.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether new clients should be sent here.
pub(super) async fn ready(State(api): State<Api>, Extension(deadline): Extension<Deadline>) -> impl IntoResponse {
    let database = api.inner.pool.ping(deadline.capped(PROBE)).await.is_ok();
    let draining = api.draining();
    let status = if database && !draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { database, draining }))
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], api.inner.metrics.text())
}
