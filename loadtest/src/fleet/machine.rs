//! What a process of a fleet takes of its machine.

use std::fs;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard one; how many sockets fit below it.
pub(crate) fn room_for_sockets() -> anyhow::Result<u32> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")?;
    Ok(u32::try_from(hard).unwrap_or(u32::MAX).saturating_sub(OTHER_DESCRIPTORS))
}

/// Kept for what is no socket of the fleet.
const OTHER_DESCRIPTORS: u32 = 512;

/// Resident memory of this process; 0 where it can't be told.
pub(crate) fn resident_bytes() -> u64 {
    let kib = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}
