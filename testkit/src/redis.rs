use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// A Redis of one test's own, in memory, which the test may kill, hang and start again. It ends with this value.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    /// Answers when this returns.
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let redis = Self { port, child: spawn(port).expect("this test needs Redis: apt-get install redis-server") };
        redis.ready().await.expect("Redis starts");
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As when the kernel is short of memory: all that it held is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// After [`Redis::kill`]: empty, on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(self.port).expect("it starts again");
        self.ready().await.expect("it answers again");
    }

    /// Connections stay open, and nothing is answered until [`Redis::go_on`].
    pub fn hang(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it is running");
        kill(Pid::from_raw(pid), signal).expect("it takes signals");
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let until_ready = async {
            while !self.answers().await.unwrap_or(false) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, until_ready).await.context("Redis does not start")
    }

    async fn answers(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(&answer == b"+PONG")
    }
}

fn spawn(port: u16) -> anyhow::Result<Child> {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--maxmemory", "128mb", "--maxmemory-policy", "noeviction"]).current_dir(std::env::temp_dir());
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?)
}
