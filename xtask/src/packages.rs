//! What the tests need of Debian, installed only where it is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command;

/// A package that the tests need, and the program by which it is known to be there.
const NEEDED: &[(&str, &str)] = &[
    ("postgresql", "postgres"),
    ("pgbouncer", "pgbouncer"),
    ("redis-server", "redis-server"),
    ("python3-venv", "python3"),
    // To fetch and build the ClickHouse of `testkit/clickhouse`.
    ("npm", "npm"),
    ("gcc", "cc"),
];

pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED.iter().map(|(package, _)| *package).filter(|package| !is_there(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("please install {}; only Debian's packages are installed by themselves", missing.join(", "));
    }
    let root = command::output(Command::new("id").arg("-u"))?.trim() == "0";
    let apt_get = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        command.args(if root { &[][..] } else { &["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"] });
        command.args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        // What a task itself has to say is all that stands on its output.
        command.stdout(std::io::stderr());
        command::run(&mut command)
    };
    eprintln!("installing {}", missing.join(", "));
    apt_get(&["update"]).with_context(|| format!("{} must be installed", missing.join(", ")))?;
    apt_get(&[&["install", "--no-install-recommends"], &missing[..]].concat())?;
    match missing.iter().find(|package| !is_there(package)) {
        Some(package) => bail!("{package} was installed, and what it should bring is not there"),
        None => Ok(()),
    }
}

fn is_there(package: &str) -> bool {
    let program = NEEDED.iter().find(|(needed, _)| *needed == package).and_then(|(_, program)| find(program));
    // Debian has a Python that can't make environments.
    let imports = || command::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok();
    program.is_some() && (package != "python3-venv" || imports())
}

/// Where a program is. Debian keeps those of PostgreSQL and some servers out of the PATH; the newest comes first.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.push(PathBuf::from("/usr/sbin"));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}
