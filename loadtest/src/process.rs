//! What another process uses, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// The server's processor time and memory at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) rss_bytes: u64,
}

/// Linux counts processor time in these on every machine that it runs on.
const TICKS_PER_S: u64 = 100;

pub(crate) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("--pid {pid}"));
    let ticks = cpu_ticks(&read("stat")?).context("/proc/PID/stat")?;
    let rss_bytes = rss(&read("status")?).context("/proc/PID/status")?;
    Ok(Usage { cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_S), rss_bytes })
}

/// User and system time. The name of the process may hold anything, so fields count from its closing bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_nothing() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 50 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(750));
        assert_eq!(rss("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage(std::process::id()).expect("ours");
        assert!(usage.rss_bytes > 100_000);
    }
}
