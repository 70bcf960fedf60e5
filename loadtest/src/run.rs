//! What every run has in common: the timeline and its sampler from the start, and at the end one result, told as text, as JSON and
//! as a report, with the thresholds and the baseline that it was given.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{Baseline, Change};
use crate::environment::Environment;
use crate::figures::Figures;
use crate::options::{Common, Output};
use crate::report::{self, Lines, Report};
use crate::sample::Sampler;
use crate::threshold::{Check, Threshold};
use crate::timeline::{Inner, Slope, Timeline};

/// What a scenario came to. Its keys as JSON are documented in docs/loadtest.md.
pub(crate) trait Summary: Serialize {
    const SCENARIO: &'static str;
    /// Whose `p99_ms` is meant by `p99`.
    const MAIN: &'static str;
    /// All that was promised was seen.
    fn ok(&self) -> bool;
    /// One sentence that says so, or what is wrong.
    fn verdict(&self) -> String;
    fn lines(&self, lines: &mut Lines);
}

pub(crate) struct Run {
    timeline: Arc<Timeline>,
    sampler: Sampler,
    environment: Environment,
    thresholds: Vec<Threshold>,
    baseline: Option<Baseline>,
    told: Told,
}

/// Where the result goes.
struct Told {
    output: Output,
    json: Option<PathBuf>,
    report: Option<PathBuf>,
    save_baseline: Option<PathBuf>,
    fail_on_regression: Option<f64>,
}

/// Worse by this much is shown as worse, where nothing says what fails.
const SHOWN_PERCENT: f64 = 10.0;

impl Run {
    /// Sampling begins. A baseline that can't be read is an error here, not after an hour.
    pub(crate) fn start(scenario: &str, common: &Common) -> anyhow::Result<Run> {
        let timeline = Arc::new(Timeline::new());
        let baseline = common.baseline.as_deref().map(|path| Baseline::read(path, scenario)).transpose()?;
        Ok(Run {
            sampler: Sampler::start(&common.pids, &common.urls, &timeline).context("the sampler")?,
            timeline,
            environment: Environment::look(),
            thresholds: common.thresholds.clone(),
            baseline,
            told: Told {
                output: common.output,
                json: common.json.clone(),
                report: common.report.clone(),
                save_baseline: common.save_baseline.clone(),
                fail_on_regression: common.fail_on_regression,
            },
        })
    }

    pub(crate) fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    pub(crate) fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// A threshold of the scenario's own, beside those that were asked for.
    pub(crate) fn must(&mut self, threshold: Threshold) {
        self.thresholds.push(threshold);
    }

    /// Those that were asked for, for a scenario that judges its steps by them and not its end.
    pub(crate) fn take_thresholds(&mut self) -> Vec<Threshold> {
        std::mem::take(&mut self.thresholds)
    }

    /// Tells the result. It is good if the scenario says so, every threshold is kept, and nothing has become worse by more than
    /// `--fail-on-regression` allows.
    pub(crate) fn finish<S: Summary>(self, summary: &S) -> anyhow::Result<Outcome> {
        self.sampler.stop();
        let result = serde_json::to_value(summary)?;
        let figures = Figures::of(&result);
        let checks: Vec<Check> = self.thresholds.iter().map(|one| one.check(&figures, S::MAIN)).collect();
        let allowed = self.told.fail_on_regression;
        let changes: Option<Vec<Change>> =
            self.baseline.map(|baseline| baseline.compare(&figures, allowed.unwrap_or(SHOWN_PERCENT)));
        let regressed = allowed.is_some() && changes.iter().flatten().any(|change| change.regression);
        let ok = summary.ok() && checks.iter().all(|check| check.ok) && !regressed;
        let mut lines = Lines::default();
        summary.lines(&mut lines);
        let report = Report {
            scenario: S::SCENARIO,
            main: S::MAIN,
            ok,
            verdict: verdict(summary.verdict(), &checks, regressed),
            lines,
            figures,
            checks,
            changes,
            environment: self.environment,
            timeline: self.timeline.copy(),
        };
        let result = whole(result, &report);
        match self.told.output {
            Output::Text => report.print(),
            Output::Json => println!("{}", serde_json::to_string_pretty(&result)?),
        }
        if let Some(path) = &self.told.json {
            report::write(path, "--json", &(serde_json::to_string_pretty(&result)? + "\n"))?;
        }
        if let Some(path) = &self.told.report {
            report::write(path, "--report", &report::html(&report))?;
        }
        if let Some(path) = &self.told.save_baseline {
            Baseline::new(S::SCENARIO, &report.environment.command, &report.figures).write(path)?;
        }
        Ok(if ok { Outcome::Good } else { Outcome::Bad })
    }
}

fn verdict(of_scenario: String, checks: &[Check], regressed: bool) -> String {
    let missed: Vec<&str> = checks.iter().filter(|check| !check.ok).map(|check| &*check.figure).collect();
    let mut verdict = of_scenario;
    match &missed[..] {
        [] => {}
        [one] => verdict += &format!(". A threshold is missed: {one}"),
        many => verdict += &format!(". {} of {} thresholds are missed: {}", many.len(), checks.len(), many.join(", ")),
    }
    if regressed {
        verdict += ". It is worse than the baseline";
    }
    verdict
}

/// The scenario's own keys, and those of every run.
fn whole(mut result: Value, report: &Report) -> Value {
    let Value::Object(fields) = &mut result else { return result };
    fields.insert("scenario".into(), report.scenario.into());
    fields.insert("ok".into(), report.ok.into());
    fields.insert("verdict".into(), report.verdict.clone().into());
    fields.insert("checks".into(), json!(report.checks));
    if let Some(changes) = &report.changes {
        fields.insert("changes".into(), json!(changes));
    }
    fields.insert("environment".into(), json!(report.environment));
    fields.insert("timeline".into(), timeline(&report.timeline));
    result
}

fn timeline(timeline: &Inner) -> Value {
    let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
    let series = timeline.series.iter().map(|series| {
        let points: Vec<[f64; 2]> = series.points.iter().map(|p| [round(p.at_s), round(p.value)]).collect();
        let slope = Slope::of(&series.points, 0.0);
        let (plot, unit) = (series.plot.title, series.plot.unit.symbol());
        json!({"plot": plot, "name": series.name, "unit": unit, "slope": slope, "points": points})
    });
    let marks = timeline.marks.iter().map(|mark| json!({"at_s": round(mark.at_s), "text": mark.text}));
    json!({"series": series.collect::<Vec<_>>(), "marks": marks.collect::<Vec<_>>()})
}
