//! The Autobahn cases against the server's own WebSocket, with an echo plugged in. Without those of compression, which
//! the server does not negotiate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::kept::Kept;
use crate::{command, root};

/// The cases for Python 3, with a runner of their own.
const CASES: &str = "kosoku==0.1.0";
const EXPECTED: &str = "301";

/// The echo must have been built.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = root().join("target/xtask/conformance");
    fs::create_dir_all(&folder)?;
    let python = python(&folder)?;
    let log = folder.join("echo.log");
    fs::write(&log, "")?;
    let mut echo = Command::new(command::built("examples/echo", false));
    echo.arg("127.0.0.1:0");
    let server = Kept::start(&echo, None, "TERM", &log, None)?;
    let address = address(&log)?;
    let mut cases = Command::new(python);
    cases.arg(root().join("server/tests/conformance/autobahn.py")).arg(address);
    cases.arg("--out").arg(folder.join("reports")).args(["--no-compression", "--expect", EXPECTED]);
    let judged = command::run(&mut cases);
    server.stop()?;
    judged
}

/// A Python that has the cases.
fn python(folder: &Path) -> anyhow::Result<PathBuf> {
    let environment = folder.join("python");
    let python = environment.join("bin/python");
    let has_them = command::output(Command::new(&python).args(["-c", "import kosoku"])).is_ok();
    if !has_them {
        command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        command::run(Command::new(&python).args([
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            CASES,
        ]))?;
    }
    Ok(python)
}

/// Where the echo listens: the first line that it prints.
fn address(log: &Path) -> anyhow::Result<String> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let printed = fs::read_to_string(log)?;
        if let Some(line) = printed.split_inclusive('\n').next().filter(|line| line.ends_with('\n')) {
            let address = line.trim();
            return Ok(address.parse::<std::net::SocketAddr>().context(printed.clone())?.to_string());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the echo does not listen")
}
