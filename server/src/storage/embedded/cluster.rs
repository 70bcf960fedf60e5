//! The files of the cluster: created whole or not at all, freed of what a killed predecessor left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;

use super::binaries::{self, Binaries};
use super::child::{Launch, Running};
use super::owner::Owner;
use super::private_folder;

const SOCKET: &str = ".s.PGSQL.5432";
/// The kernel's bound on the path of a socket.
const SOCKET_PATH_BYTES: usize = 107;
const SETTINGS: [&str; 11] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "unix_socket_permissions=0700",
    "max_connections=64",
    "shared_buffers=128MB",
    "max_wal_size=512MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "timezone=UTC",
    "log_timezone=UTC",
];
/// Recovery after a crash took 3.3 s at most when measured; a slow disk takes longer.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// What an orphan gets, and after how long.
const ORPHAN_STEPS: [(Signal, Duration); 2] =
    [(Signal::SIGQUIT, Duration::from_secs(5)), (Signal::SIGKILL, Duration::from_secs(15))];
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(25);
const LOG_BYTES: u64 = 16 * 1024 * 1024;

pub(super) struct Cluster<'a> {
    root: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    log: PathBuf,
    binaries: Binaries,
    owner: &'a Owner,
    launcher: &'a Path,
}

impl<'a> Cluster<'a> {
    /// Makes the cluster ready to be started. The caller holds the lock of the data directory.
    pub(super) fn prepare(dir: &Path, owner: &'a Owner, launcher: &'a Path) -> anyhow::Result<Self> {
        let root = private_folder(&dir.join("pg"))?;
        owner.give(&root)?;
        end_orphans(&root)?;
        let data = root.join("data");
        let major = major_of(&data)?;
        let binaries = binaries::find(major, owner)?;
        let sockets = socket_folder(&root, owner)?;
        let log = dir.join("postgres.log");
        if fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES) {
            fs::rename(&log, dir.join("postgres.log.1"))?;
        }
        let cluster = Self { root, data, sockets, log, binaries, owner, launcher };
        if major.is_none() {
            cluster.create()?;
        }
        // Nobody is there, so these are stale. A killed postmaster that nobody has reaped would pass for alive.
        let stale = [cluster.data.join("postmaster.pid"), cluster.sockets.join(SOCKET)];
        stale.iter().for_each(remove_if_there);
        remove_if_there(&cluster.sockets.join(format!("{SOCKET}.lock")));
        Ok(cluster)
    }

    /// Starts the server and waits until it takes connections.
    pub(super) fn start(&self) -> anyhow::Result<Running> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), (&self.data).into(), "-k".into(), (&self.sockets).into()];
        arguments.extend(["-h", "", "-p", "5432"].map(OsString::from));
        arguments.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), setting.into()]));
        let child = self.launch(Signal::SIGQUIT).spawn(self.binaries.postgres(), arguments)?;
        let started = Instant::now();
        while !self.is_ready(child.pid) {
            if let Some(how) = child.has_ended() {
                bail!("{how} while starting; see {}", self.log.display());
            }
            if started.elapsed() > READY_TIMEOUT {
                child.stop();
                bail!("PostgreSQL was not ready in {} s; see {}", READY_TIMEOUT.as_secs(), self.log.display());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(child)
    }

    pub(super) fn url(&self) -> SecretString {
        url(&self.sockets)
    }

    /// The folder of the socket, where it is not in the data directory and goes with the server.
    pub(super) fn outside(&self) -> Option<PathBuf> {
        (self.sockets != self.root).then(|| self.sockets.clone())
    }

    /// A cluster appears whole, by a rename: what was killed in between is swept away by the next start.
    fn create(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().as_bytes().starts_with(b"init.") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let made = self.root.join(format!("init.{}.{now}", std::process::id()));
        let locale: &[&str] = if self.binaries.major >= 17 {
            &["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        } else {
            &["--lc-collate=C", "--lc-ctype=C.UTF-8"]
        };
        let mut arguments: Vec<OsString> = vec!["-D".into(), (&made).into()];
        arguments.extend(["-U", "bowline", "--auth=trust", "-E", "UTF8", "--data-checksums"].map(OsString::from));
        arguments.extend(locale.iter().map(OsString::from));
        self.launch(Signal::SIGKILL).run(self.binaries.initdb(), arguments)?;
        if self.data.exists() {
            // Without PG_VERSION it never was a cluster; PostgreSQL's own files would be a reason to stop.
            fs::remove_dir(&self.data).with_context(|| format!("{} is in the way", self.data.display()))?;
        }
        fs::rename(&made, &self.data)?;
        File::open(&self.root)?.sync_all()?;
        Ok(())
    }

    /// PostgreSQL says so in the eighth line of its lock file, whose first is its pid.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(file) = fs::read_to_string(self.data.join("postmaster.pid")) else { return false };
        let mut lines = file.lines().map(str::trim);
        lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
    }

    fn launch(&self, death_signal: Signal) -> Launch<'_> {
        let Self { launcher, owner, root: folder, log: output, .. } = self;
        Launch { launcher, owner, death_signal, folder, output }
    }
}

/// The server's own note of where it listens: the fifth line of its lock file.
pub(super) fn url_of_running(dir: &Path) -> anyhow::Result<SecretString> {
    let path = dir.join("pg/data/postmaster.pid");
    let file = fs::read_to_string(&path).context("the server on this data directory is starting or stopping")?;
    let sockets = file.lines().nth(4).filter(|line| !line.is_empty());
    Ok(url(Path::new(sockets.context("the server on this data directory is starting")?)))
}

fn url(sockets: &Path) -> SecretString {
    let mut host = String::new();
    for byte in sockets.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => host.push(char::from(*byte)),
            byte => host.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("postgres://bowline@{host}:5432/postgres").into()
}

fn major_of(data: &Path) -> anyhow::Result<Option<u32>> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let major = text.trim().parse().with_context(|| format!("{} is damaged", path.display()))?;
            Ok(Some(major))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// In the data directory, unless its path is too long for a socket.
fn socket_folder(root: &Path, owner: &Owner) -> anyhow::Result<PathBuf> {
    let fits = |folder: &Path| folder.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH_BYTES;
    if fits(root) {
        return Ok(root.to_owned());
    }
    let folder = std::env::temp_dir().join(format!("bowline-{:x}", fs::metadata(root)?.ino()));
    ensure!(fits(&folder), "no folder with a short enough path for a socket: set TMPDIR to one");
    private_folder(&folder)?;
    // The temporary folder is everybody's: one made beforehand by a stranger would let him listen in our place.
    let found = fs::symlink_metadata(&folder)?;
    let ours = found.is_dir() && found.mode() & 0o077 == 0;
    let ours = ours && (found.uid() == owner.uid().as_raw() || found.uid() == nix::unistd::geteuid().as_raw());
    ensure!(ours, "{} belongs to somebody else", folder.display());
    owner.give(&folder)?;
    owner.check_reach(&folder)?;
    Ok(folder)
}

/// With the lock held, a process of PostgreSQL that sits in the cluster lost its server. It is ending already (the death
/// signal); it is helped along when that takes long.
fn end_orphans(root: &Path) -> anyhow::Result<()> {
    let mut steps = ORPHAN_STEPS.iter().peekable();
    let started = Instant::now();
    loop {
        let orphans = processes_in(root);
        if orphans.is_empty() {
            return Ok(());
        }
        if let Some((signal, _)) = steps.next_if(|(_, after)| started.elapsed() > *after) {
            tracing::warn!(?orphans, %signal, "PostgreSQL processes of a server that is gone do not leave");
            orphans.iter().for_each(|pid| {
                let _ = kill(*pid, *signal);
            });
        }
        ensure!(
            started.elapsed() < ORPHAN_TIMEOUT,
            "PostgreSQL processes {orphans:?} of a server that is gone do not leave {}",
            root.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn processes_in(root: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        matches!(name.trim(), "postgres" | "initdb")
            && fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder.starts_with(root))
    });
    ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect()
}

fn remove_if_there(path: &PathBuf) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a stale file can't be removed");
    }
}
