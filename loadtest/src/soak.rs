//! A mix of everything that a server in use does, for as long as asked: conversations, topics, typing, and people who leave and
//! come back. At the end everything is accounted for, and what should not grow is held against its bound.

mod part;
mod result;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Outcome;
use crate::crowd::bounded;
use crate::fleet::options::FleetOptions;
use crate::options::{Common, duration};
use crate::progress::{self, Progress};
use crate::run::Run;
use crate::timeline::Plot;
use part::{Part, Typing};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetOptions,
    /// Sockets: of ten, six are in conversations, three on topics, and one leaves and comes back
    #[arg(short, long, default_value_t = 1_000, value_name = "N")]
    connections: u32,
    /// Messages a second in all
    #[arg(short, long, default_value_t = 100.0, value_name = "R")]
    rate: f64,
    /// How long
    #[arg(short, long, default_value = "10min", value_parser = duration)]
    duration: Duration,
    /// What happens before this does not count for the slopes; a third of the time if it is not said
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warm_up: Option<Duration>,
    /// How often a tenth of the sockets is cut and comes back
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    cut_every: Duration,
}

const CONNECTING: Duration = Duration::from_secs(300);
/// A p99 a second and a slope need some.
const LEAST: Duration = Duration::from_secs(15);

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.common.refuse_messages("slopes are over --duration")?;
    ensure!(args.connections >= 20, "--connections: at least 20");
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    ensure!(args.duration >= LEAST, "--duration: at least {LEAST:?}");
    ensure!(args.warm_up.is_none_or(|warm_up| warm_up < args.duration), "--warm-up: less than --duration");
    ensure!(args.duration < args.common.timeout, "--timeout: more than --duration");
    ensure!(!args.common.pids.is_empty(), "--pid is needed: it is the server that must not grow");
    bounded(args.common.timeout, soaked(&args)).await
}

async fn soaked(args: &Args) -> anyhow::Result<Outcome> {
    let run = Run::start("soak", &args.common)?;
    let mut parts = part::all(&args.common, &args.fleet, args.connections).await?;
    draw(&run, &parts);
    for part in &mut parts {
        part.fleet.connect(CONNECTING).await?;
    }
    let typed = Arc::new(AtomicU64::new(0));
    let typing = Typing::begin(&parts[0], &typed).await?;
    let begun_s = run.timeline().now_s();
    run.timeline().mark("all are connected");
    for part in &mut parts {
        let stream = part.fleet.plan().stream(args.rate * part.share, args.duration, part::BODY_BYTES);
        part.fleet.publish(vec![stream]).await?;
    }
    let warm_up = args.warm_up.unwrap_or(args.duration / 3);
    let cuts = go_on(args, &run, &mut parts, warm_up).await?;
    let ended_s = run.timeline().now_s();
    typing.end();
    let mut accounts = Vec::new();
    for part in &mut parts {
        accounts.push(part.settle(args.common.timeout).await?);
    }
    let timeline = run.timeline().copy();
    let summary = result::Summary::new(
        args,
        accounts,
        &parts,
        (cuts, typed.load(Ordering::Relaxed)),
        result::slopes(&timeline, begun_s + warm_up.as_secs_f64(), ended_s),
    )?;
    run.finish(&summary)
}

/// Until the time is over: cuts, and tells how it goes. How often sockets were cut.
async fn go_on(args: &Args, run: &Run, parts: &mut [Part], warm_up: Duration) -> anyhow::Result<u32> {
    let started = Instant::now();
    let (end, mut cut_at) = (started + args.duration, started + args.cut_every);
    let mut warm = Some(started + warm_up);
    let mut progress = Progress::new(args.duration.as_secs().max(1));
    let mut cuts = 0;
    while Instant::now() < end {
        if warm.is_some_and(|at| at <= Instant::now()) {
            warm = None;
            run.timeline().mark("the warm-up is over");
        }
        if cut_at <= Instant::now() {
            cut_at += args.cut_every;
            for part in parts.iter_mut().filter(|part| part.restless) {
                part.fleet.cut().await?;
                part.fleet.connect(CONNECTING).await?;
                cuts += 1;
            }
        }
        progress.tell(started.elapsed().as_secs(), || told(parts, cuts));
        sleep_until((Instant::now() + progress::EVERY).min(end)).await;
    }
    progress.end();
    // What was sent in the last second is under way.
    sleep(progress::EVERY).await;
    Ok(cuts)
}

fn told(parts: &[Part], cuts: u32) -> String {
    let counts = parts.iter().map(|part| part.fleet.state().counts);
    let (acked, delivered) = counts.fold((0, 0), |(a, d), counts| (a + counts.acked, d + counts.deliveries));
    format!("{acked} acked, {delivered} delivered, {cuts} times cut")
}

fn draw(run: &Run, parts: &[Part]) {
    for part in parts {
        let (rate, latency) = (part.fleet.watcher(), part.fleet.watcher());
        run.sampler().watch_rate(Plot::RATE, part.name, move || rate.state().counts.deliveries);
        let p99 = move || latency.drawn(crate::fleet::tally::Kind::Deliver).map(|times| times.p99_ms);
        run.sampler().watch(Plot::LATENCY, part.name, p99);
    }
    let watchers: Vec<_> = parts.iter().map(|part| part.fleet.watcher()).collect();
    run.sampler().watch(Plot::SOCKETS, "connected here", move || {
        Some(watchers.iter().map(|watcher| f64::from(watcher.state().present)).sum())
    });
}
