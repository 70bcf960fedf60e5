//! What processes use, from /proc. The text is parsed by pure functions.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// One process at one moment, or several together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) rss_bytes: u64,
    /// What the process is charged with when shared pages are divided among those who share them.
    pub(crate) pss_bytes: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// Linux counts processor time in these on every machine that it runs on.
const TICKS_PER_S: u64 = 100;

/// Of all of these processes together; none if none is named.
pub(crate) fn usage(pids: &[u32]) -> anyhow::Result<Option<Usage>> {
    let mut sum: Option<Usage> = None;
    for pid in pids {
        let one = of(*pid).with_context(|| format!("--pid {pid}"))?;
        let all = sum.get_or_insert_default();
        all.cpu += one.cpu;
        all.rss_bytes += one.rss_bytes;
        all.pss_bytes += one.pss_bytes;
        all.descriptors += one.descriptors;
        all.threads += one.threads;
    }
    Ok(sum)
}

pub(crate) fn of(pid: u32) -> anyhow::Result<Usage> {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("/proc/{pid}/{file}"));
    let status = read("status")?;
    let rss_bytes = kib(&status, "VmRSS:").context("/proc/PID/status without VmRSS")?;
    // Without the right to read it (another user's process) resident memory is the next best.
    let pss_bytes = read("smaps_rollup").ok().and_then(|rollup| kib(&rollup, "Pss:")).unwrap_or(rss_bytes);
    let descriptors = descriptors(&format!("/proc/{pid}/fd"));
    let threads = field(&status, "Threads:").and_then(|value| value.parse().ok()).unwrap_or(0);
    Ok(Usage { cpu: cpu(pid)?, rss_bytes, pss_bytes, descriptors, threads })
}

/// The size of the folder is their number, from Linux 6.2 on; before, they must be counted.
fn descriptors(folder: &str) -> u64 {
    match fs::metadata(folder).map(|metadata| metadata.len()) {
        Ok(0) | Err(_) => fs::read_dir(folder).map_or(0, |fds| fds.count() as u64),
        Ok(count) => count,
    }
}

/// In steps of 10 ms, threads that have ended included.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).context("/proc/PID/stat")?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
}

/// The same by the scheduler's own count, in nanoseconds; of the threads that there are.
pub(crate) fn threads_cpu(pid: u32) -> anyhow::Result<Duration> {
    Ok(tasks(pid)?.iter().map(|(_, ran)| *ran).sum())
}

/// Of the threads of this name.
pub(crate) fn thread_cpu(pid: u32, name: &str) -> anyhow::Result<Duration> {
    let tasks = tasks(pid)?;
    let mut named = tasks.iter().filter(|(comm, _)| comm == name).map(|(_, ran)| *ran).peekable();
    named.peek().with_context(|| format!("process {pid} has no thread {name}"))?;
    Ok(named.sum())
}

/// Each thread's name, and how long it ran.
fn tasks(pid: u32) -> anyhow::Result<Vec<(String, Duration)>> {
    let mut tasks = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let read = |file: &str| fs::read_to_string(task.join(file));
        // A thread may have ended since the folder was read.
        let (Ok(comm), Ok(stat)) = (read("comm"), read("schedstat")) else { continue };
        tasks.push((comm.trim_end().to_owned(), ran(&stat).context("/proc/PID/task/TID/schedstat")?));
    }
    Ok(tasks)
}

/// How many descriptors the process may have.
pub(crate) fn descriptor_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    soft_limit(&limits, "Max open files")
}

/// User and system time. The name of the process may hold anything, so fields count from its closing bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn ran(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = field(text, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    field(limits, name)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_nothing() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 50 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(750));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let rollup = "559210c61000-7ffcf1403000 ---p 00000000 00:00 0  [rollup]\nRss:     1640 kB\nPss:      263 kB\nPss_Dirty:  112 kB\n";
        assert_eq!(kib(rollup, "Pss:"), Some(263 * 1024));
        assert_eq!(kib("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kib("Name:\tx\n", "VmRSS:"), None);
        assert_eq!(ran("12345678 990 17\n"), Some(Duration::from_nanos(12_345_678)));
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            20000                524288               files\n\
                      Max nice priority         unlimited            0\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(20_000));
        assert_eq!(soft_limit(limits, "Max nice priority"), None);
    }

    #[test]
    fn this_process_uses_something_and_twice_named_it_uses_twice_that() {
        let pid = std::process::id();
        let one = of(pid).expect("ours");
        assert!(one.rss_bytes > 100_000 && one.pss_bytes > 100_000 && one.descriptors > 2 && one.threads > 0);
        let two = usage(&[pid, pid]).expect("ours").expect("some");
        assert!(two.rss_bytes > one.rss_bytes * 3 / 2);
        assert!(usage(&[]).expect("none").is_none());
        assert!(usage(&[u32::MAX]).is_err());
        assert!(threads_cpu(pid).expect("ours") > Duration::ZERO);
        assert!(thread_cpu(pid, "nobody's").is_err());
    }
}
