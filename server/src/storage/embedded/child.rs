//! A process of PostgreSQL that can't outlive us.
//!
//! What has to happen between fork and exec (new session, other user, death signal) is done by this very program, run
//! again as `postgres-child`: safe code after an exec, where a hook after fork would be unsafe code in a copy of a
//! process with threads.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setsid, setuid};
use tokio::sync::watch;

use super::owner::Owner;

/// How soon the end of the child is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// A fast shutdown that takes longer becomes an immediate one, and that a kill.
const STOP_STEPS: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(20)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// The arguments of the hidden command `postgres-child`.
#[derive(Debug, clap::Args)]
pub struct ChildArgs {
    #[arg(long)]
    parent: i32,
    #[arg(long)]
    death_signal: Signal,
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long)]
    gid: Option<u32>,
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Becomes the program that the arguments name; returns only if that fails.
pub fn become_child(args: &ChildArgs) -> anyhow::Result<()> {
    // ^C in a terminal goes to the whole group: the database must not stop before its server.
    setsid().context("setsid")?;
    if let (Some(uid), Some(gid)) = (args.uid, args.gid) {
        setgroups(&[]).context("setgroups")?;
        setgid(Gid::from_raw(gid)).context("setgid")?;
        setuid(Uid::from_raw(uid)).context("setuid")?;
    }
    // Last, because a change of user clears it; and the parent may have died before it was set.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(args.death_signal).context("set_pdeathsig")?;
    ensure!(getppid().as_raw() == args.parent, "the server is gone");
    let (program, rest) = args.program.split_first().context("no program")?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{}", Path::new(program).display()))
}

/// How to start a program of PostgreSQL.
pub(super) struct Launch<'a> {
    pub(super) launcher: &'a Path,
    pub(super) owner: &'a Owner,
    pub(super) death_signal: Signal,
    pub(super) folder: &'a Path,
    pub(super) output: &'a Path,
}

impl Launch<'_> {
    /// The output goes to a file: a pipe that nobody reads would stop the database.
    fn command(&self, program: PathBuf, arguments: Vec<OsString>) -> anyhow::Result<Command> {
        let open = File::options().create(true).append(true).open(self.output);
        let output = open.with_context(|| format!("opening {}", self.output.display()))?;
        let mut command = Command::new(self.launcher);
        command.arg("postgres-child");
        command.args(["--parent", &std::process::id().to_string()]);
        command.args(["--death-signal", self.death_signal.as_str()]);
        if let Owner::Other { uid, gid, .. } = self.owner {
            command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        }
        command.arg("--").arg(program).args(arguments);
        command.current_dir(self.folder).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // The settings of somebody's psql are not for this server.
        let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("PG"));
        foreign.for_each(|name| {
            command.env_remove(name);
        });
        command.env("LC_ALL", "C").env("TZ", "UTC");
        Ok(command)
    }

    /// Runs to the end. On the calling thread, which outlives it: the death signal comes when the thread that forked ends.
    pub(super) fn run(&self, program: PathBuf, arguments: Vec<OsString>) -> anyhow::Result<()> {
        let status = self.command(program.clone(), arguments)?.status().context("starting PostgreSQL's child")?;
        ensure!(status.success(), "{} failed ({status}); see {}", program.display(), self.output.display());
        Ok(())
    }

    pub(super) fn spawn(&self, program: PathBuf, arguments: Vec<OsString>) -> anyhow::Result<Running> {
        Running::spawn(self.command(program, arguments)?)
    }
}

/// A child that runs, watched by a thread of its own that lives as long.
pub(super) struct Running {
    pub(super) pid: u32,
    stop: mpsc::Sender<()>,
    watcher: JoinHandle<()>,
    ended: watch::Receiver<Option<String>>,
}

impl Running {
    fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let (started, start) = mpsc::channel();
        let (stop, asked_to_stop) = mpsc::channel();
        let (end, ended) = watch::channel(None);
        let watcher = thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(child.id()));
            let how = watch_over(&mut child, &asked_to_stop);
            end.send_replace(Some(how));
        })?;
        let pid = start.recv().context("the thread that starts PostgreSQL")?.context("starting PostgreSQL")?;
        Ok(Self { pid, stop, watcher, ended })
    }

    pub(super) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.clone()
    }

    pub(super) fn has_ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Returns how it ended.
    pub(super) fn stop(self) -> String {
        let _ = self.stop.send(());
        // Its thread ends after the last of STOP_STEPS, whatever the child does.
        let _ = self.watcher.join();
        self.ended.borrow().clone().unwrap_or_default()
    }
}

/// Until the child has ended, by itself or because it was asked to. The one place that signals it, and that reaps it:
/// so no signal ever goes to another process that got the same number.
fn watch_over(child: &mut Child, asked_to_stop: &mpsc::Receiver<()>) -> String {
    while let Err(RecvTimeoutError::Timeout) = asked_to_stop.recv_timeout(LOOK) {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return format!("PostgreSQL ended by itself ({status})"),
            Err(error) => return format!("PostgreSQL can't be watched: {error}"),
        }
    }
    for (signal, patience) in STOP_STEPS {
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if !matches!(child.try_wait(), Ok(None)) {
                return "PostgreSQL was stopped".to_owned();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    "PostgreSQL does not stop, even when killed".to_owned()
}
