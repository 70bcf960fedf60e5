//! Many sockets that mostly wait: each follows a few conversations, messages flow at a rate, every delivery is counted
//! exactly, and the server's memory is divided by the number of sockets.

mod crowd;
mod result;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

use crate::Outcome;
use crate::options::{Common, duration};
use crate::process;
use crate::progress::{self, Progress};
use crate::run::Run;
use crate::timeline::Plot;
use crowd::Crowd;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Sockets, each of a user of its own
    #[arg(short = 'c', long = "connections", alias = "sockets", default_value_t = 10_000, value_name = "N")]
    sockets: usize,
    /// Conversations that each of them follows
    #[arg(long, default_value_t = 5, value_name = "F")]
    follow: usize,
    /// Conversations in all
    #[arg(long, default_value_t = 1_000, value_name = "C")]
    conversations: usize,
    /// Messages a second in all
    #[arg(short, long, default_value_t = 100.0, value_name = "R")]
    rate: f64,
    /// How long messages flow
    #[arg(short, long, default_value = "60s", value_parser = duration)]
    duration: Duration,
}

/// What is under way gets this long to arrive.
const AFTERWARDS: Duration = Duration::from_secs(15);
/// Memory is looked at when nothing has happened for this long.
const REST: Duration = Duration::from_secs(3);

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    ensure!(args.sockets > 0 && args.conversations > 0, "--connections and --conversations: at least 1");
    ensure!(args.follow <= args.conversations, "--follow: at most --conversations");
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    let limit = args.common.timeout;
    timeout(limit, measured(args)).await.context("not done within --timeout")?
}

async fn measured(args: Args) -> anyhow::Result<Outcome> {
    let minting = args.common.minting().context("--token-secret is needed: idle uses minted tokens")?;
    let usage = || process::usage(&args.common.pids);
    let crowd = Arc::new(Crowd::new(&args));
    let run = Run::start("idle", &args.common)?;
    draw(&run, &crowd);
    let senders = crowd::found(&args, &minting).await?;
    sleep(REST).await;
    let before = usage()?;

    let mut tasks = JoinSet::new();
    let connecting = Instant::now();
    crowd::enter(&args, &minting, &crowd, &mut tasks).await?;
    let connected_in = connecting.elapsed();
    run.timeline().mark("all are connected");
    sleep(REST).await;
    let held = usage()?;

    let turns: Vec<_> = senders.into_iter().map(|sender| sender.spawn(Arc::clone(&crowd), &mut tasks)).collect();
    let mut progress = Progress::new(args.duration.as_secs().max(1));
    let (started, mut sent) = (Instant::now(), 0u64);
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while started.elapsed() < args.duration {
        let meant = tick.tick().await;
        let conversation = sent as usize % args.conversations;
        turns[conversation % turns.len()].send((conversation, meant)).await.context("a sender is gone")?;
        sent += 1;
        progress.tell(started.elapsed().as_secs(), || crowd.progress());
    }
    progress.end();
    let give_up = Instant::now() + AFTERWARDS;
    while !crowd.settled(sent) && Instant::now() < give_up {
        sleep(progress::EVERY).await;
    }
    let after = usage()?;
    drop(turns);
    tasks.shutdown().await;
    let result = result::Summary::new(&args, &crowd, sent, connected_in, [before, held, after]);
    run.finish(&result)
}

fn draw(run: &Run, crowd: &Arc<Crowd>) {
    let (acked, delivered, present) = (Arc::clone(crowd), Arc::clone(crowd), Arc::clone(crowd));
    run.sampler().watch_rate(Plot::RATE, "acked", move || acked.acked.load(Ordering::Relaxed));
    run.sampler().watch_rate(Plot::RATE, "delivered", move || delivered.delivered.load(Ordering::Relaxed));
    run.sampler().watch(Plot::SOCKETS, "connected here", move || Some(present.present.load(Ordering::Relaxed) as f64));
    let (acks, deliveries) = (Arc::clone(crowd), Arc::clone(crowd));
    run.sampler()
        .watch(Plot::LATENCY, "delivery p99", move || deliveries.deliveries.lately().map(|times| times.p99_ms));
    run.sampler().watch(Plot::LATENCY, "ack p99", move || acks.acks.lately().map(|times| times.p99_ms));
}
