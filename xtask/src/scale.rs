//! As many sockets as this machine holds: servers with a few database connections each, one PostgreSQL, and the load tool in as
//! many processes. Says what was held, what it took, and what stopped it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::bed::{self, Bed};
use crate::nodes::Place;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 100_000)]
    sockets: u32,
    /// Sockets of one server; a process has a limit of descriptors.
    #[arg(long, default_value_t = 19_000)]
    per_server: u32,
    /// How long messages flow once all are there.
    #[arg(long, default_value = "20s")]
    duration: String,
    /// Messages a second, each to a conversation of 50.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Given up after this long.
    #[arg(long, default_value = "30min")]
    timeout: String,
}

/// Readers of a conversation. With two connections to the database a command that names many more keeps everybody waiting.
const READERS: u32 = 50;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.sockets > 0 && options.per_server > 0, "--sockets and --per-server: at least 1");
    bed::build()?;
    let before = bed::available_kib();
    let servers = options.sockets.div_ceil(options.per_server);
    println!("== {servers} servers");
    let bed = Bed::make(servers as usize, &Place { settings: &["database.max_connections=2"], pod: None })?;
    let started = bed::available_kib();
    let watch = Watch::start(bed.nodes.pids());
    let (sockets, rate) = (options.sockets.to_string(), options.rate.to_string());
    let conversations = options.sockets.div_ceil(READERS).to_string();
    let shape = ["idle", "-c", &sockets, "--follow", "1", "--conversations", &conversations];
    // One who makes conversations at each server: more would wait for the same two connections.
    let publishers = servers.to_string();
    let flow = ["--publishers", &publishers, "-r", &rate, "-d", &options.duration, "--timeout", &options.timeout];
    let held = bed.load(&[&shape[..], &flow[..]].concat());
    let seen = watch.stop();
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    if let (Some(before), Some(started)) = (before, started) {
        let (servers_took, all_took) =
            (before.saturating_sub(started), before.saturating_sub(seen.least_available_kib));
        println!(
            "memory of the machine: {:.2} GiB before, {:.2} taken by PostgreSQL and the servers when they had started, {:.2} by everything at the most; {:.2} left",
            gib(before),
            gib(servers_took),
            gib(all_took),
            gib(seen.least_available_kib),
        );
        println!(
            "a socket, both ends and the kernel: {:.0} B",
            all_took.saturating_sub(servers_took) as f64 * 1024.0 / f64::from(options.sockets)
        );
    }
    println!("resident memory of the {servers} servers: {:.1} MiB at the most", seen.most_rss_kib as f64 / 1024.0);
    println!("stopped by: {}", stopped_by(&bed, &held, &seen));
    bed.end()?;
    match held? {
        true => Ok(()),
        false => bail!("the load tool saw what must not be"),
    }
}

fn stopped_by(bed: &Bed, held: &anyhow::Result<bool>, seen: &Seen) -> &'static str {
    const LITTLE_KIB: u64 = 512 << 10;
    let alive = bed.nodes.pids().iter().all(|pid| bed::status_kib(*pid, "VmRSS").is_some());
    match held {
        Ok(true) => "nothing, all asked for were held",
        _ if !alive => "a server has ended",
        _ if seen.least_available_kib < LITTLE_KIB => "memory",
        _ => "see what the load tool says",
    }
}

/// Looks twice a second at what memory is left.
struct Watch {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<Seen>,
}

struct Seen {
    least_available_kib: u64,
    most_rss_kib: u64,
}

impl Watch {
    fn start(pids: Vec<u32>) -> Watch {
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut seen = Seen { least_available_kib: u64::MAX, most_rss_kib: 0 };
            while !ended.load(Ordering::Relaxed) {
                seen.least_available_kib = seen.least_available_kib.min(bed::available_kib().unwrap_or(u64::MAX));
                let rss = pids.iter().filter_map(|pid| bed::status_kib(*pid, "VmRSS")).sum();
                seen.most_rss_kib = seen.most_rss_kib.max(rss);
                thread::sleep(Duration::from_millis(500));
            }
            seen
        });
        Watch { ends, thread }
    }

    fn stop(self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(Seen { least_available_kib: 0, most_rss_kib: 0 })
    }
}
