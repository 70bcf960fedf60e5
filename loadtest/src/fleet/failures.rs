//! Attempts to connect that did not succeed, by the reason.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Failures(BTreeMap<String, u64>);

/// Reasons that are told apart; what is beyond counts as [`OTHER`].
const REASONS: usize = 16;
const OTHER: &str = "another reason";

impl Failures {
    pub(crate) fn count(&mut self, why: &str, times: u64) {
        let known = self.0.contains_key(why) || self.0.len() < REASONS;
        *self.0.entry(if known { why } else { OTHER }.to_owned()).or_default() += times;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(why, times)| self.count(why, *times));
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(why, times)| (why.as_str(), *times))
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (why, times)) in self.iter().enumerate() {
            write!(f, "{}{times} × {why}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_counted_and_a_few_reasons_are_told_apart() {
        let (mut one, mut both) = (Failures::default(), Failures::default());
        one.count("refused", 2);
        one.count("too late", 1);
        both.add(&one);
        both.add(&one);
        assert_eq!((both.total(), both.to_string().as_str()), (6, "4 × refused, 2 × too late"));
        (0..100).for_each(|n| both.count(&format!("reason {n}"), 1));
        assert_eq!((both.total(), both.iter().count()), (106, REASONS + 1));
        assert!(both.iter().any(|(why, times)| (why, times) == (OTHER, 100 - (REASONS as u64 - 2))));
    }
}
