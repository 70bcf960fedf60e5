use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bowline_protocol::{Code, Failure};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, PoolError, QueueMode, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use prometheus_client::metrics::counter::Counter;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};

use super::fault::{RETRY_AFTER_MS, describe};
use super::{Config, Fault};
use crate::deadline::Deadline;

/// A database that does not answer a connection attempt by then is away, whatever the deadline of the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A cancel request that takes longer is given up: the statement's own timeout on the role ends it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon one that found the waiting room full asks again.
const OVERLOADED_RETRY_AFTER_MS: u64 = 500;

/// The connections of the traffic. Cheap to clone; all clones share one set.
///
/// Never more than `max_connections` at once. A connection found broken is replaced, never handed out again.
#[derive(Clone)]
pub struct Pool {
    connections: deadpool_postgres::Pool,
    waiting: Arc<Semaphore>,
    /// The last attempt to connect failed; so that an outage is one line in the log, not one a request.
    away: Arc<AtomicBool>,
    statements: Counter,
}

/// A connection out of the [`Pool`], back in it when dropped.
///
/// Dropped with a statement of [`Connection::query`] still running (its future was dropped, or its deadline passed), the
/// connection is closed instead and the statement is cancelled, so the next user never waits for, or reads, a stranger's
/// answer. Statements run through [`Deref`] are the caller's to finish.
pub struct Connection {
    /// Taken when the connection is not to go back.
    object: Option<Object>,
    /// Statements whose answer was not read to the end; some may run at once.
    unanswered: AtomicUsize,
    statements: Counter,
}

impl Pool {
    /// Connects to nothing yet.
    pub fn new(url: &SecretString, config: &Config) -> anyhow::Result<Self> {
        let mut target = parse(url.expose_secret())?;
        target.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(Duration::from_secs(10));
        if target.get_application_name().is_none() {
            target.application_name("bowline");
        }
        // Fast: a dead connection is seen without a round trip, and nothing is left behind on one, since the traffic
        // sets nothing and never leaves a transaction open.
        let manager = Manager::from_config(target, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(config.max_connections)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .context("the pool of database connections")?;
        let waiting = Arc::new(Semaphore::new(config.max_waiting));
        Ok(Self { connections, waiting, away: Arc::default(), statements: Counter::default() })
    }

    /// A connection, in the order of asking.
    ///
    /// `overloaded` at once when too many wait already, or when none came free by the deadline; `unavailable` when the
    /// database can't be reached; `deadline_exceeded` when the deadline had passed before. Nothing was stored in any case.
    pub async fn get(&self, deadline: Deadline) -> Result<Connection, Failure> {
        if deadline.passed() {
            return Err(Code::DeadlineExceeded.into());
        }
        let overloaded = || Failure::retry_after(Code::Overloaded, OVERLOADED_RETRY_AFTER_MS);
        let Ok(_place) = self.waiting.try_acquire() else { return Err(overloaded()) };
        let left = deadline.left();
        let timeouts = Timeouts { wait: Some(left), create: Some(left.min(CONNECT_TIMEOUT)), recycle: None };
        match self.connections.timeout_get(&timeouts).await {
            Ok(object) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the database can be reached again");
                }
                let statements = self.statements.clone();
                Ok(Connection { object: Some(object), unanswered: AtomicUsize::new(0), statements })
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(overloaded()),
            Err(error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let reason = match &error {
                        PoolError::Backend(error) => describe(error),
                        error => error.to_string(),
                    };
                    tracing::warn!(reason, "the database can't be reached");
                }
                Err(Failure::retry_after(Code::Unavailable, RETRY_AFTER_MS))
            }
        }
    }

    /// Whether the database answers a statement by the deadline.
    pub async fn ping(&self, deadline: Deadline) -> Result<(), Failure> {
        let connection = self.get(deadline).await?;
        connection.query("SELECT 1", &[], deadline).await.map_err(|fault| fault.read())?;
        Ok(())
    }

    /// Statements that were sent, whatever came of them.
    pub fn statements(&self) -> u64 {
        self.statements.get()
    }

    /// Connections that are open, in use or not.
    pub fn open(&self) -> usize {
        self.connections.status().size
    }

    /// Connections that are handed out.
    pub fn in_use(&self) -> usize {
        let status = self.connections.status();
        status.size.saturating_sub(status.available)
    }

    /// Requests that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.connections.status().waiting
    }

    /// Closes the idle connections; the others close as they come back. Whoever waits gets `unavailable`.
    pub fn close(&self) {
        self.connections.close();
    }
}

impl Connection {
    /// Runs one unnamed statement, in one round trip, for no longer than the deadline.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        deadline: Deadline,
    ) -> Result<Vec<Row>, Fault> {
        self.within(deadline, self.query_typed(sql, parameters)).await
    }

    /// Waits for one statement on this connection, for no longer than the deadline; past it the connection is spoilt.
    pub async fn within<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        self.statements.inc();
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout_at(deadline.instant().into(), work).await {
            Ok(Ok(answer)) => {
                self.unanswered.fetch_sub(1, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => {
                let fault = Fault::from(error);
                if !fault.spoils_connection() {
                    self.unanswered.fetch_sub(1, Ordering::Relaxed);
                }
                Err(fault)
            }
            Err(_) => Err(Fault::Late),
        }
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        match &self.object {
            Some(object) => object,
            None => unreachable!("only Drop takes the connection"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.unanswered.load(Ordering::Relaxed) == 0 {
            return;
        }
        let client = Object::take(object);
        if client.is_closed() {
            return;
        }
        // Closing the socket alone does not stop a statement: PostgreSQL looks at its client only when it has an answer.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let cancel = client.cancel_token();
            runtime.spawn(tokio::time::timeout(CANCEL_TIMEOUT, async move {
                if let Err(error) = cancel.cancel_query(NoTls).await {
                    tracing::warn!(reason = describe(&error), "a statement could not be cancelled");
                }
            }));
        }
    }
}

/// Reads a database URL; the error says what is allowed and never repeats the URL, which may hold a password.
pub(super) fn parse(url: &str) -> anyhow::Result<tokio_postgres::Config> {
    const ALLOWED: &str = "postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE, or host=… user=… dbname=…";
    let config = tokio_postgres::Config::from_str(url).with_context(|| format!("expected {ALLOWED}"))?;
    anyhow::ensure!(!config.get_hosts().is_empty(), "no host in it; expected {ALLOWED}");
    anyhow::ensure!(
        config.get_ssl_mode() != SslMode::Require,
        "sslmode=require is not supported: reach the database through a private network or a TLS tunnel"
    );
    Ok(config)
}
