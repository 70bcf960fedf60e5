//! A private PostgreSQL for the tests, which ends with the task however that ends.
//!
//! Its settings are those of production, `fsync` included. Where there is room its files are in memory, so that this costs
//! nothing; for faults they are on a disk, where a commit takes long enough to be hit.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::kept::{Identity, Kept};
use crate::{command, packages};

pub(crate) struct Cluster {
    process: Kept,
    port: u16,
    folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    InMemory,
    OnDisk,
}

impl Cluster {
    pub(crate) fn start(files: Files) -> anyhow::Result<Cluster> {
        let owner = owner()?;
        let folder = folder(owner, files)?;
        let started = Self::start_in(&folder, owner);
        if started.is_err() {
            fs::remove_dir_all(&folder)?;
        }
        started
    }

    fn start_in(folder: &Path, owner: Identity) -> anyhow::Result<Cluster> {
        init(folder, owner)?;
        let port = free_port()?;
        let process = Kept::start(&serve(folder, port)?, owner, "INT", &folder.join("server.log"), Some(folder))?;
        let cluster = Cluster { process, port, folder: folder.to_owned() };
        cluster.wait()?;
        Ok(cluster)
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// The first line that a query gives.
    pub(crate) fn query(&self, sql: &str) -> anyhow::Result<String> {
        let psql = packages::find("psql").context("no psql is installed")?;
        let lines = command::output(Command::new(psql).args([&self.url(), "-XAtqc", sql]))?;
        Ok(lines.lines().next().unwrap_or_default().to_owned())
    }

    /// With all its processes.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        self.process.kill_family()
    }

    /// After [`Cluster::kill`]: recovers, and is ready.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        self.process.again()?;
        self.wait()
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }

    fn wait(&self) -> anyhow::Result<()> {
        wait(&self.folder, self.process.pid())
    }
}

/// Makes the files of a cluster in `data` of a folder, which its owner can reach.
pub(crate) fn init(folder: &Path, owner: Identity) -> anyhow::Result<()> {
    let mut initdb = Command::new(program()?.with_file_name("initdb"));
    initdb.arg("-D").arg(folder.join("data")).args([
        "-U",
        "bowline",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]);
    command::output(as_owner(&mut initdb, owner).current_dir(folder))?;
    Ok(())
}

/// What serves these files.
pub(crate) fn serve(folder: &Path, port: u16) -> anyhow::Result<Command> {
    let mut serve = Command::new(program()?);
    serve.arg("-D").arg(folder.join("data")).args(settings(port, folder));
    Ok(serve)
}

pub(crate) fn url(port: u16) -> String {
    format!("postgres://bowline@127.0.0.1:{port}/postgres")
}

/// Until line 8 of the lock file, which begins with its pid, says that connections are accepted.
pub(crate) fn wait(folder: &Path, pid: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = lock.lines().map(str::trim).collect();
        if lines.first() == Some(&&*pid.to_string()) && lines.get(7) == Some(&"ready") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    bail!("PostgreSQL does not start:\n{log}")
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn program() -> anyhow::Result<PathBuf> {
    packages::find("postgres").context("no PostgreSQL is installed")
}

fn settings(port: u16, folder: &Path) -> Vec<String> {
    let port = format!("port={port}");
    let sockets = format!("unix_socket_directories={}", folder.display());
    let set = [
        "listen_addresses=127.0.0.1",
        &port,
        &sockets,
        "max_connections=200",
        "shared_buffers=256MB",
        "max_wal_size=1GB",
        // Tests count statements by it.
        "shared_preload_libraries=pg_stat_statements",
        "recovery_init_sync_method=syncfs",
        "timezone=UTC",
        "log_timezone=UTC",
    ];
    set.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]).collect()
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package made.
pub(crate) fn owner() -> anyhow::Result<Identity> {
    let id = |arguments: &[&str]| anyhow::Ok(command::output(Command::new("id").args(arguments))?.trim().parse()?);
    let root: u32 = id(&["-u"])?;
    Ok(if root == 0 { Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)) } else { None })
}

fn as_owner(command: &mut Command, owner: Identity) -> &mut Command {
    match owner {
        Some((user, group)) => command.uid(user).gid(group),
        None => command,
    }
}

/// A folder for the owner alone. Never in the repository, whose parents the owner may not be allowed to pass.
pub(crate) fn folder(owner: Identity, files: Files) -> anyhow::Result<PathBuf> {
    const ROOM_KIB: u64 = 6 << 20;
    let memory = Path::new("/dev/shm");
    let in_memory = files == Files::InMemory && free_kib(memory).is_some_and(|free| free > ROOM_KIB);
    let parent = if in_memory { memory.to_owned() } else { std::env::temp_dir() };
    let mut number = 0;
    let folder = loop {
        let folder = parent.join(format!("bowline-tests-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            made => break made.map(|()| folder).context("no folder for temporary files")?,
        }
    };
    if let Some((user, group)) = owner {
        chown(&folder, Some(user), Some(group))?;
    }
    command::run(as_owner(Command::new("test").arg("-w").arg(&folder), owner))
        .context("the user postgres can't reach the folder of temporary files")?;
    Ok(folder)
}

fn free_kib(folder: &Path) -> Option<u64> {
    let table = command::output(Command::new("df").arg("-Pk").arg(folder)).ok()?;
    table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}
