//! The absolute deadline that a request carries from the edge through every hop.

use std::time::{Duration, Instant};

/// By when an answer is of use. A hop waits for no longer than what is left, and starts nothing once it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// What is left; zero once it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// The earlier of this one and `time` from now: a hop with a cap of its own.
    pub fn capped(self, time: Duration) -> Self {
        self.min(Self::after(time))
    }

    pub fn instant(self) -> Instant {
        self.0
    }
}
