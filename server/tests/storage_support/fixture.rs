//! Databases and a PgBouncer of a test's own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bowline_testkit::TestDatabase;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// An empty database, and what the tests ask the server about it.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
    /// A connection beside the pool that is tested.
    pub(crate) admin: Client,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let database = TestDatabase::empty().await;
        let (_, name) = database.url().rsplit_once('/').unwrap();
        Self { name: name.to_owned(), url: database.url().to_owned(), admin: database.connect().await }
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

/// Waits for a condition; the bound is for a test that fails.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
