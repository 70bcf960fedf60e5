//! The reference of `bench`: a process that writes ready-made frames to sockets and does nothing else that a server does. It
//! speaks just enough of the protocol for a [`crate::fleet`] of topics: no tokens, no limits, no rights, no slow readers.
//!
//! One thread takes what is said ([`intake`]) and makes each frame once; another one does nothing but write ([`writer`]), and its
//! processor time alone is what the hub is held against.

mod intake;
mod writer;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::Outcome;
use crate::process;

/// The name of the subcommand.
pub(crate) const SUBCOMMAND: &str = "bare";

/// That process. It ends with this value, since its input does.
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

impl Bare {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bare writer")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output")?;
        let mut bare = Self { address: SocketAddr::from(([0; 4], 0)), child, input };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        bare.address = line.trim().parse().context("the bare writer did not say where it listens")?;
        Ok(bare)
    }

    /// What the writing thread alone has spent.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::thread_cpu(self.child.id(), writer::THREAD)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself then; nobody is left to hear that it did not.
        let _ = self.child.wait();
    }
}

/// The subcommand.
pub(crate) fn run() -> anyhow::Result<Outcome> {
    thread::spawn(|| {
        // What comes does not matter, only that it ends.
        std::io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
    intake::run()?;
    Ok(Outcome::Good)
}
