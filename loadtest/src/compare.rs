//! A run's figures kept in a file, and a later run held against them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::unit::Unit;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    scenario: String,
    /// For whoever wonders what was measured; not compared.
    command: String,
    figures: BTreeMap<String, f64>,
}

/// One figure, then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) figure: String,
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// By how many percent it is worse; below zero, better.
    pub(crate) worse_percent: f64,
    /// Worse by more than is allowed, and by more than noise.
    pub(crate) regression: bool,
}

impl Baseline {
    pub(crate) fn new(scenario: &str, command: &str, figures: &Figures) -> Self {
        let figures = figures.iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { scenario: scenario.to_owned(), command: command.to_owned(), figures }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("--save-baseline {}", path.display()))
    }

    /// Of another scenario there is nothing to compare.
    pub(crate) fn read(path: &Path, scenario: &str) -> anyhow::Result<Self> {
        let shown = || format!("--baseline {}", path.display());
        let text = std::fs::read_to_string(path).with_context(shown)?;
        let baseline: Baseline = serde_json::from_str(&text).with_context(shown)?;
        ensure!(baseline.scenario == scenario, "{}: it is of the scenario {}", shown(), baseline.scenario);
        Ok(baseline)
    }

    /// The figures that can be better or worse. `allowed_percent` is how much worse is no regression.
    pub(crate) fn compare(&self, figures: &Figures, allowed_percent: f64) -> Vec<Change> {
        let compared = figures.iter().filter_map(|(name, after)| {
            let (higher_is_better, noise) = direction(name)?;
            let before = *self.figures.get(name)?;
            let worse_by = if higher_is_better { before - after } else { after - before };
            let worse_percent = if before.abs() > f64::EPSILON { worse_by / before.abs() * 100.0 } else { 0.0 };
            let regression = worse_percent > allowed_percent && worse_by > noise;
            Some(Change { figure: name.to_owned(), before, after, worse_percent, regression })
        });
        compared.collect()
    }
}

/// Whether more is better, and what difference is nothing at all. None for what only describes the run, and for the largest of
/// many times, which two runs never share.
fn direction(name: &str) -> Option<(bool, f64)> {
    let last = name.rsplit('.').next().unwrap_or(name);
    match Unit::of(name) {
        Unit::Ms if ["p50_ms", "p90_ms", "p99_ms"].contains(&last) => Some((false, 0.5)),
        Unit::PerSecond => Some((true, 0.0)),
        Unit::Us => Some((false, 0.1)),
        Unit::Mib => Some((false, 1.0)),
        Unit::Bytes if last.starts_with("bytes_per_") => Some((false, 16.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99: f64, rate: f64, rss: f64) -> Figures {
        Figures::of(&serde_json::json!({
            "send_to_ack": {"p99_ms": p99, "max_ms": p99 * 10.0, "count": 5}, "acked_per_s": rate, "server": {"rss_after_mib": rss},
        }))
    }

    #[track_caller]
    fn check(after: Figures, allowed_percent: f64, expected: &[&str]) {
        let baseline = Baseline::new("sends", "x", &figures(10.0, 1_000.0, 20.0));
        let changes = baseline.compare(&after, allowed_percent);
        let worse: Vec<&str> = changes.iter().filter(|c| c.regression).map(|c| &*c.figure).collect();
        assert_eq!(worse, expected, "{changes:?}");
    }

    #[test]
    fn a_planted_regression_is_found_and_noise_is_none() {
        check(figures(10.0, 1_000.0, 20.0), 5.0, &[]);
        check(figures(12.0, 1_000.0, 20.0), 10.0, &["send_to_ack.p99_ms"]);
        check(figures(12.0, 1_000.0, 20.0), 25.0, &[]);
        check(figures(10.0, 800.0, 20.0), 10.0, &["acked_per_s"]);
        check(figures(10.0, 1_000.0, 30.0), 10.0, &["server.rss_after_mib"]);
        check(figures(5.0, 2_000.0, 10.0), 0.0, &[]);
        check(figures(10.4, 1_000.0, 20.9), 1.0, &[]);
    }

    #[test]
    fn a_baseline_comes_back_from_its_file_and_fits_its_scenario_only() {
        let path = std::env::temp_dir().join(format!("bowline-baseline-{}.json", std::process::id()));
        Baseline::new("sends", "a b", &figures(10.0, 1_000.0, 20.0)).write(&path).expect("written");
        let read = Baseline::read(&path, "sends").expect("read");
        let other = Baseline::read(&path, "idle");
        std::fs::remove_file(&path).expect("there");
        assert!(read.compare(&figures(20.0, 1_000.0, 20.0), 10.0).iter().any(|change| change.regression));
        assert!(other.is_err_and(|error| error.to_string().contains("scenario sends")));
    }
}
