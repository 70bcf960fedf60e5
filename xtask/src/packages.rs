//! What the tests need of Debian, installed only where it is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command;

/// A program that the tests start, and the package that brings it.
const NEEDED: &[(&str, &str)] = &[("postgres", "postgresql"), ("pgbouncer", "pgbouncer"), ("python3", "python3-venv")];

pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED.iter().filter(|(program, _)| find(program).is_none()).map(|(_, p)| *p).collect();
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
        command::run(&mut command)
    };
    println!("installing {}", missing.join(", "));
    apt_get(&["update"]).with_context(|| format!("{} must be installed", missing.join(", ")))?;
    apt_get(&[&["install", "--no-install-recommends"], &missing[..]].concat())?;
    match NEEDED.iter().find(|(program, _)| find(program).is_none()) {
        Some((program, package)) => bail!("{package} is installed, but there is no {program}"),
        None => Ok(()),
    }
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
