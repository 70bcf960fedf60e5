//! Databases and a PgBouncer of a test's own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// A fresh database on the server that `BOWLINE_TEST_DATABASE_URL` names.
pub(crate) struct Database {
    pub name: String,
    pub url: String,
    /// Connected to the server's own database, not to this one.
    pub admin: Client,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let server = std::env::var("BOWLINE_TEST_DATABASE_URL").expect("BOWLINE_TEST_DATABASE_URL names a PostgreSQL");
        let admin = connect(&server).await;
        let name = format!("storage_{}", Uuid::now_v7().simple());
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{base}/{name}"), name, admin }
    }

    pub(crate) async fn admin_on_it(&self) -> Client {
        connect(&self.url).await
    }

    /// Whether a statement that contains this text runs in this database.
    pub(crate) async fn runs(&self, text: &str) -> bool {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = $1 AND state = 'active' AND strpos(query, $2) > 0";
        let rows = self.admin.query_typed(sql, &[(&self.name, Type::TEXT), (&text, Type::TEXT)]).await.unwrap();
        rows[0].get::<_, i64>(0) > 0
    }
}

/// A PgBouncer in transaction mode before one database.
pub(crate) struct PgBouncer {
    pub url: String,
    child: Child,
    folder: PathBuf,
}

impl PgBouncer {
    pub(crate) async fn start(database: &Database) -> Self {
        let target: tokio_postgres::Config = database.url.parse().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("pgbouncer-{}", Uuid::now_v7().simple()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("pgbouncer.ini");
        let config = format!(
            "[databases]\n{name} = host=127.0.0.1 port={target_port} dbname={name} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 50\nmax_client_conn = 1000\nquery_wait_timeout = 3\n",
            name = database.name,
            target_port = target.get_ports()[0],
            user = target.get_user().unwrap(),
        );
        fs::write(&file, config).unwrap();
        // It refuses to run as root.
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "/usr/sbin/pgbouncer"]);
            command
        } else {
            Command::new("pgbouncer")
        };
        command.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("this test needs PgBouncer: apt-get install pgbouncer");
        let url = format!("postgres://bowline@127.0.0.1:{port}/{}", database.name);
        let started = Self { url, child, folder };
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        until("PgBouncer listens (is it installed? apt-get install pgbouncer)", listens).await;
        started
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits for a condition; the bound is for a test that fails.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
