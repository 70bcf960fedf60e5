//! What a measurement stands on: release builds, a PostgreSQL with its files on a disk, servers over it, and the load tool.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::command::{self, cargo};
use crate::nodes::{Nodes, Place, SECRET};
use crate::packages;
use crate::postgres::{Cluster, Files};

pub(crate) struct Bed {
    database: Cluster,
    pub(crate) nodes: Nodes,
}

impl Bed {
    pub(crate) fn make(nodes: usize, place: &Place<'_>) -> anyhow::Result<Bed> {
        let database = Cluster::start(Files::OnDisk)?;
        let nodes = Nodes::start(&command::built("bowline", true), nodes, Some(&database.url()), place)?;
        Ok(Bed { database, nodes })
    }

    /// Runs a scenario against the servers, its output shown. Whether it says that all was well.
    pub(crate) fn load(&self, scenario: &[&str]) -> anyhow::Result<bool> {
        let mut load = Command::new(command::built("bowline-loadtest", true));
        load.args(scenario).args(["--issuer", "bowline"]).env("LOADTEST_TOKEN_SECRET", SECRET);
        load.args(self.nodes.urls().iter().flat_map(|url| ["--url".to_owned(), url.clone()]));
        load.args(self.nodes.pids().iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
        let status = load.status()?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => bail!("the load tool could not run: {status}"),
        }
    }

    /// In the order in which they need each other.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.nodes.stop()?;
        self.database.stop()
    }
}

/// The programs, as they are shipped.
pub(crate) fn build() -> anyhow::Result<()> {
    packages::install()?;
    let release = ["build", "--quiet", "--release", "--bins", "--package", "bowline", "--package", "bowline-loadtest"];
    command::run(cargo().args(release))
}

/// `VmRSS` and the like of a process, in KiB.
pub(crate) fn status_kib(pid: u32, name: &str) -> Option<u64> {
    file_kib(&Path::new("/proc").join(pid.to_string()).join("status"), name)
}

/// What the machine could still give, in KiB.
pub(crate) fn available_kib() -> Option<u64> {
    file_kib(Path::new("/proc/meminfo"), "MemAvailable")
}

fn file_kib(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
