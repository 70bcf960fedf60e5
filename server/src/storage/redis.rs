//! The connection to Redis.
//!
//! One connection a process, which carries all commands interleaved. A command has its answer within a few milliseconds or
//! is given up; once that has happened a few times in a row, Redis is away, and commands fail at once until it answers
//! again. A task looks after the connection: what uses Redis never waits for it to come back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, timeout_at};

use crate::config::{HIDDEN, Invalid, hidden, millis};
use crate::deadline::Deadline;
use crate::telemetry::Metrics;

/// For a connection with all that is said before its first command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_AGAIN: Duration = Duration::from_millis(250);
/// A connection that nobody uses is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// So many commands in a row without an answer, and Redis is away.
const UNANSWERED: u32 = 3;
/// A peer whose machine is gone takes nothing any more; the kernel gives up after this time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Where Redis is, and how long it may take.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `redis://…`; without it a node is on its own.
    #[serde(serialize_with = "hidden")]
    pub url: Option<SecretString>,
    #[serde(rename = "command_timeout_ms", with = "millis")]
    pub command_timeout: Duration,
    /// Commands under way at once; one more fails.
    pub in_flight: usize,
}

/// The way to Redis; cheap to clone. The connection closes with the last clone.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    _keeper: Arc<Keeper>,
}

/// Why a command has no answer. Unless it was refused, it may have been carried out.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Redis does not answer at the moment; nothing was sent.
    #[error("Redis is away")]
    Away,
    /// Too many commands are under way; nothing was sent.
    #[error("too many commands to Redis are under way")]
    Full,
    #[error("Redis did not answer in time")]
    Late,
    #[error("the connection to Redis failed")]
    Cut,
    /// Redis answered with an error.
    #[error("Redis refused: {0}")]
    Refused(redis::RedisError),
}

struct Shared {
    /// None while Redis is away. Held to clone or replace it.
    connection: Mutex<Option<MultiplexedConnection>>,
    command_timeout: Duration,
    in_flight: Semaphore,
    /// Commands without an answer since the last one that had one.
    unanswered: AtomicU32,
    /// The connection is of no more use.
    lost: Notify,
    up: Gauge,
    failed: Counter,
}

/// Ends the task with the last user of the connection.
struct Keeper(JoinHandle<()>);

impl Redis {
    /// Nothing if no Redis is configured. One that does not answer yet is tried again and again.
    pub async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<Self>> {
        let Some(url) = &config.url else { return Ok(None) };
        let target =
            parse(url.expose_secret())?.set_tcp_settings(TcpSettings::default().set_user_timeout(UNACKNOWLEDGED));
        let client = Client::open(target).context("the URL of Redis")?;
        let shared = Arc::new(Shared {
            connection: Mutex::new(None),
            command_timeout: config.command_timeout,
            in_flight: Semaphore::new(config.in_flight),
            unanswered: AtomicU32::new(0),
            lost: Notify::new(),
            up: metrics.register("redis_up", "Whether Redis answers", Gauge::default()),
            failed: metrics.register("redis_failed", "Commands to Redis without an answer", Counter::default()),
        });
        // A command is given up in `run` alone, which knows its deadline.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(config.in_flight);
        let first = connect(&client, &settings).await;
        if let Ok(connection) = &first {
            shared.set(Some(connection.clone()));
        }
        let keeper = tokio::spawn(keep(shared.clone(), client, settings, first));
        Ok(Some(Self { shared, _keeper: Arc::new(Keeper(keeper)) }))
    }

    /// Whether commands are sent at all.
    pub fn is_up(&self) -> bool {
        self.shared.connection().is_some()
    }

    /// The answer to one command, by the deadline and within `command_timeout`.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd, deadline: Deadline) -> Result<T, Fault> {
        let Some(mut connection) = self.shared.connection() else { return Err(Fault::Away) };
        let Ok(_place) = self.shared.in_flight.try_acquire() else { return Err(Fault::Full) };
        let until = deadline.capped(self.shared.command_timeout);
        let result = match timeout_at(until.instant().into(), command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_io_error() => Err(Fault::Cut),
            Ok(Err(error)) => Err(Fault::Refused(error)),
            Err(_) => Err(Fault::Late),
        };
        match &result {
            Err(Fault::Cut) => self.shared.missed(UNANSWERED),
            // One that was sent a moment before its deadline says nothing about Redis.
            Err(Fault::Late) if until < deadline => self.shared.missed(1),
            Err(Fault::Late) => {}
            _ => self.shared.unanswered.store(0, Ordering::Relaxed),
        }
        result
    }
}

impl Shared {
    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, connection: Option<MultiplexedConnection>) {
        self.up.set(connection.is_some().into());
        self.unanswered.store(0, Ordering::Relaxed);
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn missed(&self, weight: u32) {
        self.failed.inc();
        if self.unanswered.fetch_add(weight, Ordering::Relaxed) + weight >= UNANSWERED {
            self.lost.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects, watches, and connects again, for ever.
async fn keep(
    shared: Arc<Shared>,
    client: Client,
    settings: AsyncConnectionConfig,
    first: Result<MultiplexedConnection, String>,
) {
    let mut connecting = first;
    // The first failure is said as well.
    let mut was_up = true;
    loop {
        match connecting {
            Ok(connection) => {
                shared.set(Some(connection.clone()));
                tracing::info!("Redis answers");
                watch(&shared, connection).await;
                shared.set(None);
                tracing::warn!("Redis does not answer any more");
                was_up = false;
            }
            Err(reason) => {
                if was_up {
                    tracing::warn!(reason, "Redis does not answer");
                }
                was_up = false;
                sleep(CONNECT_AGAIN).await;
            }
        }
        connecting = connect(&client, &settings).await;
    }
}

/// Until the connection is of no more use.
async fn watch(shared: &Shared, mut connection: MultiplexedConnection) {
    // What was said about the connection before this one.
    let _ = timeout(Duration::ZERO, shared.lost.notified()).await;
    loop {
        tokio::select! {
            () = shared.lost.notified() => return,
            () = sleep(LOOK) => {}
        }
        let ping = redis::cmd("PING");
        let answered = timeout(CONNECT_TIMEOUT, ping.query_async::<()>(&mut connection)).await;
        // An error of Redis itself, such as a missing right, is an answer.
        if !matches!(answered, Ok(Ok(()))) && !matches!(answered, Ok(Err(error)) if !error.is_io_error()) {
            return;
        }
    }
}

/// A connection that has answered. The reason may hold a host: it is for the log alone.
async fn connect(client: &Client, settings: &AsyncConnectionConfig) -> Result<MultiplexedConnection, String> {
    let connecting = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(settings).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok::<_, redis::RedisError>(connection)
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// The error says what is allowed and never repeats the URL, which may hold a password.
fn parse(url: &str) -> anyhow::Result<ConnectionInfo> {
    const ALLOWED: &str =
        "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]; TLS is left to a tunnel or a private network";
    let parsed = url.into_connection_info().ok().filter(|_| url.starts_with("redis://"));
    parsed.with_context(|| format!("expected {ALLOWED}"))
}

impl Default for Config {
    fn default() -> Self {
        Self { url: None, command_timeout: Duration::from_millis(25), in_flight: 1_024 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let timeout = u64::try_from(self.command_timeout.as_millis()).unwrap_or(u64::MAX);
        let mut found = Vec::new();
        found.extend(Invalid::unless_in("command_timeout_ms", timeout, 1..=10_000));
        found.extend(Invalid::unless_in("in_flight", self.in_flight as u64, 1..=100_000));
        if let Some(Err(reason)) = self.url.as_ref().map(|url| parse(url.expose_secret())) {
            found.push(Invalid::new("url", HIDDEN, reason.to_string()));
        }
        found
    }
}
