use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio::process::{Child, Command};
use uuid::Uuid;

/// Where Debian and others put the programs that are not in the path.
const PACKAGES: &str = "/usr/lib/postgresql";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A PostgreSQL of one test's own, which the test may stop and start. It ends, and its files go, with this value.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    /// PostgreSQL refuses to run as root: then it runs as the user that its package made.
    owner: Option<(u32, u32)>,
    port: u16,
    child: Child,
}

impl Cluster {
    /// Takes connections when this returns.
    pub async fn start() -> Self {
        Self::make().await.expect("a PostgreSQL for this test")
    }

    pub fn url(&self) -> String {
        format!("postgres://bowline@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it at once, as a crash does: every connection is cut, and nothing is accepted any more.
    pub async fn stop(&mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it is running");
        kill(Pid::from_raw(pid), Signal::SIGQUIT).expect("it takes signals");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("a child of ours");
    }

    /// After [`Cluster::stop`]: recovers, and takes connections when this returns.
    pub async fn start_again(&mut self) {
        self.child = self.spawn().expect("it starts again");
        self.ready().await.expect("it takes connections again");
    }

    async fn make() -> anyhow::Result<Self> {
        let programs = programs()?;
        let owner = match geteuid().is_root() {
            true => User::from_name("postgres")?.map(|user| (user.uid.as_raw(), user.gid.as_raw())),
            false => None,
        };
        let folder = std::env::temp_dir().join(format!("bowline-test-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder)?;
        if let Some((user, group)) = owner {
            chown(&folder, Some(user), Some(group))?;
        }
        let initdb = run_as(owner, &programs.join("initdb"), &folder)
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-U", "bowline", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
            .output()
            .await?;
        ensure!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = serve(owner, &programs, &folder, port)?;
        let cluster = Self { programs, folder, owner, port, child };
        cluster.ready().await?;
        Ok(cluster)
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        serve(self.owner, &self.programs, &self.folder, self.port)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let until_ready = async {
            while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, until_ready).await.context("PostgreSQL does not start")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The processes below it end with it, and no longer write to files that are gone.
        let _ = self.child.start_kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn serve(owner: Option<(u32, u32)>, programs: &Path, folder: &Path, port: u16) -> anyhow::Result<Child> {
    let sockets = format!("unix_socket_directories={}", folder.display());
    let mut command = run_as(owner, &programs.join("postgres"), folder);
    command.arg("-D").arg(folder.join("data"));
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}"), "-c", &sockets]);
    command.args(["-c", "recovery_init_sync_method=syncfs", "-c", "shared_buffers=32MB"]);
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("server.log"))?;
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn()?)
}

fn run_as(owner: Option<(u32, u32)>, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// Those of the newest version that is installed.
fn programs() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
    let packages = fs::read_dir(PACKAGES).into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let installed = packages.filter(|folder| folder.join("initdb").is_file()).max();
    named.or(installed).context("no PostgreSQL is installed")
}
