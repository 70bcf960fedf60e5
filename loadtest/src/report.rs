//! How a result is told: as text on stdout, and as a page of one file.

mod page;
mod picture;

use std::path::Path;

use anyhow::Context;

pub(crate) use page::html;

use crate::compare::Change;
use crate::environment::Environment;
use crate::figures::Figures;
use crate::threshold::Check;
use crate::timeline::Inner;
use crate::unit::{Unit, Written};

/// All that is told of a run.
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) main: &'static str,
    pub(crate) ok: bool,
    pub(crate) verdict: String,
    pub(crate) lines: Lines,
    pub(crate) figures: Figures,
    pub(crate) checks: Vec<Check>,
    /// Against a baseline, if there is one.
    pub(crate) changes: Option<Vec<Change>>,
    pub(crate) environment: Environment,
    pub(crate) timeline: Inner,
}

/// What a scenario says in words: pairs of what and how much.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<(String, String)>);

impl Lines {
    pub(crate) fn say(&mut self, what: &str, value: impl std::fmt::Display) {
        self.0.push((what.to_owned(), value.to_string()));
    }
}

impl Report {
    pub(crate) fn print(&self) {
        for (what, value) in &self.lines.0 {
            line(what, value);
        }
        for check in &self.checks {
            let mark = if check.ok { "kept" } else { "MISSED" };
            line(&check.figure, format_args!("{}, must be {}: {mark}", self.observed(check), check.must));
        }
        for change in self.changes.iter().flatten() {
            let unit = Unit::of(&change.figure);
            let (before, after) = (Written(change.before, unit), Written(change.after, unit));
            let mark = if change.regression { ": WORSE" } else { "" };
            line(&change.figure, format_args!("{before} → {after} ({}){mark}", change.words()));
        }
        line("result", format_args!("{}{}", if self.ok { "" } else { "NOT GOOD: " }, self.verdict));
    }

    fn observed(&self, check: &Check) -> String {
        check.observed.map_or("nothing".to_owned(), |value| Written(value, Unit::of(&check.figure)).to_string())
    }
}

impl Change {
    fn words(&self) -> String {
        match self.worse_percent {
            same if same.abs() < 0.5 => "the same".to_owned(),
            worse if worse > 0.0 => format!("{worse:.0} % worse"),
            better => format!("{:.0} % better", -better),
        }
    }
}

fn line(what: &str, value: impl std::fmt::Display) {
    println!("{what:<30} {value}");
}

pub(crate) fn write(path: &Path, flag: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{flag} {}", path.display()))
}
