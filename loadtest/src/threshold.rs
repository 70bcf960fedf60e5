//! What a figure must keep: `p99<25ms`.

use std::str::FromStr;

use serde::Serialize;

use crate::figures::Figures;
use crate::unit::{Unit, Written};

/// As it was written; what it means is known once there are figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    figure: String,
    below: bool,
    or_equal: bool,
    bound: f64,
    written_unit: String,
}

/// A threshold, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    /// What it looks at, by its whole name; as written if there is no such figure.
    pub(crate) figure: String,
    /// In words: `< 25 ms`.
    pub(crate) must: String,
    /// In the figure's unit.
    pub(crate) bound: f64,
    pub(crate) observed: Option<f64>,
    pub(crate) ok: bool,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a figure, < or >, and a number, as in p99<25ms";
        let at = text.find(['<', '>']).ok_or(EXPECTED)?;
        let (figure, rest) = text.split_at(at);
        let below = rest.starts_with('<');
        let rest = &rest[1..];
        let or_equal = rest.starts_with('=');
        let rest = rest.trim_start_matches('=').trim();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-')).unwrap_or(rest.len());
        let (bound, unit) = rest.split_at(digits);
        let bound: f64 = bound.parse().map_err(|_| EXPECTED)?;
        let (figure, written_unit) = (figure.trim().to_owned(), unit.trim().to_owned());
        let known = [Unit::Ms, Unit::Mib, Unit::PerSecond, Unit::Percent];
        if figure.is_empty() || !known.iter().any(|unit| unit.scale_of(&written_unit).is_some()) {
            return Err(EXPECTED.into());
        }
        Ok(Threshold { figure, below, or_equal, bound, written_unit })
    }
}

impl Threshold {
    /// A figure that is not there keeps nothing: a threshold with a slip of the pen must not pass.
    pub(crate) fn check(&self, figures: &Figures, main: &str) -> Check {
        let sign = match (self.below, self.or_equal) {
            (true, false) => "<",
            (true, true) => "≤",
            (false, false) => ">",
            (false, true) => "≥",
        };
        let found = figures.find(&self.figure, main);
        let unit = found.map_or(Unit::Count, |(name, _)| Unit::of(name));
        let Some(((name, observed), scale)) = found.zip(unit.scale_of(&self.written_unit)) else {
            let must = format!("{sign} {}{}: no such figure, or not in this unit", self.bound, self.written_unit);
            return Check { figure: self.figure.clone(), must, bound: self.bound, observed: None, ok: false };
        };
        let bound = self.bound * scale;
        let inside = if self.below { observed < bound } else { observed > bound };
        Check {
            figure: name.to_owned(),
            must: format!("{sign} {}", Written(bound, unit)),
            bound,
            observed: Some(observed),
            ok: inside || self.or_equal && observed == bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(threshold: &str, ok: bool, must: &str) {
        let result =
            serde_json::json!({"send_to_ack": {"count": 10, "p99_ms": 25.0}, "server": {"rss_mib": 24.0}, "wrong": 0});
        let threshold: Threshold = threshold.parse().expect("a threshold");
        let check = threshold.check(&Figures::of(&result), "send_to_ack");
        assert_eq!((check.ok, check.must.as_str()), (ok, must), "{threshold:?}");
    }

    #[test]
    fn a_figure_keeps_its_bound_or_not() {
        check("p99<25ms", false, "< 25 ms");
        check("p99<=25ms", true, "≤ 25 ms");
        check("p99 < 0.0251s", true, "< 25.1 ms");
        check("p99<25001us", true, "< 25.0 ms");
        check("send_to_ack.p99_ms>1", true, "> 1 ms");
        check("rss<25000KiB", true, "< 24.4 MiB");
        check("rss>=24MiB", true, "≥ 24 MiB");
        check("wrong<=0", true, "≤ 0");
        check("count>10", false, "> 10");
    }

    #[test]
    fn what_is_not_there_or_of_another_kind_does_not_pass() {
        check("p98<25ms", false, "< 25ms: no such figure, or not in this unit");
        check("p99<25MiB", false, "< 25MiB: no such figure, or not in this unit");
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for text in ["p99", "p99<", "<5ms", "p99<5parsecs", "p99<ms", "p99=5"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
