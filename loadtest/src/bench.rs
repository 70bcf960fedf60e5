//! The hub beside a bare writer of ready-made frames ([`crate::bare`]), in the same run and in alternating rounds: machines are
//! noisy, so only ratios within a round mean anything. Three sides get the same messages over the same kind of sockets: the bare
//! writer, ephemeral topics of the hub, and durable messages in conversations.

mod result;
mod side;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::Outcome;
use crate::bare::Bare;
use crate::crowd::bounded;
use crate::fleet::Watcher;
use crate::fleet::options::FleetOptions;
use crate::fleet::seats::Seats;
use crate::fleet::tally::Kind;
use crate::options::{Common, duration};
use crate::run::Run;
use crate::threshold::Threshold;
use crate::timeline::Plot;
use result::{Round, Summary};
use side::Side;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetOptions,
    /// Rounds of each shape
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: u32,
    /// How long messages flow, a side and a round
    #[arg(short, long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Only this shape
    #[arg(long, value_enum)]
    only: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    /// 1 topic of 1,000 readers, 200 messages a second
    Wide,
    /// 1,000 topics of 10 readers, 2,000 messages a second in all
    Many,
    /// 1 topic of 1,000 readers, 500 messages a second: more than a write a frame can do
    Beyond,
}

impl Name {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Name::Wide => "1 × 1,000, 200/s",
            Name::Many => "1,000 × 10, 2,000/s",
            Name::Beyond => "1 × 1,000, 500/s",
        }
    }
}

/// What is published to how many.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: Name,
    pub(crate) seats: Seats,
    pub(crate) rate: f64,
}

const SHAPES: [Shape; 3] = [
    Shape { name: Name::Wide, seats: Seats { sockets: 1_000, follow: 1, targets: 1, beside: 0 }, rate: 200.0 },
    Shape { name: Name::Many, seats: Seats { sockets: 1_000, follow: 10, targets: 1_000, beside: 0 }, rate: 2_000.0 },
    Shape { name: Name::Beyond, seats: Seats { sockets: 1_000, follow: 1, targets: 1, beside: 0 }, rate: 500.0 },
];

/// What must hold: see "Scale of the hub" in docs/performance.md.
const MUSTS: [(Name, &str); 5] = [
    (Name::Wide, "wide.ephemeral_over_bare>=0.85"),
    (Name::Wide, "wide.durable_over_ephemeral>=0.8"),
    (Name::Many, "many.ephemeral_over_bare>=0.75"),
    (Name::Many, "many.durable_over_ephemeral>=0.8"),
    (Name::Beyond, "beyond.ephemeral.p99_ms<=50"),
];

/// Who is looked at now, by the sampler.
type Shown = Arc<Mutex<Vec<Watcher>>>;

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.common.refuse_messages("each side gets the same for --duration, in each of --rounds")?;
    ensure!(args.rounds > 0, "--rounds: at least 1");
    ensure!(!args.common.pids.is_empty(), "--pid is needed: deliveries are divided by the server's processor time");
    bounded(args.common.timeout, measured(&args)).await
}

async fn measured(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::start("bench", &args.common)?;
    let shown = draw(&run);
    let mut rounds = Vec::new();
    let shapes = SHAPES.iter().filter(|shape| args.only.is_none_or(|only| only == shape.name));
    for shape in shapes {
        for (_, must) in MUSTS.iter().filter(|(name, _)| *name == shape.name) {
            run.must(must.parse::<Threshold>().map_err(anyhow::Error::msg)?);
        }
        rounds.extend(compare(args, shape, &run, &shown).await?);
        shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    run.finish(&Summary::new(args.duration, rounds))
}

/// All rounds of a shape. The order of the sides turns, so that none is always the first.
async fn compare(args: &Args, shape: &Shape, run: &Run, shown: &Shown) -> anyhow::Result<Vec<Round>> {
    let bare = Bare::start()?;
    let mut sides = side::all(&args.common, &args.fleet, shape, &bare).await?;
    *shown.lock().unwrap_or_else(PoisonError::into_inner) = sides.iter().map(Side::watcher).collect();
    run.timeline().mark(format!("{}: all are connected", shape.name.words()));
    let mut rounds = Vec::new();
    for n in 1..=args.rounds {
        let mut round = Round::new(shape.name, n);
        for turn in 0..sides.len() {
            let at = (turn + n as usize) % sides.len();
            let side = &mut sides[at];
            let measured = side.measure(shape.rate, args.duration, &bare).await;
            round.put(at, measured.with_context(|| format!("{:?}, round {n}, {}", shape.name, side.name))?);
        }
        eprintln!("{}", round.line());
        rounds.push(round);
    }
    Ok(rounds)
}

fn draw(run: &Run) -> Shown {
    let shown: Shown = Arc::default();
    for (n, name) in side::NAMES.into_iter().enumerate() {
        let look = {
            let shown = Arc::clone(&shown);
            move || shown.lock().unwrap_or_else(PoisonError::into_inner).get(n).cloned()
        };
        let deliveries = look.clone();
        run.sampler().watch_rate(Plot::RATE, name, move || deliveries().map_or(0, |w| w.state().counts.deliveries));
        run.sampler().watch(Plot::LATENCY, name, move || Some(look()?.drawn(Kind::Deliver)?.p99_ms));
    }
    shown
}
