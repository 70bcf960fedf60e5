//! The states of a breaker. Pure: the moment and the jitter are arguments.

use std::time::Instant;

use super::Config;

#[cfg(test)]
mod tests;

/// The window moves in steps of a tenth of its length.
const STEPS: usize = 10;
/// The share of an open time that jitter may take off, so that nodes don't probe together.
const JITTER: f64 = 0.2;

/// Whether calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    /// Some, to see what comes of them.
    HalfOpen,
    Open,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    /// Its caller has gone: nothing is known of the part.
    Cancelled,
}

/// A call that was let through, in the phase in which it was: one that ends in a later phase says nothing about that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    phase: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    started: Instant,
    /// Counts the changes of state.
    phase: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Closed(Window),
    /// Open for the `times`-th time since it was last closed.
    Open {
        until: Instant,
        times: u32,
    },
    HalfOpen {
        running: u32,
        answered: u32,
        times: u32,
    },
}

/// What became of the calls of the last while.
#[derive(Debug, Default)]
struct Window {
    steps: [Step; STEPS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    number: u128,
    calls: u32,
    failed: u32,
    slow: u32,
}

impl Machine {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Self { config, started: now, phase: 0, inner: Inner::Closed(Window::default()) }
    }

    /// As of the last call that began or ended: open turns half-open when a call comes.
    pub(super) fn state(&self) -> State {
        match self.inner {
            Inner::Closed(_) => State::Closed,
            Inner::Open { .. } => State::Open,
            Inner::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn admit(&mut self, now: Instant) -> Option<Ticket> {
        if let Inner::Open { until, times } = self.inner
            && now >= until
        {
            self.enter(Inner::HalfOpen { running: 0, answered: 0, times });
        }
        match &mut self.inner {
            Inner::Closed(_) => {}
            Inner::HalfOpen { running, answered, .. } if *running + *answered < self.config.probes => *running += 1,
            Inner::Open { .. } | Inner::HalfOpen { .. } => return None,
        }
        Some(Ticket { phase: self.phase })
    }

    /// `jitter` is from 0 to 1, of which part of [`JITTER`] an open time is shorter.
    pub(super) fn finish(&mut self, ticket: Ticket, outcome: Outcome, slow: bool, now: Instant, jitter: f64) {
        if ticket.phase != self.phase {
            return;
        }
        let step = now.saturating_duration_since(self.started).as_nanos() / self.step_nanos();
        match &mut self.inner {
            Inner::Closed(_) if outcome == Outcome::Cancelled => {}
            Inner::Closed(window) => {
                window.add(step, outcome == Outcome::Failed, slow);
                if window.is_bad(step, &self.config) {
                    self.open(1, now, jitter);
                }
            }
            Inner::HalfOpen { running, answered, times } => {
                let times = *times;
                *running -= 1;
                match outcome {
                    Outcome::Cancelled => {}
                    Outcome::Answered if !slow => *answered += 1,
                    Outcome::Answered | Outcome::Failed => return self.open(times + 1, now, jitter),
                }
                if *answered == self.config.probes {
                    self.enter(Inner::Closed(Window::default()));
                }
            }
            // No call is let through in this phase.
            Inner::Open { .. } => {}
        }
    }

    fn open(&mut self, times: u32, now: Instant, jitter: f64) {
        let doubled = self.config.open.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX));
        let full = doubled.min(self.config.open_max);
        self.enter(Inner::Open { until: now + full.mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0)), times });
    }

    fn enter(&mut self, inner: Inner) {
        self.phase += 1;
        self.inner = inner;
    }

    fn step_nanos(&self) -> u128 {
        (self.config.window.as_nanos() / STEPS as u128).max(1)
    }
}

impl Window {
    fn add(&mut self, number: u128, failed: bool, slow: bool) {
        let step = &mut self.steps[(number % STEPS as u128) as usize];
        if step.number != number {
            *step = Step { number, ..Step::default() };
        }
        step.calls = step.calls.saturating_add(1);
        step.failed = step.failed.saturating_add(failed.into());
        step.slow = step.slow.saturating_add(slow.into());
    }

    fn is_bad(&self, number: u128, config: &Config) -> bool {
        let recent = self.steps.iter().filter(|step| step.number + STEPS as u128 > number);
        let (calls, failed, slow) = recent.fold((0_u64, 0_u64, 0_u64), |(calls, failed, slow), step| {
            (calls + u64::from(step.calls), failed + u64::from(step.failed), slow + u64::from(step.slow))
        });
        let reaches = |count: u64, percent: u32| count * 100 >= calls * u64::from(percent);
        calls >= config.calls.into() && (reaches(failed, config.failed_percent) || reaches(slow, config.slow_percent))
    }
}
