//! How late the machine's own scheduling makes things: a thread that sleeps a millisecond at a time, and how much later than that it
//! runs. Whatever is timed in the same moments may be as much later, without anyone being to blame who is timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::times::{Percentiles, Times};

pub(crate) struct Lateness {
    watch: Watch,
    thread: JoinHandle<()>,
}

/// What is known of it; a clone is the same one.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

struct Shared {
    start: Instant,
    recent: Recent,
    /// When the thread is to run next, in µs from the start.
    due_us: AtomicU64,
    times: Times,
    stop: AtomicBool,
}

const STEP: Duration = Duration::from_millis(1);

impl Lateness {
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Shared {
            start: Instant::now(),
            recent: Recent::new(),
            due_us: AtomicU64::new(u64::MAX),
            times: Times::new(),
            stop: AtomicBool::new(false),
        };
        let watch = Watch(Arc::new(shared));
        let own = watch.clone();
        let thread = thread::Builder::new().name("lateness".into()).spawn(move || own.0.run())?;
        Ok(Self { watch, thread })
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    pub(crate) fn stop(self) -> Percentiles {
        self.watch.0.stop.store(true, Ordering::Relaxed);
        // It only writes numbers: if it panicked, there are fewer of them.
        let _ = self.thread.join();
        self.watch.0.times.percentiles()
    }
}

impl Watch {
    /// The most that the machine was late from then on until this moment, what it is late with included.
    pub(crate) fn since(&self, from: Instant) -> Duration {
        let shared = &self.0;
        let now_us = shared.us(Instant::now());
        let known = shared.recent.most(shared.us(from), now_us);
        let overdue = now_us.saturating_sub(shared.due_us.load(Ordering::Relaxed));
        Duration::from_micros(known.max(overdue))
    }

    pub(crate) fn lately(&self) -> Option<Percentiles> {
        self.0.times.lately()
    }
}

impl Shared {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let due = Instant::now() + STEP;
            self.due_us.store(self.us(due), Ordering::Relaxed);
            thread::sleep(STEP);
            let now = Instant::now();
            let late = now.saturating_duration_since(due);
            self.recent.record(self.us(now), late.as_micros() as u64);
            self.times.record(late);
        }
    }

    fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }
}

/// The most of each moment of 10 ms, for the last 40 s: what is older is written over.
struct Recent(Vec<AtomicU64>);

const MOMENT_US: u64 = 10_000;
const MOMENTS: u64 = 4_096;

impl Recent {
    fn new() -> Self {
        Self((0..MOMENTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Written by one thread. A moment's number stands above its value, so that an old one is known as such.
    fn record(&self, at_us: u64, late_us: u64) {
        let moment = at_us / MOMENT_US;
        let slot = &self.0[(moment % MOMENTS) as usize];
        let was = slot.load(Ordering::Relaxed);
        let before = if was >> 32 == moment { was & u64::from(u32::MAX) } else { 0 };
        slot.store(moment << 32 | before.max(late_us.min(u32::MAX.into())), Ordering::Relaxed);
    }

    fn most(&self, from_us: u64, until_us: u64) -> u64 {
        let last = until_us / MOMENT_US;
        let first = (from_us / MOMENT_US).max(last.saturating_sub(MOMENTS - 1));
        let of = |moment: u64| {
            let slot = self.0[(moment % MOMENTS) as usize].load(Ordering::Relaxed);
            if slot >> 32 == moment { slot & u64::from(u32::MAX) } else { 0 }
        };
        (first..=last).map(of).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_most_of_its_own_moments() {
        let recent = Recent::new();
        for (at_ms, late_ms) in [(5, 3), (6, 1), (25, 40), (26, 2), (100, 7)] {
            recent.record(at_ms * 1_000, late_ms * 1_000);
        }
        for (from_ms, until_ms, most_ms) in [(0, 9, 3), (0, 30, 40), (30, 90, 0), (30, 101, 7), (25, 25, 40)] {
            assert_eq!(recent.most(from_ms * 1_000, until_ms * 1_000), most_ms * 1_000, "{from_ms} to {until_ms}");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_never_taken_for_something_else() {
        let recent = Recent::new();
        recent.record(5_000, 90_000);
        let later = 5_000 + MOMENT_US * MOMENTS;
        assert_eq!(recent.most(later, later), 0, "the slot is the same, the moment is not");
        recent.record(later, 10);
        assert_eq!(recent.most(0, later), 10);
    }
}
