//! Counting requests by route and status.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Api;
use crate::telemetry::Metrics;

pub(super) type Requests = Family<Labels, Counter>;

/// Both from small sets: the router's own paths and the statuses in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    route: String,
    status: u16,
}

pub(super) fn register(metrics: &Metrics) -> Requests {
    metrics.register("http_requests", "HTTP requests by route and status", Family::default())
}

pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let labels = Labels { route, status: response.status().as_u16() };
    api.inner.requests.get_or_create(&labels).inc();
    response
}
