//! Accepting connections and speaking HTTP on them.

use std::net::IpAddr;
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
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client::{Address, Network, Peer};
use super::turns::{Turn, Turns};
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
    // Behind proxies that tell who their clients are, all connections are the proxies'.
    let share_percent = if config.forwarded_hops > 0 { 100 } else { config.speaking_share_percent };
    let turns = Turns::new(config.max_speaking, share_percent);
    let first_byte = Duration::from_millis(config.header_timeout_ms);
    let routes = router(api);
    let connections = TaskTracker::new();
    while let Some(Ok(place)) = stop.run_until_cancelled(places.clone().acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let (http, routes, turns, stop) = (http.clone(), routes.clone(), turns.clone(), stop.clone());
                connections.spawn(async move {
                    // One that is silent holds no buffers, and nobody else's turn.
                    let turn = timeout(first_byte, begins(&stream, peer.ip(), turns));
                    if let Some(Ok(Some(_turn))) = stop.run_until_cancelled(turn).await {
                        // Boxed, so that those who wait for their turn have no room for it in their tasks.
                        Box::pin(speak(http, routes, stream, Peer(peer), stop, grace)).await;
                    }
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

/// Waits for a first byte, then for its turn to be read.
async fn begins(stream: &TcpStream, peer: IpAddr, turns: Turns) -> Option<Turn> {
    let here = stream.peek(&mut [0]).await.ok()?;
    let network = Network::from(Address(peer.to_canonical()));
    if here > 0 { turns.take(network).await } else { None }
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
        let _ = timeout(grace, connection).await;
    }
}
