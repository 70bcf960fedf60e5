//! PostgreSQL: the pool that the traffic uses, the migrations, and the embedded default when no database is configured.
//! Redis and ClickHouse, which may be missing or away: [`redis`], [`clickhouse`].
//!
//! May touch sockets, processes and files; knows no domain. Two clients, one job each: `deadpool-postgres` carries the
//! traffic with unnamed statements only (so it works through PgBouncer in transaction mode), `sqlx` owns the schema.
//!
//! Always holds: a process has at most `max_connections` connections for its traffic; nobody waits for one past its
//! deadline, nor when `max_waiting` others already wait; a connection whose statement was abandoned is never used again;
//! a database that may lose what it confirmed is not served from, unless that was asked for; nobody waits for a Redis that is
//! away.

pub mod clickhouse;
pub mod columns;
mod config;
pub mod embedded;
pub mod epoch;
mod fault;
pub mod migrate;
mod pool;
pub mod redis;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;

use crate::deadline::Deadline;
pub use config::Config;
use embedded::Embedded;
pub use fault::Fault;
pub use pool::{Connection, Pool};

/// How long a start waits for a database that is not there yet.
const REACH_TIMEOUT: Duration = Duration::from_secs(20);
const REACH_AGAIN: Duration = Duration::from_millis(250);
/// A database that died is noticed by its connections before the thread that watches it sees the cause.
const SEEN_DEAD: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The database of a server: the one that is configured, or one of its own, which lives exactly as long.
pub struct Storage {
    pool: Pool,
    /// If this server brings schemas up to date.
    direct_url: Option<SecretString>,
    embedded: Option<Embedded>,
}

impl Storage {
    /// Starts the embedded database if none is configured, brings the schema up to date, and checks that what the
    /// database confirms is on disk. A configured database that does not answer is waited for a while.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let reached = Reached::start(config).await?;
        let migrates = config.migrate_at_start || reached.embedded.is_some();
        let storage = Self {
            pool: Pool::new(&reached.url, config)?,
            direct_url: migrates.then_some(reached.direct_url),
            embedded: reached.embedded,
        };
        let died = storage.died();
        tokio::pin!(died);
        let made_ready = tokio::select! {
            made_ready = make_ready(&storage.pool, storage.direct_url.as_ref(), config) => made_ready,
            how = &mut died => bail!("{how}"),
        };
        if made_ready.is_err()
            && storage.embedded.is_some()
            && let Ok(how) = tokio::time::timeout(SEEN_DEAD, died).await
        {
            bail!("{how}");
        }
        made_ready?;
        Ok(storage)
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A session of one's own with PostgreSQL, for migrations, where this server is to bring schemas up to date.
    pub fn migrates_by(&self) -> Option<&SecretString> {
        self.direct_url.as_ref()
    }

    /// Where a server with an embedded database keeps what is its own, such as the key of its tokens.
    pub fn data_dir(&self) -> Option<&Path> {
        self.embedded.as_ref().map(Embedded::data_dir)
    }

    /// Ends when the embedded database has ended by itself, with how; never for a configured one, which may come back.
    pub fn died(&self) -> impl Future<Output = String> + Send + 'static {
        let ended = self.embedded.as_ref().map(Embedded::ended);
        async move {
            let Some(mut ended) = ended else { return std::future::pending().await };
            match ended.wait_for(Option::is_some).await {
                Ok(how) => how.clone().unwrap_or_default(),
                Err(_) => "the thread that watches PostgreSQL is gone".to_owned(),
            }
        }
    }

    /// Closes the pool, then stops the embedded database; takes 30 s at most.
    pub async fn close(self) {
        self.pool.close();
        stop(self.embedded).await;
    }
}

/// A database reached for a command of an operator, which may run beside a server.
pub struct Reached {
    url: SecretString,
    direct_url: SecretString,
    embedded: Option<Embedded>,
}

impl Reached {
    /// The configured database, that of the server that runs on the data directory, or the embedded one started for this.
    pub async fn for_operator(config: &Config) -> anyhow::Result<Self> {
        if config.url.is_none()
            && let Some(url) = Embedded::running(config.data_dir.as_deref())?
        {
            return Ok(Self { direct_url: url.clone(), url, embedded: None });
        }
        Self::start(config).await
    }

    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// A session of one's own with PostgreSQL.
    pub fn direct_url(&self) -> &SecretString {
        &self.direct_url
    }

    pub async fn close(self) {
        stop(self.embedded).await;
    }

    async fn start(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.url {
            let direct_url = config.direct_url.as_ref().unwrap_or(url);
            return Ok(Self { url: url.clone(), direct_url: direct_url.clone(), embedded: None });
        }
        let (dir, launcher) = (config.data_dir.clone(), config.launcher.clone());
        let start = move || Embedded::start(dir.as_deref(), &launcher);
        let embedded = tokio::task::spawn_blocking(start).await.context("starting the embedded database")??;
        Ok(Self { url: embedded.url().clone(), direct_url: embedded.url().clone(), embedded: Some(embedded) })
    }
}

async fn stop(embedded: Option<Embedded>) {
    let Some(embedded) = embedded else { return };
    if tokio::task::spawn_blocking(move || embedded.stop()).await.is_err() {
        tracing::error!("stopping the embedded database failed");
    }
}

async fn make_ready(pool: &Pool, migrate: Option<&SecretString>, config: &Config) -> anyhow::Result<()> {
    wait_for(pool).await?;
    refuse_unsafe(pool, config.allow_unsafe).await?;
    let Some(direct_url) = migrate else { return Ok(()) };
    let applied = migrate::up(direct_url, migrate::FILES).await?;
    if !applied.is_empty() {
        tracing::info!(?applied, "the schema was brought up to date");
    }
    Ok(())
}

async fn wait_for(pool: &Pool) -> anyhow::Result<()> {
    let until = Deadline::after(REACH_TIMEOUT);
    while let Err(failure) = pool.ping(until.capped(CHECK_TIMEOUT)).await {
        if until.left() < REACH_AGAIN {
            bail!("the database does not answer: {failure}; check DATABASE_URL");
        }
        tokio::time::sleep(REACH_AGAIN).await;
    }
    Ok(())
}

/// An acknowledgement means that the message outlives a crash of the database's machine. With one of these off, it does not.
async fn refuse_unsafe(pool: &Pool, allowed: bool) -> anyhow::Result<()> {
    const SQL: &str = "SELECT name FROM pg_settings
         WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name";
    let deadline = Deadline::after(CHECK_TIMEOUT);
    let rows = pool.get(deadline).await?.query(SQL, &[], deadline).await?;
    let off: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    match (off.is_empty(), allowed) {
        (true, _) => Ok(()),
        (false, true) => {
            tracing::error!(?off, "THIS DATABASE MAY LOSE MESSAGES THAT WERE ACKNOWLEDGED: these settings are off");
            Ok(())
        }
        (false, false) => bail!(
            "the database may lose messages that were acknowledged: {} off. \
             Turn on what is off, or accept the loss with --allow-unsafe-database",
            off.join(" and ") + if off.len() == 1 { " is" } else { " are" },
        ),
    }
}
