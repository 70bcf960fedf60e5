//! Looks once a second at everything that a run may be explained by, and writes it into the timeline: the server's processes and
//! their memory cgroup, this tool, the machine, the server's own metrics, and what the scenario counts.

mod cgroup;
pub(crate) mod metrics;

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use cgroup::{Cgroup, Memory};

use crate::process::{self, Usage};
use crate::timeline::{Plot, Timeline};

/// A scenario's own series: a value each second, or none while there is none.
type Watch = (Plot, &'static str, Box<dyn FnMut() -> Option<f64> + Send>);

pub(crate) struct Sampler {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    watches: Arc<Mutex<Vec<Watch>>>,
}

const EVERY: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

impl Sampler {
    /// `servers` are the processes to look at, `urls` whose metrics are read.
    pub(crate) fn start(servers: &[u32], urls: &[String], timeline: &Arc<Timeline>) -> std::io::Result<Sampler> {
        let (stop, stopped) = mpsc::channel();
        let watches: Arc<Mutex<Vec<Watch>>> = Arc::default();
        let mut look = Look::new(servers, urls, timeline);
        let scenario = Arc::clone(&watches);
        let thread = thread::Builder::new().name("sampler".into()).spawn(move || {
            let start = Instant::now();
            for n in 1.. {
                let due = start + EVERY * n;
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                look.once();
                for (plot, name, value) in scenario.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                    if let Some(value) = value() {
                        look.timeline.point(*plot, *name, value);
                    }
                }
            }
        })?;
        Ok(Sampler { stop, thread, watches })
    }

    /// Asked once a second from then on.
    pub(crate) fn watch(&self, plot: Plot, name: &'static str, value: impl FnMut() -> Option<f64> + Send + 'static) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push((plot, name, Box::new(value)));
    }

    /// A count that rises, as how much it rose in the second.
    pub(crate) fn watch_rate(&self, plot: Plot, name: &'static str, count: impl Fn() -> u64 + Send + 'static) {
        let mut rate = Rate::default();
        self.watch(plot, name, move || rate.of(count() as f64));
    }

    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        // It only reads and writes memory of its own: if it panicked, the timeline ends early and shows it.
        let _ = self.thread.join();
    }
}

/// What a look needs to know of the one before.
struct Look {
    servers: Vec<u32>,
    urls: Vec<String>,
    cgroups: Vec<Cgroup>,
    timeline: Arc<Timeline>,
    rates: BTreeMap<&'static str, Rate>,
}

impl Look {
    fn new(servers: &[u32], urls: &[String], timeline: &Arc<Timeline>) -> Self {
        let mut cgroups: Vec<Cgroup> = Vec::new();
        for found in servers.iter().filter_map(|pid| Cgroup::of(*pid)) {
            if !cgroups.contains(&found) {
                cgroups.push(found);
            }
        }
        let timeline = Arc::clone(timeline);
        Self { servers: servers.to_vec(), urls: urls.to_vec(), cgroups, timeline, rates: BTreeMap::new() }
    }

    fn once(&mut self) {
        // A server that has gone is no failure of the sampler: its series end.
        if let Ok(Some(usage)) = process::usage(&self.servers) {
            self.server(usage);
        }
        self.cgroups();
        self.tool();
        if let Some(busy) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(busy_s) {
            self.rate(Plot::PROCESSOR, "machine", busy);
        }
        self.metrics();
    }

    fn server(&mut self, usage: Usage) {
        let timeline = Arc::clone(&self.timeline);
        timeline.point(Plot::MEMORY, "PSS", usage.pss_bytes as f64 / MIB);
        timeline.point(Plot::MEMORY, "RSS", usage.rss_bytes as f64 / MIB);
        timeline.point(Plot::DESCRIPTORS, "server", usage.descriptors as f64);
        timeline.point(Plot::THREADS, "server", usage.threads as f64);
        self.rate(Plot::PROCESSOR, "server", usage.cpu.as_secs_f64());
        let limits = self.servers.iter().filter_map(|pid| process::descriptor_limit(*pid));
        let limit: u64 = limits.sum();
        // A line far above everything would only press the curves flat.
        if limit > 0 && usage.descriptors * 4 > limit {
            timeline.limit(Plot::DESCRIPTORS, "limit of the server", limit as f64);
        }
    }

    fn cgroups(&self) {
        let memories: Vec<Memory> = self.cgroups.iter().filter_map(Cgroup::memory).collect();
        if memories.is_empty() {
            return;
        }
        let sum = |of: fn(&Memory) -> u64| memories.iter().map(of).sum::<u64>() as f64;
        self.timeline.point(Plot::MEMORY, "cgroup", sum(|memory| memory.used_bytes) / MIB);
        self.timeline.point(Plot::MEMORY, "kernel part", sum(|memory| memory.kernel_bytes) / MIB);
        if let [Memory { limit_bytes: Some(limit), .. }] = memories[..] {
            self.timeline.limit(Plot::MEMORY, "limit of the cgroup", limit as f64 / MIB);
        }
    }

    fn tool(&mut self) {
        let Ok(usage) = process::of(std::process::id()) else { return };
        self.rate(Plot::PROCESSOR, "this tool", usage.cpu.as_secs_f64());
        self.timeline.point(Plot::DESCRIPTORS, "this tool", usage.descriptors as f64);
    }

    fn metrics(&mut self) {
        let texts: Vec<String> = self.urls.iter().filter_map(|url| metrics::fetch(url)).collect();
        if texts.len() < self.urls.len() {
            return;
        }
        let sum = |name: &str| texts.iter().filter_map(|text| metrics::value(text, name)).sum::<f64>();
        self.timeline.point(Plot::SOCKETS, "held by the server", sum("bowline_sockets"));
        self.timeline.point(Plot::MEMORY, "tails and pages", sum("bowline_tail_bytes") / MIB);
        let batches = self.rates.entry("batches").or_default().of(sum("bowline_log_batch_seconds_count"));
        let seconds = self.rates.entry("batch seconds").or_default().of(sum("bowline_log_batch_seconds_sum"));
        if let (Some(batches @ 0.1..), Some(seconds)) = (batches, seconds) {
            self.timeline.point(Plot::DATABASE, "a batch", seconds * 1_000.0 / batches);
        }
    }

    fn rate(&mut self, plot: Plot, name: &'static str, count: f64) {
        if let Some(rate) = self.rates.entry(name).or_default().of(count) {
            self.timeline.point(plot, name, rate);
        }
    }
}

/// By how much a count rises a second. A count that fell began anew, and says nothing this time.
#[derive(Default)]
pub(crate) struct Rate(Option<(Instant, f64)>);

impl Rate {
    pub(crate) fn of(&mut self, count: f64) -> Option<f64> {
        let at = Instant::now();
        let (before, was) = self.0.replace((at, count))?;
        (count >= was).then(|| (count - was) / at.duration_since(before).as_secs_f64().max(1e-3))
    }
}

/// Processor seconds that the machine has spent on anything but waiting.
fn busy_s(stat: &str) -> Option<f64> {
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>);
    let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().ok()?;
    // user, nice, system, then idle and iowait, then interrupts and what a hypervisor took.
    let (idle, all) = (ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum::<u64>());
    Some((all - idle) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_busy() {
        assert_eq!(busy_s("cpu  100 20 30 5000 400 1 2 3 0 0\ncpu0 1 2\n"), Some(1.56));
        assert_eq!(busy_s("nonsense"), None);
    }

    #[test]
    fn a_count_that_begins_anew_says_nothing() {
        let mut rate = Rate::default();
        assert_eq!(rate.of(5.0), None);
        assert!(rate.of(9.0).is_some_and(|rate| rate > 0.0));
        assert_eq!(rate.of(1.0), None);
    }
}
