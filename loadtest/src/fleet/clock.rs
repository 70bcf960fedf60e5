//! Nanoseconds of a clock that all processes of one machine share, so that what one sent another can time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    // Every Linux has this clock: an error can't happen, and would show as absurd times.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
