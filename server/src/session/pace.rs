//! How fast one connection may send commands.

use bowline_protocol::limits::Limits;
use bowline_protocol::{Code, Failure};

/// A token bucket, kept as the moment at which it is full again (the theoretical arrival time of the generic cell rate
/// algorithm), in microseconds, and in the low bits how often this was refused since the bucket was last full: every socket
/// has one, in the eight bytes that its session has left.
#[derive(Debug, Default)]
pub(super) struct Pace(i64);

/// What becomes of one frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Yes,
    /// With `rate_limited`; it takes nothing out of the bucket.
    Refused(Failure),
    /// Refusals do not stop this client.
    TooOften,
}

/// One that goes on after so many refusals, without ever leaving the bucket the time to fill, is cut.
const MAX_REFUSED: i64 = 1_000;
const REFUSED_BITS: u32 = 12;

impl Pace {
    /// Takes one token, whatever the frame is.
    pub(super) fn take(&mut self, limits: &Limits, now_ms: i64) -> Pass {
        if limits.commands_per_s == 0 {
            return Pass::Yes;
        }
        let interval_us = (1_000_000 / as_i64(limits.commands_per_s)).max(1);
        let burst_us = interval_us.saturating_mul(as_i64(limits.commands_burst.max(1)));
        let now_us = now_ms.saturating_mul(1_000);
        let (known_us, refused) = (self.0 >> REFUSED_BITS, self.0 & ((1 << REFUSED_BITS) - 1));
        let refused = if known_us <= now_us { 0 } else { refused };
        // The clock may be set back: nobody owes more than a whole bucket.
        let full_at_us = known_us.clamp(now_us, now_us.saturating_add(burst_us));
        let wait_us = full_at_us + interval_us - now_us - burst_us;
        if wait_us <= 0 {
            self.0 = (full_at_us + interval_us) << REFUSED_BITS | refused;
            return Pass::Yes;
        }
        let refused = (refused + 1).min(MAX_REFUSED + 1);
        self.0 = full_at_us << REFUSED_BITS | refused;
        if refused > MAX_REFUSED {
            return Pass::TooOften;
        }
        let wait_ms = u64::try_from(wait_us).unwrap_or(0).div_ceil(1_000);
        Pass::Refused(Failure {
            limit: Some(limits.commands_per_s),
            ..Failure::retry_after(Code::RateLimited, wait_ms)
        })
    }
}

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_767_225_600_000;

    /// A rate, and a burst.
    fn limits(commands_per_s: u64, commands_burst: u64) -> Limits {
        Limits { commands_per_s, commands_burst, ..Limits::default() }
    }

    /// How many of `n` frames at this moment pass, and what the last refusal asks for.
    fn passed(pace: &mut Pace, limits: &Limits, at_ms: i64, n: usize) -> (usize, Option<u64>) {
        let mut asked = None;
        let passed = (0..n).filter(|_| match pace.take(limits, START_MS + at_ms) {
            Pass::Yes => true,
            Pass::Refused(failure) => {
                assert_eq!(failure.code, Code::RateLimited);
                asked = failure.retry_after_ms;
                false
            }
            Pass::TooOften => false,
        });
        (passed.count(), asked)
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let limits = limits(100, 5);
        let mut pace = Pace::default();
        for (at_ms, expected) in [
            (0, (5, Some(10))),
            (9, (0, Some(1))),
            (10, (1, Some(10))),
            (35, (2, Some(5))),
            (1_000, (5, Some(10))),
            // The clock is set back, and goes on.
            (-5_000, (0, Some(10))),
            (-4_990, (1, Some(10))),
        ] {
            assert_eq!(passed(&mut pace, &limits, at_ms, 8), expected, "at {at_ms} ms");
        }
    }

    #[test]
    fn a_rate_of_nought_is_none() {
        assert_eq!(passed(&mut Pace::default(), &limits(0, 5), 0, 10_000), (10_000, None));
    }

    #[test]
    fn one_that_never_pauses_is_cut_and_one_that_does_starts_anew() {
        let limits = limits(100, 5);
        let cut_after = |pace: &mut Pace, from_ms: i64| {
            (0..10_000).position(|n| pace.take(&limits, START_MS + from_ms + n / 100) == Pass::TooOften)
        };
        let mut pace = Pace::default();
        let first = cut_after(&mut pace, 0);
        assert!(first.is_some_and(|frames| (1_000..1_100).contains(&frames)), "{first:?}");
        assert_eq!(pace.take(&limits, START_MS + 60_000), Pass::Yes);
        assert_eq!(cut_after(&mut pace, 120_000), first);
    }
}
