//! Accepting connections and speaking HTTP on them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client::Peer;
use super::{Api, router};

/// Headers of one request, and what is read ahead of it.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Between two attempts to accept where there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until stopped; then takes no further connection, answers the requests under way and returns when the last of
/// them is answered, at the latest when its deadline has passed. WebSockets left before and are not waited for.
pub async fn serve(listener: TcpListener, api: Api, stop: CancellationToken) {
    let config = &api.inner.config;
    let grace = Duration::from_millis(config.request_timeout_ms);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS);
    let places = Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let routes = router(api);
    let connections = TaskTracker::new();
    while let Some(Ok(place)) = stop.run_until_cancelled(places.clone().acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let connection = speak(http.clone(), routes.clone(), stream, Peer(peer), stop.clone(), grace);
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn speak(
    http: http1::Builder,
    routes: Router,
    stream: TcpStream,
    peer: Peer,
    stop: CancellationToken,
    grace: Duration,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        routes.clone().oneshot(request)
    });
    // A client that breaks off or breaks the rules is no event here: hyper has answered what can be answered.
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    if stop.run_until_cancelled(connection.as_mut()).await.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(grace, connection).await;
    }
}
