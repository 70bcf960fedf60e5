use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long a test waits for what a server owes it. Far longer than it takes: the bound is for a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node: the real program in a process of its own, on the loopback. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    program: String,
    database_url: String,
    settings: Vec<(String, String)>,
    address: SocketAddr,
    child: Child,
    /// Kept open, so that the program can always print.
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts the program on a free port. `settings` are variables of its environment; none is inherited that would
    /// change its configuration.
    ///
    /// The port is bound when this returns, so a connection that comes before the server is ready waits for it.
    pub async fn start(program: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let spawned = spawn(program, database_url, &settings, any).await.expect("a server starts");
        let (child, output, address) = spawned;
        Self { program: program.to_owned(), database_url: database_url.to_owned(), settings, address, child, output }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills it as the kernel does when memory is short, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Asks it to go (SIGTERM), and does not wait.
    pub fn terminate(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it is running");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it takes signals");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends in time").expect("a child of ours")
    }

    /// After its end: starts it again, on the same port and the same database.
    pub async fn start_again(&mut self) {
        let spawned = spawn(&self.program, &self.database_url, &self.settings, self.address).await;
        (self.child, self.output, self.address) = spawned.expect("a server starts again");
    }

    /// Runs another command of the program with the same configuration; what it printed.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = command(&self.program, &self.database_url, &self.settings).args(arguments).output().await;
        let output = output.expect("the program can be run");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

type Settings = Vec<(String, String)>;

async fn spawn(
    program: &str,
    database_url: &str,
    settings: &Settings,
    listen: SocketAddr,
) -> anyhow::Result<(Child, Lines<BufReader<ChildStdout>>, SocketAddr)> {
    let mut child = command(program, database_url, settings)
        .args(["serve", "--listen", &listen.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut output = BufReader::new(child.stdout.take().context("its output")?).lines();
    let line = tokio::time::timeout(PATIENCE, output.next_line()).await.context("it says where it listens")??;
    let Some(address) = line.as_deref().and_then(|line| line.rsplit_once("http://")) else {
        bail!("it ended, or said something else first: {line:?}");
    };
    let address = address.1.parse().with_context(|| format!("an address in {line:?}"))?;
    Ok((child, output, address))
}

fn command(program: &str, database_url: &str, settings: &Settings) -> Command {
    let mut command = Command::new(program);
    let ours =
        |name: &str| ["BOWLINE_", "CLICKHOUSE_", "DATABASE_", "REDIS_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env("DATABASE_URL", database_url);
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    // No bowline.toml of the folder that the tests run in.
    command.current_dir(std::env::temp_dir());
    command
}
