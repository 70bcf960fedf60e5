//! Servers that can be killed and come back at the same address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command;
use crate::kept::Kept;
use crate::pod::Pod;

pub(crate) struct Nodes {
    nodes: Vec<Node>,
    folder: PathBuf,
}

struct Node {
    process: Kept,
    port: u16,
    alive: bool,
}

/// Where servers run, and what they are told beside.
#[derive(Default)]
pub(crate) struct Place<'a> {
    pub(crate) settings: &'a [&'a str],
    pub(crate) pod: Option<&'a Pod>,
}

/// What nodes of one deployment sign their tokens with, so that they take each other's, and those of whoever knows it.
pub(crate) const SECRET: &str = "one secret for all nodes of this run";
/// Everyone here comes from one address, and load from few sockets.
const LIMITS: [&str; 4] = ["--set", "http.logins_per_address.burst=1000", "--set", "limits.commands_per_s=0"];

impl Nodes {
    /// With a database these are nodes over it; without, there is one, on its embedded database.
    pub(crate) fn start(
        program: &Path,
        count: usize,
        database: Option<&str>,
        place: &Place<'_>,
    ) -> anyhow::Result<Nodes> {
        let folder = std::env::temp_dir().join(format!("bowline-nodes-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut nodes = Nodes { nodes: Vec::new(), folder };
        if let Some(url) = database {
            command::output(Command::new(program).arg("migrate").env("DATABASE_URL", url).current_dir(&nodes.folder))?;
        }
        for number in 0..count {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut serve = Command::new(program);
            let tokens = format!("accounts.tokens.secret={SECRET}");
            serve.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--set", &tokens]);
            serve.args(LIMITS);
            serve.args(place.settings.iter().flat_map(|setting| ["--set", setting]));
            match database {
                Some(url) => serve.env("DATABASE_URL", url),
                None => serve.env_remove("DATABASE_URL").arg("--data-dir").arg(nodes.data_dir()),
            };
            let log = nodes.log(number);
            let process = match place.pod {
                Some(pod) => Kept::start(&pod.within(&serve), None, "TERM", &log, Some(pod.folder()))?,
                None => Kept::start(&serve, None, "TERM", &log, None)?,
            };
            nodes.nodes.push(Node { process, port, alive: true });
        }
        nodes.wait()?;
        Ok(nodes)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.port)).collect()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.pid()).collect()
    }

    pub(crate) fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes[number].alive = false;
        self.nodes[number].process.kill()
    }

    /// The embedded database of a node, by the pid that its lock file names.
    pub(crate) fn kill_database(&self, number: usize) -> anyhow::Result<()> {
        let pid = command::output(Command::new("find").arg(self.data_dir()).args(["-name", "postmaster.pid"]))?;
        let lock = fs::read_to_string(pid.lines().next().with_context(|| format!("node {number} has no database"))?)?;
        let pid = lock.lines().next().context("an empty lock file")?;
        command::run(Command::new("kill").args(["-s", "KILL", pid]))
    }

    /// Starts what is dead, and waits until every node takes connections and has its database.
    pub(crate) fn start_the_dead(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.alive) {
            node.process.again()?;
            node.alive = true;
        }
        self.wait()
    }

    pub(crate) fn restart_all(&mut self) -> anyhow::Result<()> {
        for number in 0..self.nodes.len() {
            self.kill(number)?;
        }
        self.start_the_dead()
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        for node in self.nodes.drain(..) {
            node.process.stop()?;
        }
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(60);
        for (number, node) in self.nodes.iter().enumerate() {
            let start = Instant::now();
            while !is_ready(node.port) {
                if start.elapsed() > PATIENCE {
                    let log = fs::read_to_string(self.log(number)).unwrap_or_default();
                    bail!("node {number} is not ready after {} s:\n{log}", PATIENCE.as_secs());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("node-{number}.log"))
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // They must have ended before their files go.
        self.nodes.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_ready(port: u16) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
