//! How long to wait before the next attempt: full jitter, so that thousands that lost one server come back spread out.

use std::time::Duration;

/// Bounds of the wait. The n-th attempt in a row waits a random time below `base · 2^n`, at most `cap`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub base: Duration,
    pub cap: Duration,
    /// A connection that lasted this long starts the count anew.
    pub stable: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(15), stable: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The wait before attempt `attempt` (0 for the first), never below what the server asked for. `dice` is uniform
    /// in [0, 1).
    pub fn delay(&self, attempt: u32, server_asks: Option<Duration>, dice: f64) -> Duration {
        let jitter = self.ceiling(attempt).mul_f64(dice.clamp(0.0, 1.0));
        // What the server asks for is the same for many clients, so the jitter goes on top.
        server_asks.map_or(jitter, |asked| asked + jitter)
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(1 << attempt.min(20)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn grows_by_two_up_to_the_cap() {
        let b = Backoff { base: MS(100), cap: MS(1_000), stable: MS(5_000) };
        let most: Vec<_> = [0, 1, 2, 3, 4, 60, u32::MAX].map(|n| b.delay(n, None, 1.0)).into();
        assert_eq!(most, [100, 200, 400, 800, 1_000, 1_000, 1_000].map(MS));
        assert_eq!(b.delay(3, None, 0.0), MS(0));
    }

    proptest! {
        #[test]
        fn never_earlier_than_asked_nor_later_than_asked_and_cap(n: u32, asked in 0u64..100_000, dice in 0.0..1.0f64) {
            let b = Backoff::default();
            let delay = b.delay(n, Some(MS(asked)), dice);
            prop_assert!(delay >= MS(asked) && delay <= MS(asked) + b.cap);
        }
    }
}
