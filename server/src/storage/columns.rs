//! Numbers and times on their way into columns and out of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as the database takes a time; what it could not hold becomes its like far away.
pub fn time(at_ms: i64) -> SystemTime {
    const FAR_MS: u64 = 95_617_584_000_000; // the year 5000
    let ms = Duration::from_millis(at_ms.unsigned_abs().min(FAR_MS));
    if at_ms < 0 { UNIX_EPOCH - ms } else { UNIX_EPOCH + ms }
}

pub fn time_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// As `bigint`. What is above it names nothing that exists, and neither does the greatest `bigint`.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// From a `bigint` that is never negative.
pub fn whole(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
