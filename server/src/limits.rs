//! Rate limits by key: how often one address, one name or one session may do something; and budgets: how much many may hold
//! together.
//!
//! May touch: nothing but memory. Always holds: memory is bounded whatever the number of keys; the longest unused keys
//! are forgotten first, which makes a limit laxer for them and never stricter for a stranger.

mod budget;

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_protocol::{Code, Failure};

use crate::config::Invalid;
pub use budget::{Budget, Share};

/// A token bucket: `burst` at once, then one each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub burst: u32,
    pub interval_ms: u64,
}

impl Rate {
    pub fn validate(&self) -> Vec<Invalid> {
        let burst = Invalid::unless_in("burst", self.burst.into(), 1..=1_000_000);
        burst.into_iter().chain(Invalid::unless_in("interval_ms", self.interval_ms, 1..=3_600_000)).collect()
    }
}

/// Token buckets by key, at most twice `keys` of them.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Rate,
    keys: usize,
    /// Held for one lookup, never across an await.
    buckets: Mutex<Generations<K>>,
}

/// Keys used lately, and those used before these filled a generation. A bucket is kept as the moment at which it is
/// full again (the theoretical arrival time of the generic cell rate algorithm).
#[derive(Debug)]
struct Generations<K> {
    young: HashMap<K, Instant>,
    old: HashMap<K, Instant>,
}

impl<K: Hash + Eq> Limiter<K> {
    pub fn new(rate: Rate, keys: usize) -> Self {
        let buckets = Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        Self { rate, keys: keys.max(1), buckets }
    }

    /// Takes one token, or says in `rate_limited` after how long there is one. A refusal takes nothing.
    pub fn take(&self, key: K) -> Result<(), Failure> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: K, now: Instant) -> Result<(), Failure> {
        let interval = Duration::from_millis(self.rate.interval_ms);
        let burst = interval.saturating_mul(self.rate.burst.max(1));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = buckets.young.get(&key).or_else(|| buckets.old.get(&key)).copied();
        let full_at = known.unwrap_or(now).max(now);
        let wait = (full_at + interval).saturating_duration_since(now).saturating_sub(burst);
        // A refused key is kept young as well, or flooding with others would wash its debt away.
        buckets.young.insert(key, if wait.is_zero() { full_at + interval } else { full_at });
        if buckets.young.len() >= self.keys {
            buckets.old = mem::take(&mut buckets.young);
        }
        if wait.is_zero() {
            return Ok(());
        }
        let wait_ms = u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
        Err(Failure::retry_after(Code::RateLimited, wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, interval_ms: 1_000 };

    fn refused_for(result: Result<(), Failure>) -> Option<u64> {
        result.err().and_then(|f| f.retry_after_ms)
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let limiter = Limiter::new(RATE, 10);
        let start = Instant::now();
        for (at_ms, expected) in
            [(0, None), (0, None), (0, None), (0, Some(1_000)), (400, Some(600)), (1_000, None), (1_000, Some(1_000))]
        {
            let result = limiter.take_at("a", start + Duration::from_millis(at_ms));
            assert_eq!(refused_for(result), expected, "at {at_ms} ms");
        }
        assert_eq!(refused_for(limiter.take_at("b", start)), None, "keys do not share");
    }

    #[test]
    fn memory_is_bounded_and_a_busy_key_is_not_forgotten() {
        let limiter = Limiter::new(RATE, 8);
        let now = Instant::now();
        let passed = (1..1_000).filter(|other| limiter.take_at(*other, now).is_ok() && limiter.take_at(0, now).is_ok());
        assert_eq!(passed.count(), 3);
        let buckets = limiter.buckets.lock().unwrap();
        assert!(buckets.young.len() + buckets.old.len() <= 16);
    }
}
