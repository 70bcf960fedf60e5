//! More and more, step by step, until a threshold breaks. The knee is the last step that kept all of them; what ran out first is
//! read off the samples of the step that did not.

mod load;
mod resource;
mod result;

use std::time::Duration;

use anyhow::ensure;

use crate::Outcome;
use crate::crowd::bounded;
use crate::figures::Figures;
use crate::fleet::options::FleetOptions;
use crate::options::{Common, duration};
use crate::run::Run;
use crate::threshold::{Check, Threshold};
use load::Load;
use result::{Step, Summary};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetOptions,
    /// What grows
    #[arg(long, value_enum, default_value_t = Of::Rate)]
    of: Of,
    /// Where it begins: messages a second, or sockets
    #[arg(long, default_value_t = 200.0, value_name = "X")]
    from: f64,
    /// Where it ends even if nothing breaks
    #[arg(long, default_value_t = 200_000.0, value_name = "X")]
    to: f64,
    /// Each step is so many times the one before
    #[arg(long, default_value_t = 1.5, value_name = "F")]
    factor: f64,
    /// How long each step is held
    #[arg(short = 'd', long = "duration", default_value = "8s", value_parser = duration, value_name = "TIME")]
    hold: Duration,
    /// Sockets, where the rate grows
    #[arg(short, long, default_value_t = 1_000, value_name = "N")]
    connections: u32,
    /// Readers of each conversation
    #[arg(long, default_value_t = 10, value_name = "N")]
    readers: u32,
    /// Messages a second in all, where sockets grow
    #[arg(short, long, default_value_t = 50.0, value_name = "R")]
    rate: f64,
    /// Topics instead of conversations: what nobody stores
    #[arg(long)]
    topics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Of {
    /// Messages a second
    Rate,
    /// Sockets
    Connections,
}

/// What breaks, if nothing else is asked for.
const BREAKS: &str = "p99<50ms";
/// Steps beyond are not begun.
const STEPS: usize = 60;
const MAIN: &str = "send_to_deliver";

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.common.refuse_messages("each step is held for --duration")?;
    ensure!(args.factor >= 1.01, "--factor: above 1");
    ensure!(args.from >= 1.0 && args.to >= args.from, "--from: at least 1, and not above --to");
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    ensure!(args.connections > 0 && args.readers > 0, "--connections and --readers: at least 1");
    bounded(args.common.timeout, stressed(&args)).await
}

async fn stressed(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::start("stress", &args.common)?;
    let mut thresholds = run.take_thresholds();
    if thresholds.is_empty() {
        thresholds.push(BREAKS.parse::<Threshold>().map_err(anyhow::Error::msg)?);
    }
    let mut load = Load::new(args, &run).await?;
    let (mut steps, mut asked): (Vec<Step>, f64) = (Vec::new(), args.from);
    let mut broken = Vec::new();
    while asked <= args.to && steps.len() < STEPS && broken.is_empty() {
        let step = load.step(asked, &run).await;
        broken = step.broken(&thresholds);
        eprintln!("{}", step.line(&broken));
        steps.push(step);
        // Sockets are whole.
        asked = (asked * args.factor).max(asked + 1.0).round();
    }
    run.timeline().mark("the end of the ramp");
    run.finish(&Summary::new(args, steps, broken))
}

impl Step {
    /// The thresholds that it does not keep, and what it did not deliver.
    fn broken(&self, thresholds: &[Threshold]) -> Vec<String> {
        let Ok(json) = serde_json::to_value(self) else { return vec!["no figures".into()] };
        let figures = Figures::of(&json);
        let checks = thresholds.iter().map(|threshold| threshold.check(&figures, MAIN));
        let missed = checks.filter(|check| !check.ok).map(|check| words(&check));
        self.trouble.iter().cloned().chain(missed).collect()
    }
}

fn words(check: &Check) -> String {
    let observed = check.observed.map_or("nothing".into(), crate::unit::number);
    format!("{} is {observed}, must be {}", check.figure, check.must)
}
