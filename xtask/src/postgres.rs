//! A private PostgreSQL for the tests, which ends with the task however that ends.
//!
//! Its settings are those of production, `fsync` included; where there is room its files are in memory, so that this
//! costs nothing. A test that pulls the plug starts its own.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{command, packages};

pub(crate) struct Cluster {
    keeper: Child,
    port: u16,
    folder: PathBuf,
}

/// Keeps PostgreSQL ($1, its arguments from $3 on) until its own input ends, which the kernel sees to when the task ends
/// in any way; then removes the folder $2.
const KEEPER: &str = r#"
postgres=$1 folder=$2; shift 2
"$postgres" "$@" </dev/null >"$folder/server.log" 2>&1 &
pid=$!
trap '' INT TERM HUP
read -r _
kill -INT $pid 2>/dev/null
wait $pid
rm -rf "$folder"
"#;

impl Cluster {
    pub(crate) fn start() -> anyhow::Result<Cluster> {
        let owner = Owner::find()?;
        let folder = folder(&owner)?;
        let data = folder.join("data");
        let postgres = packages::find("postgres").context("no PostgreSQL is installed")?;
        let initdb = postgres.with_file_name("initdb");
        let mut init = Command::new(initdb);
        init.arg("-D").arg(&data).args(["-U", "bowline", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = command::output(owner.becomes(init.current_dir(&folder))).and_then(|_| {
            let mut keeper = Command::new("sh");
            keeper.args(["-c", KEEPER, "keeper"]).arg(&postgres).arg(&folder).arg("-D").arg(&data);
            keeper.args(settings(port, &folder)).current_dir(&folder);
            keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            Ok(owner.becomes(&mut keeper).spawn()?)
        });
        match started {
            Ok(keeper) => {
                let mut cluster = Cluster { keeper, port, folder };
                cluster.wait(&data)?;
                Ok(cluster)
            }
            Err(error) => {
                fs::remove_dir_all(&folder)?;
                Err(error)
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://bowline@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.close()
    }

    /// Until line 8 of the lock file says that connections are accepted.
    fn wait(&mut self, data: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            let lock = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if lock.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if self.keeper.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut log = String::new();
        File::open(self.folder.join("server.log")).and_then(|mut f| f.read_to_string(&mut log))?;
        bail!("PostgreSQL does not start:\n{log}")
    }

    fn close(&mut self) -> anyhow::Result<()> {
        drop(self.keeper.stdin.take());
        self.keeper.wait()?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After `stop` this does nothing; after a failure nobody is left to hear of another one.
        let _ = self.close();
    }
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
        "recovery_init_sync_method=syncfs",
        "timezone=UTC",
        "log_timezone=UTC",
    ];
    set.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]).collect()
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package made.
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn find() -> anyhow::Result<Owner> {
        let id = |arguments: &[&str]| -> anyhow::Result<u32> {
            Ok(command::output(Command::new("id").args(arguments))?.trim().parse()?)
        };
        Ok(Owner(if id(&["-u"])? == 0 { Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)) } else { None }))
    }

    fn becomes<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self.0 {
            Some((user, group)) => command.uid(user).gid(group),
            None => command,
        }
    }
}

/// A folder for the cluster's owner alone: in memory where there is room for some gigabytes, else where temporary
/// files are. Never in the repository, whose parents the owner may not be allowed to pass.
fn folder(owner: &Owner) -> anyhow::Result<PathBuf> {
    const ROOM_KIB: u64 = 6 << 20;
    let memory = Path::new("/dev/shm");
    let parent =
        if free_kib(memory).is_some_and(|free| free > ROOM_KIB) { memory.to_owned() } else { std::env::temp_dir() };
    let folder = parent.join(format!("bowline-tests-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| folder.display().to_string())?;
    if let Some((user, group)) = owner.0 {
        chown(&folder, Some(user), Some(group))?;
    }
    let mut reached = Command::new("test");
    command::run(owner.becomes(reached.arg("-w").arg(&folder)))
        .context("the user postgres can't reach the folder of temporary files")?;
    Ok(folder)
}

fn free_kib(folder: &Path) -> Option<u64> {
    let table = command::output(Command::new("df").arg("-Pk").arg(folder)).ok()?;
    table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}
