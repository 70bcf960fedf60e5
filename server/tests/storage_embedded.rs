//! The embedded database through the real binary: it lives and dies with its server, and loses nothing it confirmed.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "storage_support/fixture.rs"]
mod fixture;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// A data directory that PostgreSQL's user can pass through.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("embedded-{}", Uuid::now_v7().simple()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that runs; killed at the end of a test that fails.
struct Server {
    child: Child,
    data: PathBuf,
}

impl Server {
    fn spawn(data: &Path) -> Self {
        let child = bowline(data, &["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, data: data.to_owned() }
    }

    async fn start(data: &Path) -> Self {
        let mut server = Self::spawn(data);
        server.client().await;
        server
    }

    /// Connected to its database, once that is ready.
    async fn client(&mut self) -> Client {
        let mut client = None;
        fixture::until("the embedded database answers", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended ({status}): {}", self.said());
            }
            client = connect(&self.data).await;
            client.is_some()
        })
        .await;
        client.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        fixture::until("the server ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bowline(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(arguments).arg("--data-dir").arg(data).env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    bowline(data, arguments).output().unwrap()
}

/// Line 1 of PostgreSQL's lock file is its pid, line 5 where it listens, line 8 whether it is ready.
fn lock_file(data: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(data.join("pg/data/postmaster.pid")).ok()?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    (lines.get(7)? == "ready").then_some(lines)
}

async fn connect(data: &Path) -> Option<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(&lock_file(data)?[4]).user("bowline").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

async fn rows(client: &Client) -> Vec<i64> {
    let rows = client.query_typed("SELECT id FROM kept ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

const KEPT: &str = "CREATE TABLE IF NOT EXISTS kept (id bigint PRIMARY KEY)";

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let folder = Folder::new();
    let data = folder.data();
    let mut server = Server::start(&data).await;
    let client = server.client().await;
    client.batch_execute(&format!("{KEPT}; INSERT INTO kept VALUES (1), (2)")).await.unwrap();
    server.signal(Signal::SIGTERM);
    assert!(server.ended().await.success(), "{}", server.said());
    assert!(!data.join("pg/data/postmaster.pid").exists(), "PostgreSQL did not stop first");

    let mut server = Server::start(&data).await;
    assert_eq!(rows(&server.client().await).await, [1, 2]);
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_and_an_operator_is_not() {
    let folder = Folder::new();
    let data = folder.data();
    let mut server = Server::start(&data).await;
    let second = run(&data, &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("in use by another bowline"), "{said}");

    let status = run(&data, &["migrate", "status"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(server.child.try_wait().unwrap().is_none(), "the first goes on");
}

#[tokio::test]
async fn nothing_confirmed_is_lost_when_the_server_or_all_is_killed_under_load() {
    let folder = Folder::new();
    let data = folder.data();
    let next = Arc::new(AtomicI64::new(0));
    let confirmed = Arc::new(Mutex::new(Vec::new()));
    for round in 0..6 {
        let mut server = Server::start(&data).await;
        let client = server.client().await;
        client.batch_execute(KEPT).await.unwrap();
        let before = confirmed.lock().unwrap().len();
        let mut writers = JoinSet::new();
        for _ in 0..4 {
            let client = server.client().await;
            let (next, confirmed) = (Arc::clone(&next), Arc::clone(&confirmed));
            writers.spawn(async move {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let stored = client.query_typed("INSERT INTO kept VALUES ($1)", &[(&id, Type::INT8)]).await;
                    if stored.is_err() {
                        return;
                    }
                    confirmed.lock().unwrap().push(id);
                }
            });
        }
        fixture::until("there is load", async || confirmed.lock().unwrap().len() > before + 200).await;
        let postmaster = Pid::from_raw(lock_file(&data).unwrap()[0].parse().unwrap());
        server.signal(Signal::SIGKILL);
        if round % 2 == 1 {
            // The database too, before it hears of its server's end; it may have heard already.
            let _ = kill(postmaster, Signal::SIGKILL);
        }
        server.ended().await;
        // They end because the database ended with its server.
        while writers.join_next().await.is_some() {}
    }
    let mut server = Server::start(&data).await;
    let stored = rows(&server.client().await).await;
    let confirmed = confirmed.lock().unwrap().clone();
    let lost: Vec<_> = confirmed.iter().filter(|id| stored.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "lost {} of {}: {lost:?}", lost.len(), confirmed.len());
    println!("{} confirmed, none lost", confirmed.len());
}

#[tokio::test]
async fn a_first_start_that_was_killed_at_any_point_is_done_again() {
    let has =
        |folder: PathBuf, prefix: &str, file: &str| {
            fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
                entry.file_name().to_string_lossy().starts_with(prefix) && entry.path().join(file).exists()
            })
        };
    for (prefix, file) in [("init.", ""), ("init.", "PG_VERSION"), ("init.", "global/pg_control"), ("data", "")] {
        let folder = Folder::new();
        let data = folder.data();
        let mut killed = Server::spawn(&data);
        fixture::until("it has come that far", async || has(data.join("pg"), prefix, file)).await;
        killed.signal(Signal::SIGKILL);
        killed.ended().await;

        let _server = Server::start(&data).await;
        assert!(!has(data.join("pg"), "init.", ""), "left over after {prefix} {file}");
    }
}

#[tokio::test]
async fn a_server_whose_database_dies_says_so_and_exits_with_an_error() {
    let folder = Folder::new();
    let data = folder.data();
    let mut server = Server::start(&data).await;
    let postmaster = lock_file(&data).unwrap()[0].parse().unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1));
    let said = server.said();
    assert!(said.contains("PostgreSQL ended by itself"), "{said}");

    Server::start(&data).await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_no_obstacle() {
    let folder = Folder::new();
    let data = folder.0.join("deep".repeat(30));
    let mut server = Server::start(&data).await;
    server.client().await.batch_execute(KEPT).await.unwrap();
    let sockets = PathBuf::from(&lock_file(&data).unwrap()[4]);
    assert!(!sockets.starts_with(&folder.0));
    assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    server.signal(Signal::SIGTERM);
    assert!(server.ended().await.success());
    assert!(!sockets.exists(), "left behind: {}", sockets.display());
}

#[tokio::test]
async fn root_is_told_when_the_directory_is_closed_to_the_database() {
    assert!(nix::unistd::geteuid().is_root(), "this test is about root: run it as root");
    let folder = Folder::new();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
    let refused = run(&folder.data(), &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    for expected in [folder.0.to_str().unwrap(), "--data-dir /var/lib/bowline", "DATABASE_URL"] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
}

#[tokio::test]
async fn programs_that_are_not_there_are_named() {
    let folder = Folder::new();
    let refused = bowline(&folder.data(), &["serve", "--listen", "127.0.0.1:0"])
        .env("BOWLINE_PG_BIN", "/nowhere/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("BOWLINE_PG_BIN=/nowhere/bin"), "{said}");
}
