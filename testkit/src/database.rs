use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Where tests find a PostgreSQL server and a role that may create databases.
const URL_VARIABLE: &str = "BOWLINE_TEST_DATABASE_URL";
/// Dropping a database forces a checkpoint on everyone, so it is left to those that build the next template.
const KEEP_CLONES: Duration = Duration::from_secs(3_600);
const LOCK: i64 = 0x626f_776c_696e_6502;

/// A database of one test's own, on a real server. It is left behind, and dropped an hour later by another run.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    url: String,
}

impl TestDatabase {
    /// With every migration applied: a clone of a template that is built once for each state of the migrations.
    pub async fn create() -> Self {
        Self::from_template("template", "").await.expect("a database for this test")
    }

    /// Without any table.
    pub async fn empty() -> Self {
        let made = async {
            let admin = connect(&server_url()?).await?;
            let name = clone_name()?;
            admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
            anyhow::Ok(Self { url: url_of(&name)? })
        };
        made.await.expect("a database for this test")
    }

    /// A large database that takes long to fill: migrated, filled by `sql` once for each state of both, then shared by
    /// all tests that ask for it. Whoever writes to it rolls back.
    pub async fn shared(name: &str, sql: &str) -> Self {
        let made = async {
            let name = build(name, sql).await?;
            anyhow::Ok(Self { url: url_of(&name)? })
        };
        made.await.expect("the shared database")
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of the test's own, outside any pool. It ends when the client is dropped.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await.expect("a connection to the test's database")
    }

    async fn from_template(name: &str, sql: &str) -> anyhow::Result<Self> {
        let template = build(name, sql).await?;
        let admin = connect(&server_url()?).await?;
        let name = clone_name()?;
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        Ok(Self { url: url_of(&name)? })
    }
}

/// The name of the database that has the migrations and what `sql` fills in; made if it is not there.
async fn build(name: &str, sql: &str) -> anyhow::Result<String> {
    let name = format!("bowline_{name}_{:016x}", state_of_migrations(sql)?);
    let admin = connect(&server_url()?).await?;
    // Held until `admin` is dropped.
    admin.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    if admin.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await?.is_some() {
        return Ok(name);
    }
    drop_old_clones(&admin).await?;
    let unfinished = format!("{name}_unfinished");
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished}")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {unfinished}")).await?;
    migrate(&url_of(&unfinished)?).await?;
    if !sql.is_empty() {
        let client = connect(&url_of(&unfinished)?).await?;
        client.batch_execute("SET statement_timeout = 0").await?;
        client.batch_execute(sql).await?;
    }
    // A closed connection leaves a moment after its client.
    admin
        .execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", &[&unfinished])
        .await?;
    admin.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await?;
    Ok(name)
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await?;
    sqlx::migrate::Migrator::new(migrations().as_path()).await?.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn drop_old_clones(admin: &Client) -> anyhow::Result<()> {
    let oldest = now()?.saturating_sub(KEEP_CLONES).as_secs();
    for row in admin.query("SELECT datname::text FROM pg_database WHERE datname LIKE 'bowline\\_test\\_%'", &[]).await?
    {
        let name: String = row.get(0);
        let made = name.split('_').nth(2).and_then(|seconds| seconds.parse::<u64>().ok());
        if made.is_some_and(|made| made < oldest) {
            // One that is in use stays.
            let _ = admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await;
        }
    }
    Ok(())
}

fn state_of_migrations(sql: &str) -> anyhow::Result<u64> {
    let mut files =
        std::fs::read_dir(migrations())?.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file)?.hash(&mut hasher);
    }
    sql.hash(&mut hasher);
    Ok(hasher.finish())
}

fn migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres")
}

fn server_url() -> anyhow::Result<String> {
    std::env::var(URL_VARIABLE).with_context(|| format!("{URL_VARIABLE} names the PostgreSQL server of the tests"))
}

fn url_of(database: &str) -> anyhow::Result<String> {
    let server = server_url()?;
    let (server, _) = server.rsplit_once('/').context("a URL that ends in /DATABASE")?;
    Ok(format!("{server}/{database}"))
}

fn clone_name() -> anyhow::Result<String> {
    Ok(format!("bowline_test_{}_{}", now()?.as_secs(), Uuid::new_v4().simple()))
}

fn now() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}
