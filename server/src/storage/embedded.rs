//! The embedded default: a private PostgreSQL that runs as a child of the server, when no database is configured.
//!
//! Same SQL, pool and guarantees as with a database of one's own. It listens on a Unix socket in a folder of mode 0700,
//! never on TCP, and never runs with fsync off.
//!
//! Always holds: one server a data directory (a lock that the kernel frees with the process); the database ends when
//! its server does, `kill -9` included; nothing confirmed is lost by either.

mod binaries;
mod child;
mod cluster;
mod owner;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;
use tokio::sync::watch;

pub use child::{ChildArgs, become_child};
use cluster::Cluster;
use owner::Owner;

/// A PostgreSQL that runs as our child. Dropped without [`Embedded::stop`], it is told to stop and not waited for.
pub struct Embedded {
    url: SecretString,
    dir: PathBuf,
    child: child::Running,
    outside: Option<PathBuf>,
    /// Held for as long as the database may run.
    _lock: File,
}

impl Embedded {
    /// Starts the database of this data directory, creating it first if need be. Takes about a second, the first time up
    /// to a few; blocks the thread.
    ///
    /// `launcher` is this program, run again with the hidden command `postgres-child`.
    pub fn start(data_dir: Option<&Path>, launcher: &Path) -> anyhow::Result<Self> {
        let owner = Owner::of_this_process()?;
        let dir = owner.data_dir(data_dir)?;
        let lock = lock(&dir)?;
        owner.check_reach(&dir)?;
        let cluster = Cluster::prepare(&dir, &owner, launcher)?;
        let child = cluster.start()?;
        tracing::info!(data_dir = %dir.display(), "the embedded database is ready");
        Ok(Self { url: cluster.url(), child, outside: cluster.outside(), dir, _lock: lock })
    }

    /// The database of a server that runs on this data directory, for a command beside it; none if no server runs.
    pub fn running(data_dir: Option<&Path>) -> anyhow::Result<Option<SecretString>> {
        let owner = Owner::of_this_process()?;
        let dir = owner.data_dir(data_dir)?;
        let file = open_lock(&dir)?;
        match file.try_lock() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => cluster::url_of_running(&dir).map(Some),
            Err(TryLockError::Error(error)) => Err(error).context("locking the data directory"),
        }
    }

    pub fn url(&self) -> &SecretString {
        &self.url
    }

    pub fn data_dir(&self) -> &Path {
        &self.dir
    }

    /// Changes to how it ended, once the database has.
    pub fn ended(&self) -> watch::Receiver<Option<String>> {
        self.child.ended()
    }

    /// A fast shutdown: open transactions are rolled back. Takes 30 s at most; blocks the thread.
    pub fn stop(self) {
        let how = self.child.stop();
        tracing::info!(how, "the embedded database ended");
        if let Some(folder) = self.outside {
            // Empty once PostgreSQL has stopped; if not, the next start takes it over.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The data directory, created if need be: the one asked for, else `./bowline-data`, or `/var/lib/bowline` for root where
/// PostgreSQL could not get there.
pub fn data_dir(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    Owner::of_this_process()?.data_dir(asked)
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = open_lock(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{} is in use by another bowline; stop it, or give this one its own --data-dir", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", dir.display())),
    }
}

fn open_lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(&path).with_context(|| format!("opening {}", path.display()))
}

/// A folder that only its owner enters; fine if it is there.
fn private_folder(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("creating {}", path.display()))
        }
        _ => Ok(path.to_owned()),
    }
}
