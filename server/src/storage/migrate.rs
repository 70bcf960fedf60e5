//! The schema: files of `migrations/postgres`, compiled in, applied by number. Each has its way back.
//!
//! Only one process migrates a database at a time. A file that begins with `-- no-transaction` runs outside one, as
//! `CREATE INDEX CONCURRENTLY` needs; what such a file leaves half-built when it is interrupted is removed before the
//! next attempt.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

/// One file: its name, `NNNN_what.up.sql` or `NNNN_what.down.sql`, and what is in it.
pub type File = (&'static str, &'static str);

/// The files compiled in, in order of name.
pub const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// A process that migrates holds this advisory lock of the database.
const LOCK: i64 = 0x626f_776c_696e_6501;
const LOCK_POLL: Duration = Duration::from_millis(200);
const LOCK_ATTEMPTS: u32 = 5 * 600;

/// A migration may take long. What it waits for makes the traffic wait behind it, so that is bounded; an index built
/// concurrently waits for the transactions of the traffic, which their own timeouts end sooner.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'; SET client_min_messages = warning";

const NO_TRANSACTION: &str = "-- no-transaction";

/// One migration, and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub number: i64,
    pub name: String,
    pub applied: bool,
}

/// Applies what is missing; returns the numbers that were applied. A database that knows newer files than this binary
/// is left as it is: schema changes expand first, so an older binary works on a newer schema.
pub async fn up(url: &SecretString, files: &[File]) -> anyhow::Result<Vec<i64>> {
    let migrator = migrator(files)?;
    let mut turn = Turn::take(url, LOCK).await?;
    let connection = &mut turn.0;
    let before = applied(connection).await?;
    drop_half_built_indexes(connection).await?;
    migrator.run_direct(None, &mut *connection, false).await?;
    refuse_half_built_indexes(connection).await?;
    let after = applied(connection).await?;
    turn.end().await?;
    Ok(after.into_iter().filter(|number| !before.contains(number)).collect())
}

/// Takes back every migration above `to` (0: all), newest first; returns the numbers that were taken back.
pub async fn down(url: &SecretString, files: &[File], to: i64) -> anyhow::Result<Vec<i64>> {
    let migrator = migrator(files)?;
    let mut turn = Turn::take(url, LOCK).await?;
    let connection = &mut turn.0;
    let mut before = applied(connection).await?;
    if let Some(unknown) = before.iter().rev().find(|number| **number > to && !migrator.version_exists(**number)) {
        bail!(
            "migration {unknown} is in the database but not in this binary: take it back with the binary that has it"
        );
    }
    migrator.undo(&mut *connection, to).await?;
    let after = applied(connection).await?;
    turn.end().await?;
    before.retain(|number| !after.contains(number));
    before.reverse();
    Ok(before)
}

/// Every migration that this binary or the database knows.
pub async fn status(url: &SecretString, files: &[File]) -> anyhow::Result<Vec<Step>> {
    let migrator = migrator(files)?;
    let mut connection = connect(url).await?;
    let applied = applied(&mut connection).await?;
    connection.close().await?;
    let known = migrator.iter().filter(|file| file.migration_type.is_up_migration());
    let mut steps: Vec<Step> = known
        .map(|file| Step {
            number: file.version,
            name: file.description.to_string(),
            applied: applied.contains(&file.version),
        })
        .collect();
    for number in applied.into_iter().filter(|number| !migrator.version_exists(*number)) {
        steps.push(Step { number, name: "(not in this binary)".to_owned(), applied: true });
    }
    steps.sort_by_key(|step| step.number);
    Ok(steps)
}

/// What the name of a file says.
pub(super) struct Name {
    pub number: i64,
    pub what: &'static str,
    pub up: bool,
}

impl Name {
    pub(super) fn read(name: &'static str) -> anyhow::Result<Self> {
        let expected = || format!("migration {name}: expected NNNN_what.up.sql or NNNN_what.down.sql");
        let (stem, up) = match (name.strip_suffix(".up.sql"), name.strip_suffix(".down.sql")) {
            (Some(stem), _) => (stem, true),
            (_, Some(stem)) => (stem, false),
            _ => bail!(expected()),
        };
        let (number, what) = stem.split_once('_').with_context(expected)?;
        Ok(Self { number: number.parse().with_context(expected)?, what, up })
    }
}

/// An advisory lock of the database: one process at a time migrates. It ends with the connection.
pub(super) struct Turn(PgConnection);

impl Turn {
    /// Waits by asking again: one that waits inside the database holds a snapshot, and `CREATE INDEX CONCURRENTLY` of the
    /// process that migrates waits for every snapshot.
    pub(super) async fn take(url: &SecretString, lock: i64) -> anyhow::Result<Self> {
        let mut connection = connect(url).await?;
        for attempt in 0..LOCK_ATTEMPTS {
            let (got,): (bool,) =
                sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(lock).fetch_one(&mut connection).await?;
            if got {
                return Ok(Self(connection));
            }
            if attempt == 0 {
                tracing::info!("another process migrates this database; waiting for it");
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
        bail!("another process has been migrating this database for {} s", (LOCK_POLL * LOCK_ATTEMPTS).as_secs())
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        Ok(self.0.close().await?)
    }
}

fn migrator(files: &[File]) -> anyhow::Result<Migrator> {
    let migrations = files.iter().map(|file| read(*file)).collect::<anyhow::Result<Vec<_>>>()?;
    for up in migrations.iter().filter(|file| file.migration_type.is_up_migration()) {
        let same = |other: &&Migration| other.version == up.version;
        let (all, downs): (Vec<_>, Vec<_>) =
            migrations.iter().filter(same).partition(|file| file.migration_type.is_up_migration());
        ensure!(all.len() == 1, "two migrations have the number {}", up.version);
        ensure!(downs.len() == 1, "migration {} has no way back: add its .down.sql", up.version);
    }
    let mut migrator = Migrator::with_migrations(migrations);
    // The lock is taken here, see `Turn`.
    migrator.set_locking(false).set_ignore_missing(true);
    Ok(migrator)
}

fn read((name, sql): File) -> anyhow::Result<Migration> {
    let Name { number, what, up } = Name::read(name)?;
    let kind = if up { MigrationType::ReversibleUp } else { MigrationType::ReversibleDown };
    let no_transaction = sql.starts_with(NO_TRANSACTION);
    let concurrently =
        sql.lines().any(|line| !line.trim_start().starts_with("--") && line.to_uppercase().contains("CONCURRENTLY"));
    ensure!(
        no_transaction || !concurrently,
        "migration {name}: CONCURRENTLY needs `{NO_TRANSACTION}` as the first line"
    );
    Ok(Migration::new(number, what.replace('_', " ").into(), kind, sql.into_sql_str(), no_transaction))
}

async fn connect(url: &SecretString) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url.expose_secret()).await.context("connecting to the database")?;
    connection.execute(SESSION).await?;
    Ok(connection)
}

async fn applied(connection: &mut PgConnection) -> anyhow::Result<Vec<i64>> {
    let (exists,): (bool,) =
        sqlx::query_as("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(Vec::new());
    }
    Ok(connection.list_applied_migrations("_sqlx_migrations").await?.into_iter().map(|step| step.version).collect())
}

const HALF_BUILT: &str = "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace AND c.relkind = 'i'";

/// An interrupted `CREATE INDEX CONCURRENTLY` leaves an invalid index whose name is taken. With the lock held, nobody is
/// building one.
async fn drop_half_built_indexes(connection: &mut PgConnection) -> anyhow::Result<()> {
    let names: Vec<(String,)> = sqlx::query_as(HALF_BUILT).fetch_all(&mut *connection).await?;
    for (name,) in names {
        tracing::warn!(name, "removing an index that an interrupted migration left half-built");
        // regclass's text is quoted where it must be.
        connection.execute(AssertSqlSafe(format!("DROP INDEX {name}"))).await?;
    }
    Ok(())
}

async fn refuse_half_built_indexes(connection: &mut PgConnection) -> anyhow::Result<()> {
    let names: Vec<(String,)> = sqlx::query_as(HALF_BUILT).fetch_all(&mut *connection).await?;
    let names: Vec<_> = names.into_iter().map(|(name,)| name).collect();
    ensure!(
        names.is_empty(),
        "indexes left invalid by a migration: {}; run `bowline migrate up` again",
        names.join(", ")
    );
    Ok(())
}
