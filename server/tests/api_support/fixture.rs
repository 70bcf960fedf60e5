//! A whole HTTP server on a database of its own.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline::accounts::{self, Accounts};
use bowline::api::{self, Api, Rooms, Socket};
use bowline::deadline::Deadline;
use bowline::feed::{self, Feed};
use bowline::graph::Graph;
use bowline::limits::Rate;
use bowline::log::{self, Committed, Log};
use bowline::posts::{self, Posts};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::limits::Limits;
use bowline_testkit::TestDatabase;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "the secret of a server in a test";
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) api: Api,
    pub(crate) accounts: Accounts,
    /// What became a WebSocket.
    pub(crate) sockets: mpsc::UnboundedReceiver<Socket>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) database: TestDatabase,
    /// What was stored in any log.
    pub(crate) committed: mpsc::UnboundedReceiver<Committed>,
    http: reqwest::Client,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.body)).to_owned()
    }

    /// The error's name and the field that it names.
    pub(crate) fn error(&self) -> (&str, Option<&str>) {
        let error = &self.body["error"];
        (error["name"].as_str().unwrap_or_default(), error["field"].as_str())
    }
}

/// No limit that a test does not ask for.
pub(crate) fn roomy() -> (accounts::Config, api::Config) {
    let mut accounts = accounts::Config::default();
    accounts.tokens.secret = Some(SECRET.into());
    let rate = Rate { burst: 1_000_000, interval_ms: 1 };
    let api = api::Config { logins_per_address: rate, logins_per_name: rate, ..api::Config::default() };
    (accounts, api)
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (accounts, api) = roomy();
        Self::with(accounts, api).await
    }

    pub(crate) async fn with(accounts: accounts::Config, api: api::Config) -> Self {
        let database = TestDatabase::create().await;
        let pool = Pool::new(&database.url().into(), &storage::Config::default()).unwrap();
        let metrics = Metrics::default();
        let (sink, committed) = mpsc::unbounded_channel();
        let hears = Arc::<OnceLock<(Accounts, Posts)>>::default();
        let heard = hears.clone();
        let sink = move |committed: &[Committed], _: &mut dyn FnMut()| {
            for one in committed {
                let (accounts, posts) = heard.get().unwrap();
                accounts.committed(one.log, &one.entries);
                posts.committed(one.log, &one.entries);
                drop(sink.send(one.clone()));
            }
        };
        let log = Log::start(pool.clone(), log::Config::default(), &metrics, sink);
        let accounts = Accounts::start(&accounts, None, pool.clone(), log.clone(), &metrics).unwrap();
        let (given, sockets) = mpsc::unbounded_channel();
        let adopt = Box::new(move |socket| drop(given.send(socket)));
        let posts = Posts::start(pool.clone(), log.clone(), &posts::Config::default(), &metrics);
        hears.get_or_init(|| (accounts.clone(), posts.clone()));
        let parts =
            feed::Parts { pool: pool.clone(), posts: posts.clone(), clickhouse: None, redis: None, views: None };
        let deadline = Deadline::after(Duration::from_secs(30));
        let feed = Feed::start(parts, &feed::Config::default(), &metrics, deadline).await.unwrap();
        let rooms = Rooms {
            accounts: accounts.clone(),
            posts,
            feed,
            graph: Graph::new(pool.clone(), log),
            limits: Limits::default(),
        };
        let api = Api::new(api, rooms, pool, metrics, adopt);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(api::serve(listener, api.clone(), stop.clone()));
        Self { address, api, accounts, sockets, stop, served, database, committed, http: reqwest::Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn send(&self, request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> Answer {
        let response = request(&self.http).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(|http| http.post(self.url(path)).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(|http| http.get(self.url(path)).bearer_auth(token)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(|http| http.delete(self.url(path)).bearer_auth(token)).await
    }
}

/// Waits for a condition; the bound is for a test that fails.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
