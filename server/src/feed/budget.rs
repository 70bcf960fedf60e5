//! One absolute deadline, spent in parts. Pure: the moment is an argument.
//!
//! A part never gets more than its own cap, nor more than is left less a margin for what comes after; and it does not
//! start when too little is left to be of use. Since the parts add up to the whole, a part that uses up its cap leaves the
//! later ones theirs.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, millis};
use crate::deadline::Deadline;

/// Kept back from every part, so that its caller can still act on what came of it.
const MARGIN: Duration = Duration::from_millis(10);
/// With less left, a part does not start.
const LEAST: Duration = Duration::from_millis(20);

/// How long a page may take, and each part of making it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "page_ms", with = "millis")]
    pub page: Duration,
    #[serde(rename = "admission_ms", with = "millis")]
    pub admission: Duration,
    #[serde(rename = "cache_ms", with = "millis")]
    pub cache: Duration,
    /// All sources at once.
    #[serde(rename = "candidates_ms", with = "millis")]
    pub candidates: Duration,
    #[serde(rename = "ranking_ms", with = "millis")]
    pub ranking: Duration,
    #[serde(rename = "hydration_ms", with = "millis")]
    pub hydration: Duration,
    /// Kept for when no source answered in time.
    #[serde(rename = "fallback_ms", with = "millis")]
    pub fallback: Duration,
    #[serde(rename = "encoding_ms", with = "millis")]
    pub encoding: Duration,
}

/// A part of making a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Admission,
    Cache,
    Candidates,
    Ranking,
    Hydration,
    Fallback,
    Encoding,
}

/// What one request may spend.
#[derive(Clone, Debug)]
pub struct Budget {
    deadline: Deadline,
    /// What the caps are multiplied by: less than 1 for a request whose own deadline is earlier than the page's.
    scale: f64,
    caps: Config,
}

impl Budget {
    /// By `deadline`, and by the page's own. A shorter one shrinks every part alike, so that the fallback keeps its share.
    pub fn new(caps: &Config, deadline: Deadline, now: Instant) -> Self {
        let deadline = deadline.min(Deadline::at(now + caps.page));
        let left = deadline.instant().saturating_duration_since(now);
        Self { deadline, scale: left.as_secs_f64() / caps.page.as_secs_f64(), caps: caps.clone() }
    }

    /// By when the whole must be done.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// By when what comes before these parts must be done, so that each of them has its cap.
    pub fn before(&self, parts: &[Part]) -> Deadline {
        let kept: Duration = parts.iter().map(|part| self.caps.of(*part).mul_f64(self.scale)).sum();
        Deadline::at(self.deadline.instant().checked_sub(kept).unwrap_or(self.deadline.instant()))
    }

    /// The same, for work that must be done by this deadline.
    pub fn by(&self, deadline: Deadline) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// By when this part must be done if it starts at `now`; nothing if it must not start.
    pub fn part(&self, part: Part, now: Instant) -> Option<Deadline> {
        let left = self.deadline.instant().saturating_duration_since(now);
        if left < LEAST {
            return None;
        }
        Some(Deadline::at(now + self.caps.of(part).mul_f64(self.scale).min(left - MARGIN)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            page: Duration::from_millis(450),
            admission: Duration::from_millis(20),
            cache: Duration::from_millis(20),
            candidates: Duration::from_millis(150),
            ranking: Duration::from_millis(20),
            hydration: Duration::from_millis(80),
            fallback: Duration::from_millis(120),
            encoding: Duration::from_millis(40),
        }
    }
}

impl Config {
    fn parts(&self) -> [(&'static str, Duration); 7] {
        [
            ("admission_ms", self.admission),
            ("cache_ms", self.cache),
            ("candidates_ms", self.candidates),
            ("ranking_ms", self.ranking),
            ("hydration_ms", self.hydration),
            ("fallback_ms", self.fallback),
            ("encoding_ms", self.encoding),
        ]
    }

    fn of(&self, part: Part) -> Duration {
        match part {
            Part::Admission => self.admission,
            Part::Cache => self.cache,
            Part::Candidates => self.candidates,
            Part::Ranking => self.ranking,
            Part::Hydration => self.hydration,
            Part::Fallback => self.fallback,
            Part::Encoding => self.encoding,
        }
    }

    pub fn validate(&self) -> Vec<Invalid> {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let outside = |(key, time)| Invalid::unless_in(key, in_ms(time), 1..=60_000);
        let mut found: Vec<_> = self.parts().into_iter().filter_map(outside).collect();
        let sum = self.parts().into_iter().fold(Duration::ZERO, |sum, (_, part)| sum.saturating_add(part));
        found.extend(Invalid::unless_in("page_ms", in_ms(self.page), in_ms(sum).max(1)..=60_000));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [Part; 7] = [
        Part::Admission,
        Part::Cache,
        Part::Candidates,
        Part::Ranking,
        Part::Hydration,
        Part::Fallback,
        Part::Encoding,
    ];

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What each part gets, in ms, of a request with so much time when it starts so late.
    #[track_caller]
    fn check(request_ms: u64, part: Part, at_ms: u64, expected_ms: Option<u64>) {
        let start = Instant::now();
        let budget = Budget::new(&Config::default(), Deadline::at(start + ms(request_ms)), start);
        let now = start + ms(at_ms);
        let given = budget.part(part, now).map(|until| until.instant().duration_since(now));
        assert_eq!(given, expected_ms.map(ms), "{part:?} at {at_ms} of {request_ms}");
    }

    #[test]
    fn a_part_gets_its_cap_or_what_is_left_less_a_margin() {
        check(10_000, Part::Admission, 0, Some(20));
        check(450, Part::Cache, 20, Some(20));
        check(450, Part::Candidates, 40, Some(150));
        check(450, Part::Fallback, 400, Some(40));
        check(450, Part::Encoding, 430, Some(10));
        check(450, Part::Encoding, 431, None);
        check(450, Part::Encoding, 9_000, None);
        check(450, Part::Hydration, 210, Some(80));
    }

    #[test]
    fn an_earlier_deadline_shrinks_every_part_alike() {
        check(225, Part::Candidates, 0, Some(75));
        check(225, Part::Fallback, 100, Some(60));
        check(45, Part::Candidates, 0, Some(15));
        check(19, Part::Admission, 0, None);
        check(0, Part::Admission, 0, None);
    }

    proptest! {
        /// Each part takes all that it gets.
        #[test]
        fn parts_that_use_up_their_caps_leave_the_later_ones_theirs(request_ms in 250..1_000_u64) {
            let start = Instant::now();
            let budget = Budget::new(&Config::default(), Deadline::at(start + ms(request_ms)), start);
            let mut now = start;
            for part in PARTS {
                let until = budget.part(part, now).ok_or_else(|| TestCaseError::fail(format!("no {part:?}")))?;
                let cap = Config::default().of(part).mul_f64(request_ms.min(450) as f64 / 450.0);
                let given = until.instant().duration_since(now);
                prop_assert!(given <= cap && given + MARGIN + ms(1) >= cap, "{part:?}: {given:?} of {cap:?}");
                now = until.instant();
            }
            prop_assert!(now <= budget.deadline().instant());
        }
    }

    #[test]
    fn parts_that_are_more_than_the_whole_are_not_allowed() {
        assert_eq!(Config::default().validate(), []);
        let wrong = Config { hydration: ms(81), fallback: ms(0), encoding: ms(1_000), ..Config::default() };
        let keys: Vec<_> = wrong.validate().into_iter().map(|invalid| invalid.key).collect();
        assert_eq!(keys, ["fallback_ms", "page_ms"]);
    }
}
