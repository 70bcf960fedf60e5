//! Durable sends at a rate, timed from when each was meant to go: a server that falls behind can't hide it by being
//! asked less. Beside it, in the same run, what the disk takes.

pub(crate) mod baseline;
mod load;
mod result;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::Outcome;
use crate::options::{Common, duration};
use crate::pacer::Pacer;
use crate::probe::Probe;
use crate::process;
use crate::progress::{self, Progress};
use crate::run::Run;
use crate::timeline::Plot;
use load::Load;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Conversations, each with a sender of its own
    #[arg(long, default_value_t = 50, value_name = "N")]
    conversations: usize,
    /// Sends a second in all, or `max`
    #[arg(short, long, default_value = "500", value_name = "R|max")]
    rate: Rate,
    /// How long sends go out
    #[arg(short, long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Length of each body
    #[arg(long, default_value_t = 128, value_name = "N")]
    bytes: usize,
    /// Readers in each conversation, beside its sender
    #[arg(long, default_value_t = 1, value_name = "K")]
    readers: usize,
    /// Sends that a sender may have open with `--rate max`
    #[arg(long, default_value_t = 16, value_name = "N")]
    window: usize,
    /// A folder on the disk that the database writes to
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    probe_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    PerSecond(f64),
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Rate::Max),
            text => match text.parse::<f64>() {
                Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Rate::PerSecond(rate)),
                _ => Err("expected a number above 0, or max".into()),
            },
        }
    }
}

/// After the last send, answers and deliveries get this long.
const AFTERWARDS: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    ensure!(args.conversations > 0 && args.window > 0, "--conversations and --window: at least 1");
    ensure!(args.bytes >= load::STAMP_BYTES, "--bytes: at least {}", load::STAMP_BYTES);
    let limit = args.common.timeout;
    timeout(limit, async {
        let (run, summary) = measured("sends", args).await?;
        run.finish(&summary)
    })
    .await
    .context("not done within --timeout")?
}

async fn measured(scenario: &str, mut args: Args) -> anyhow::Result<(Run, result::Summary)> {
    let minting = args.common.minting().context("--token-secret is needed: sends uses minted tokens")?;
    if let Rate::PerSecond(rate) = args.rate {
        args.duration = args.common.flows_for(rate, args.duration);
    }
    let load = Arc::new(Load::new(args.bytes, args.window, args.common.messages));
    let mut sockets = load::prepare(&args, &minting).await?;
    let (before, probe) = (process::usage(&args.common.pids)?, Probe::start(&args.probe_dir)?);
    let run = Run::start(scenario, &args.common)?;
    draw(&run, &load, &probe);

    let until = Instant::now() + args.duration;
    let mut tasks = JoinSet::new();
    let readers = sockets.iter_mut().flat_map(|conversation| conversation.readers.drain(..));
    for reader in readers.collect::<Vec<_>>() {
        tasks.spawn(load::read(Arc::clone(&load), reader));
    }
    let (pacer, turns) = match args.rate {
        Rate::Max => (None, Vec::new()),
        Rate::PerSecond(rate) => {
            let (pacer, turns) = Pacer::new(rate, sockets.len(), args.duration);
            (Some(pacer), turns)
        }
    };
    let mut turns = turns.into_iter();
    for conversation in sockets {
        tasks.spawn(load::send(Arc::clone(&load), conversation, turns.next(), until));
    }
    let late = pacer.map(Pacer::run);
    args.duration = watch(&load, args.duration).await;
    let acked_in_time = load.acked.load(Ordering::Relaxed);
    let after = process::usage(&args.common.pids)?;
    let fdatasync = probe.stop();
    let pacing_late = late.and_then(|thread| thread.join().ok());

    let give_up = Instant::now() + AFTERWARDS;
    while !load.settled(args.readers) && Instant::now() < give_up && !tasks.is_empty() {
        tokio::time::sleep(progress::EVERY).await;
    }
    tasks.shutdown().await;
    let summary = result::Summary::new(&args, &load, acked_in_time, fdatasync, before.zip(after), pacing_late);
    Ok((run, summary))
}

fn draw(run: &Run, load: &Arc<Load>, probe: &Probe) {
    let (acked, delivered) = (Arc::clone(load), Arc::clone(load));
    run.sampler().watch_rate(Plot::RATE, "acked", move || acked.acked.load(Ordering::Relaxed));
    run.sampler().watch_rate(Plot::RATE, "delivered", move || delivered.delivered.load(Ordering::Relaxed));
    let (acks, deliveries, disk) = (Arc::clone(load), Arc::clone(load), probe.times());
    run.sampler().watch(Plot::LATENCY, "ack p99", move || acks.acks.lately().map(|times| times.p99_ms));
    run.sampler()
        .watch(Plot::LATENCY, "delivery p99", move || deliveries.deliveries.lately().map(|times| times.p99_ms));
    run.sampler().watch(Plot::LATENCY, "fdatasync p99", move || disk.lately().map(|times| times.p99_ms));
}

/// Until the time is over, or all that may be sent has its answer; how long that was.
async fn watch(load: &Load, duration: Duration) -> Duration {
    let mut progress = Progress::new(duration.as_secs().max(1));
    let started = Instant::now();
    while started.elapsed() < duration && !load.is_over() {
        tokio::time::sleep(progress::EVERY.min(duration.saturating_sub(started.elapsed()))).await;
        progress.tell(started.elapsed().as_secs(), || load.progress(started.elapsed()));
    }
    progress.end();
    started.elapsed().min(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("0.5".parse(), Ok(Rate::PerSecond(0.5)));
        for text in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
