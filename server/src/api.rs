//! HTTP: accounts and sessions, posts, people and feeds, health and metrics, and the handshake of the WebSocket, whose socket is then given away.
//!
//! May touch sockets and call the domain, one call a route; no SQL, no rules of the domain.
//!
//! Always holds: a request is answered or refused by its deadline; connections, handshakes, headers and bodies are
//! bounded; what is refused is refused as JSON of the one catalogue; who somebody is comes from his token alone.

mod accounts;
mod body;
mod client;
mod connect;
mod health;
mod listen;
mod origin;
mod refusal;
mod requests;
mod serve;
mod social;
mod turns;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use bowline_protocol::Code;
use bowline_protocol::limits::Limits;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::config::Invalid;
use crate::feed::Feed;
use crate::graph::Graph;
use crate::limits::{Limiter, Rate};
use crate::posts::Posts;
use crate::storage::Pool;
use crate::telemetry::Metrics;
use client::Network;
pub use connect::{Adopt, Place, Socket};
pub use listen::listen;
use origin::Origins;
use refusal::Refusal;
use requests::Requests;
pub use serve::serve;

/// Names and addresses whose logins are remembered, each; beyond it the longest unused are forgotten.
const REMEMBERED: usize = 16 * 1024;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Port 0 takes a free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Connections that wait to be accepted, as far as the kernel's `net.core.somaxconn` allows.
    pub backlog: u32,
    /// Several processes may listen on the port, and the kernel spreads connections over them.
    pub reuse_port: bool,
    /// HTTP connections at once, those in a WebSocket handshake included; more wait in the listen queue.
    pub max_connections: usize,
    /// Of these, those that have begun to speak and so hold buffers, of 10 to 40 KiB each; the others wait for their turn.
    pub max_speaking: usize,
    /// Of these, what one client network may have at once, in percent; it counts where `forwarded_hops` is 0.
    pub speaking_share_percent: u64,
    /// WebSockets at once; more get `overloaded`.
    pub max_sockets: usize,
    /// A request's headers must come within this, and an idle connection is kept for this.
    pub header_timeout_ms: u64,
    /// From the end of the headers to the answer.
    pub request_timeout_ms: u64,
    /// Over how long a server that goes away spreads the closing of its sockets.
    pub drain_ms: u64,
    /// Origins of web pages that may use this server, as `https://app.example`; none named: all. No cookie is ever
    /// looked at, so a foreign page has only the tokens that it brings itself.
    pub allowed_origins: Vec<String>,
    /// Proxies in front of this server that add to `X-Forwarded-For`; with 0 the header is not believed.
    pub forwarded_hops: usize,
    /// WebSockets that begin, in all: twice 10,000 may come back at once. More get `overloaded`.
    pub connects: Rate,
    /// WebSockets of one client network; more get `rate_limited`. As wide as `connects` by default: behind a proxy that
    /// `forwarded_hops` does not count, everybody has one address.
    pub connects_per_address: Rate,
    /// Logins and registrations of one client network (an IPv4 address, an IPv6 /64).
    pub logins_per_address: Rate,
    /// Logins and registrations under one name.
    pub logins_per_name: Rate,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            backlog: 4_096,
            reuse_port: false,
            max_connections: 4_096,
            max_speaking: 256,
            speaking_share_percent: 50,
            max_sockets: 50_000,
            header_timeout_ms: 5_000,
            request_timeout_ms: 10_000,
            drain_ms: 5_000,
            allowed_origins: Vec::new(),
            forwarded_hops: 0,
            connects: Rate { burst: 20_000, interval_ms: 1 },
            connects_per_address: Rate { burst: 20_000, interval_ms: 1 },
            logins_per_address: Rate { burst: 60, interval_ms: 1_000 },
            logins_per_name: Rate { burst: 10, interval_ms: 6_000 },
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let ranges = [
            ("backlog", u64::from(self.backlog), 1..=1_000_000),
            ("max_connections", self.max_connections as u64, 1..=1_000_000),
            ("max_speaking", self.max_speaking as u64, 1..=1_000_000),
            ("speaking_share_percent", self.speaking_share_percent, 1..=100),
            ("max_sockets", self.max_sockets as u64, 1..=10_000_000),
            ("header_timeout_ms", self.header_timeout_ms, 100..=600_000),
            ("request_timeout_ms", self.request_timeout_ms, 100..=600_000),
            ("drain_ms", self.drain_ms, 0..=3_600_000),
            ("forwarded_hops", self.forwarded_hops as u64, 0..=16),
        ];
        let ranges = ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed));
        let rates = [
            ("connects", self.connects),
            ("connects_per_address", self.connects_per_address),
            ("logins_per_address", self.logins_per_address),
            ("logins_per_name", self.logins_per_name),
        ];
        let rates = rates.into_iter().flat_map(|(key, rate)| rate.validate().into_iter().map(|found| found.under(key)));
        let origins = self.allowed_origins.iter().filter(|origin| !origin.contains("://"));
        let origins =
            origins.map(|origin| Invalid::new("allowed_origins", origin, "origins such as https://app.example"));
        ranges.chain(rates).chain(origins).collect()
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom("expected an address with a port, such as 127.0.0.1:8080 or [::]:8080"))
}

/// What the routes work with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

/// The domain rooms that routes reach, and the limits of what may be asked of them.
pub struct Rooms {
    pub accounts: Accounts,
    pub posts: Posts,
    pub graph: Graph,
    pub feed: Feed,
    pub limits: Limits,
}

struct Inner {
    config: Config,
    accounts: Accounts,
    posts: Posts,
    graph: Graph,
    feed: Feed,
    limits: Limits,
    pool: Pool,
    metrics: Metrics,
    requests: Requests,
    origins: Origins,
    connects: Limiter<()>,
    connects_per_address: Limiter<Network>,
    addresses: Limiter<Network>,
    names: Limiter<String>,
    sockets: Arc<Semaphore>,
    draining: AtomicBool,
    adopt: Adopt,
}

impl Api {
    /// `adopt` is given each socket that has become a WebSocket; it must not block.
    pub fn new(config: Config, rooms: Rooms, pool: Pool, metrics: Metrics, adopt: Adopt) -> Self {
        let Rooms { accounts, posts, graph, feed, limits } = rooms;
        let inner = Inner {
            accounts,
            posts,
            graph,
            feed,
            limits,
            pool,
            requests: requests::register(&metrics),
            metrics,
            origins: Origins::new(&config.allowed_origins),
            connects: Limiter::new(config.connects, 1),
            connects_per_address: Limiter::new(config.connects_per_address, REMEMBERED),
            addresses: Limiter::new(config.logins_per_address, REMEMBERED),
            names: Limiter::new(config.logins_per_name, REMEMBERED),
            sockets: Arc::new(Semaphore::new(config.max_sockets.min(Semaphore::MAX_PERMITS))),
            draining: AtomicBool::new(false),
            adopt,
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// From here on the server is not ready and takes no further WebSocket; requests are still answered.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    fn draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }
}

/// All routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/connect", get(connect::connect))
        .route("/v1/accounts", post(accounts::register))
        .route("/v1/accounts/{username}", get(accounts::find))
        .route("/v1/sessions", post(accounts::log_in).get(accounts::sessions).delete(accounts::end_all))
        .route("/v1/sessions/refresh", post(accounts::refresh))
        .route("/v1/sessions/{id}", delete(accounts::end_one))
        .merge(social::routes())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || Refusal::from(Code::NotFound))
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
        .layer(from_fn_with_state(api.clone(), origin::cors))
        .layer(from_fn_with_state(api.clone(), client::arrive))
        .layer(from_fn_with_state(api.clone(), requests::count))
        .with_state(api)
}
