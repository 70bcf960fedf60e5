use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use uuid::Uuid;

/// Where tests find a ClickHouse server, and a user who may create databases.
const URL_VARIABLE: &str = "BOWLINE_TEST_CLICKHOUSE_URL";
const PATIENCE: Duration = Duration::from_secs(60);
/// The first test ever fetches the server.
const INSTALL_PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);

/// A ClickHouse database of one test's own, on a real server.
#[derive(Debug)]
pub struct ClickHouse {
    /// Of the server, without a database.
    server: String,
    database: String,
    own: Option<Own>,
    http: reqwest::Client,
}

/// A server that ends, and whose files go, with the test.
#[derive(Debug)]
struct Own {
    home: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl ClickHouse {
    /// An empty database on the server of this run of tests; where the run has none, on a server of the test's own.
    pub async fn create() -> Self {
        match std::env::var(URL_VARIABLE) {
            Ok(url) => Self::on(url.trim_end_matches('/').to_owned(), None).await,
            Err(_) => Self::own().await,
        }
    }

    /// An empty database on a server of the test's own, which it may pause, kill and start again.
    pub async fn own() -> Self {
        let own = Own::start().await.expect("a ClickHouse for this test");
        Self::on(format!("http://bowline:secret@127.0.0.1:{}", own.port), Some(own)).await
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.database)
    }

    /// What a statement gives, as tab-separated lines without the last line's end.
    pub async fn query(&self, sql: &str) -> String {
        self.try_query(sql).await.expect("a statement of the test")
    }

    /// What the server has logged of ended statements since it started, under this condition of `system.query_log`: a line
    /// each with the code of the exception (0: none) and how long it ran, in milliseconds.
    pub async fn ended(&self, condition: &str) -> Vec<(i32, u64)> {
        self.query("SYSTEM FLUSH LOGS").await;
        let lines = self
            .query(&format!(
                "SELECT exception_code, query_duration_ms FROM system.query_log
                 WHERE type > 1 AND current_database = '{}' AND query NOT LIKE '%system.%' AND ({condition})",
                self.database
            ))
            .await;
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let line = |line: &str| line.split_once('\t').map(|(code, ms)| (number(code) as i32, number(ms)));
        lines.lines().filter_map(line).collect()
    }

    /// Stops it as it stands (SIGSTOP): connections are taken, and nothing answers.
    pub fn pause(&self) {
        self.own_server().signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.own_server().signal(Signal::SIGCONT);
    }

    /// Kills it as the kernel does when memory is short, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.own.as_mut().expect("a server of the test's own").child.kill().await.expect("it was running");
    }

    /// After [`ClickHouse::kill`], on the same port and files. It answers when this returns.
    pub async fn start_again(&mut self) {
        let own = self.own.as_mut().expect("a server of the test's own");
        own.child = own.spawn().expect("it starts again");
        own.ready().await.expect("it answers again");
    }

    async fn on(server: String, own: Option<Own>) -> Self {
        let database = format!("test_{}", Uuid::new_v4().simple());
        let made = Self { server, database, own, http: reqwest::Client::new() };
        let create = made.http.post(&made.server).body(format!("CREATE DATABASE {}", made.database));
        answer(create).await.expect("a database for this test");
        made
    }

    async fn try_query(&self, sql: &str) -> anyhow::Result<String> {
        let url = format!("{}/?database={}", self.server, self.database);
        answer(self.http.post(url).body(sql.to_owned())).await
    }

    fn own_server(&self) -> &Own {
        self.own.as_ref().expect("a server of the test's own")
    }
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<String> {
    let answer = request.timeout(PATIENCE).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{text}");
    Ok(text.trim_end().to_owned())
}

impl Own {
    async fn start() -> anyhow::Result<Self> {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("clickhouse");
        let install = Command::new("sh").arg(recipe.join("install.sh")).stderr(Stdio::inherit()).output();
        let install = tokio::time::timeout(INSTALL_PATIENCE, install).await.context("fetching ClickHouse")??;
        ensure!(install.status.success(), "ClickHouse could not be installed: see above");
        let home = PathBuf::from(String::from_utf8(install.stdout)?.trim());
        let folder = std::env::temp_dir().join(format!("bowline-test-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder)?;
        for file in ["config.xml", "users.xml"] {
            fs::copy(recipe.join(file), folder.join(file))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = serve(&home, &folder, port)?;
        let own = Self { home, folder, port, child };
        own.ready().await?;
        Ok(own)
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        serve(&self.home, &self.folder, self.port)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let ping = format!("http://127.0.0.1:{}/ping", self.port);
        let until_ready = async {
            while !reqwest::get(&ping).await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let log = || fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        tokio::time::timeout(PATIENCE, until_ready).await.with_context(|| format!("it does not start: {}", log()))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it is running");
        kill(Pid::from_raw(pid), signal).expect("it takes signals");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// It ends with this process too, since its standard input is a pipe from here.
fn serve(home: &Path, folder: &Path, port: u16) -> anyhow::Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("server.log"))?;
    let mut command = Command::new(home.join("server"));
    command.arg(home.join("library")).arg(folder.join("data")).arg(port.to_string()).arg(folder.join("config.xml"));
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    command.kill_on_drop(true).spawn().context("the server can't be started")
}
