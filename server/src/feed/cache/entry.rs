//! What is kept, and for how long. When it is made anew is a pure function of its age and of chance.

use std::time::{Duration, Instant};

use super::Config;

/// What `soft` differs by, of it, up or down: what was made at once is not made anew at once.
const SPREAD: f64 = 0.1;
/// What an entry costs besides its value.
const OVERHEAD_BYTES: usize = 256;

/// A value that was made.
#[derive(Debug)]
pub struct Entry<V> {
    /// Greater than those made before it of the same key.
    pub version: u64,
    pub value: V,
    life: Life,
    made: Age,
    weight: u32,
}

/// How long an entry is of use from when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub soft: Duration,
    pub hard: Duration,
    /// How long it took to make it.
    pub cost: Duration,
}

/// How old an entry was at a moment of this process' clock. No two clocks are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    seen: Instant,
    then: Duration,
}

impl Age {
    pub(super) fn at_present(age: Duration) -> Self {
        Self { seen: Instant::now(), then: age }
    }

    /// Where this clock does not go back that far, its beginning would do as well: nothing was marked before it.
    fn since(self) -> Instant {
        self.seen.checked_sub(self.then).unwrap_or(self.seen)
    }

    fn at(self, now: Instant) -> Duration {
        self.then + now.saturating_duration_since(self.seen)
    }
}

impl<V> Entry<V> {
    pub(super) fn new(version: u64, value: V, life: Life, made: Age, bytes: usize) -> Self {
        // Decoded, a value is a little larger than its bytes.
        let weight = u32::try_from(bytes + bytes / 4 + OVERHEAD_BYTES).unwrap_or(u32::MAX);
        Self { version, value, life, made, weight }
    }

    /// When making it began.
    pub(super) fn began(&self) -> Instant {
        self.made.since()
    }

    /// Of no more use.
    pub(super) fn is_gone(&self) -> bool {
        self.made.at(Instant::now()) >= self.life.hard
    }

    /// Whether this look is the one that has it made anew.
    pub(super) fn is_stale(&self, chance: f64) -> bool {
        self.life.is_stale(self.made.at(Instant::now()), chance)
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }
}

impl Life {
    /// `chance` is from 0 to 1.
    pub(super) fn new(config: &Config, cost: Duration, chance: f64) -> Self {
        let soft = config.soft.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * chance.clamp(0.0, 1.0));
        Self { soft: soft.min(config.hard), hard: config.hard, cost }
    }

    /// XFetch (Vattani, Chierichetti, Lowenstein 2015): the nearer the end and the longer it takes to make, the likelier is
    /// an early start; so one of many who look starts, not all of them at the end. `chance` is from 0 to 1, evenly.
    fn is_stale(self, age: Duration, chance: f64) -> bool {
        let early = self.cost.as_secs_f64() * -chance.clamp(f64::MIN_POSITIVE, 1.0).ln();
        age.as_secs_f64() + early >= self.soft.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[track_caller]
    fn check(age_ms: u64, cost_ms: u64, chance: f64, expected: bool) {
        let life = Life { soft: ms(60_000), hard: ms(600_000), cost: ms(cost_ms) };
        assert_eq!(life.is_stale(ms(age_ms), chance), expected, "age {age_ms}, cost {cost_ms}, chance {chance}");
    }

    #[test]
    fn it_is_made_anew_at_its_soft_end_and_by_chance_earlier() {
        check(0, 100, 0.5, false);
        check(59_999, 0, 0.000_001, false);
        check(60_000, 0, 1.0, true);
        // −ln(1/e) = 1: as much earlier as it takes to make.
        check(59_900, 100, 0.367_8, true);
        check(59_899, 100, 0.367_9, false);
        check(59_899, 100, 0.3, true);
        check(0, 100, 0.0, true);
    }

    #[test]
    fn soft_is_spread_by_a_tenth_each_way_and_never_past_hard() {
        let config = Config::default();
        for (chance, soft_ms) in [(0.0, 54_000), (0.5, 60_000), (1.0, 66_000)] {
            assert_eq!(Life::new(&config, ms(1), chance).soft, ms(soft_ms));
        }
        let config = Config { soft: ms(100), hard: ms(100), ..config };
        assert_eq!(Life::new(&config, ms(1), 1.0).soft, ms(100));
    }

    #[test]
    fn an_entry_ages_and_is_gone() {
        let life = Life { soft: ms(60_000), hard: ms(600_000), cost: ms(0) };
        let entry = |age_ms| Entry::new(1, (), life, Age::at_present(ms(age_ms)), 0);
        let states = [0, 60_000, 600_000].map(|age_ms| (entry(age_ms).is_stale(1.0), entry(age_ms).is_gone()));
        assert_eq!(states, [(false, false), (true, false), (true, true)]);
    }
}
