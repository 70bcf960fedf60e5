//! Stops asking a part that does not answer, and finds out when it does again.
//!
//! Neither `recloser` (a window of calls instead of time, no slow calls, half-open lets everything through) nor
//! `tower-resilience` (a fixed time of being open, a record a call, a clock of its own) does this.

mod machine;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

use crate::config::{Invalid, millis};
use crate::telemetry::Metrics;
pub use machine::State;
use machine::{Machine, Outcome, Ticket};

/// When a breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls that ended longer ago don't count.
    #[serde(rename = "window_ms", with = "millis")]
    pub window: Duration,
    /// With fewer calls in the window it stays closed.
    pub calls: u32,
    /// It opens when so many of a hundred calls failed,
    pub failed_percent: u32,
    /// or so many took longer than they may.
    pub slow_percent: u32,
    /// How long it is open the first time; each time that it opens again without having closed, twice as long.
    #[serde(rename = "open_ms", with = "millis")]
    pub open: Duration,
    #[serde(rename = "open_max_ms", with = "millis")]
    pub open_max: Duration,
    /// Calls that half-open lets through at once; all of them must be answered in time for it to close.
    pub probes: u32,
}

/// The breaker before one part. Cheap to clone; all clones are one breaker.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    /// Longer than this is slow.
    cap: Duration,
    /// Held for a few instructions.
    machine: Mutex<Machine>,
    state: Gauge,
    opened: Counter,
    refused: Counter,
}

/// A call that was let through. Dropped without a word it counts for nothing: its caller has gone.
#[must_use = "a call that is dropped does not count"]
pub struct Call {
    shared: Arc<Shared>,
    ticket: Ticket,
    began: Instant,
    ended: bool,
}

/// What all breakers of a server are counted by.
#[derive(Clone, Debug)]
pub struct Counts {
    state: Family<Labels, Gauge>,
    opened: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    breaker: &'static str,
}

impl Counts {
    /// Once a server.
    pub fn new(metrics: &Metrics) -> Self {
        let state = "State of a breaker: 0 closed, 1 half-open, 2 open";
        Self {
            state: metrics.register("breaker_state", state, Family::default()),
            opened: metrics.register("breaker_opened", "Times that a breaker opened", Family::default()),
            refused: metrics.register("breaker_refused", "Calls that a breaker did not let through", Family::default()),
        }
    }
}

impl Breaker {
    /// `name` is its label in the metrics; a call that takes longer than `cap` is slow.
    pub fn new(name: &'static str, cap: Duration, config: &Config, counts: &Counts) -> Self {
        let labels = Labels { breaker: name };
        let shared = Shared {
            name,
            cap,
            machine: Mutex::new(Machine::new(config.clone(), Instant::now())),
            state: counts.state.get_or_create_owned(&labels),
            opened: counts.opened.get_or_create_owned(&labels),
            refused: counts.refused.get_or_create_owned(&labels),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A call may be made; nothing while the breaker is open, or half-open with all its probes under way.
    pub fn start(&self) -> Option<Call> {
        let now = Instant::now();
        let ticket = self.shared.with(|machine| machine.admit(now));
        if ticket.is_none() {
            self.shared.refused.inc();
        }
        ticket.map(|ticket| Call { shared: self.shared.clone(), ticket, began: now, ended: false })
    }

    pub fn state(&self) -> State {
        self.shared.with(|machine| machine.state())
    }
}

impl Call {
    /// There was an answer, be it a refusal.
    pub fn answered(self) {
        self.end(Outcome::Answered);
    }

    /// It timed out, or the connection failed.
    pub fn failed(self) {
        self.end(Outcome::Failed);
    }

    fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.tell(outcome);
    }

    fn tell(&self, outcome: Outcome) {
        let now = Instant::now();
        let slow = now.duration_since(self.began) > self.shared.cap;
        let jitter = rand::random();
        self.shared.with(|machine| machine.finish(self.ticket, outcome, slow, now, jitter));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Outcome::Cancelled);
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machine.state();
        let result = act(&mut machine);
        let after = machine.state();
        if before != after {
            self.state.set(match after {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open => 2,
            });
            self.opened.inc_by(u64::from(after == State::Open));
            tracing::warn!(breaker = self.name, ?before, ?after, "a breaker changed its state");
        }
        result
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            calls: 20,
            failed_percent: 50,
            slow_percent: 80,
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(30),
            probes: 3,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("window_ms", in_ms(self.window), 100..=3_600_000),
            ("calls", self.calls.into(), 1..=1_000_000),
            ("failed_percent", self.failed_percent.into(), 1..=100),
            ("slow_percent", self.slow_percent.into(), 1..=100),
            ("open_ms", in_ms(self.open), 1..=3_600_000),
            ("open_max_ms", in_ms(self.open_max), in_ms(self.open)..=3_600_000),
            ("probes", self.probes.into(), 1..=1_000),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_dropped_do_not_count_and_states_are_shown() {
        let metrics = Metrics::default();
        let config = Config { calls: 2, ..Config::default() };
        let breaker = Breaker::new("clickhouse", Duration::from_secs(3_600), &config, &Counts::new(&metrics));
        (0..10).for_each(|_| drop(breaker.start()));
        assert_eq!(breaker.state(), State::Closed);
        (0..2).for_each(|_| breaker.start().unwrap().failed());
        assert_eq!(breaker.state(), State::Open);
        assert!(breaker.start().is_none());
        let text = metrics.text();
        for line in ["breaker_state", "breaker_opened_total", "breaker_refused_total"]
            .map(|name| format!("bowline_{name}{{breaker=\"clickhouse\"}}"))
            .into_iter()
            .zip([2, 1, 1])
            .map(|(name, value)| format!("{name} {value}\n"))
        {
            assert!(text.contains(&line), "{line:?} is not in {text}");
        }
    }
}
