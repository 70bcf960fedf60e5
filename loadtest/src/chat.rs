//! Replays a transcript: each author registered and on a socket of his own from his first line on, each room a
//! conversation, the sockets cut at random meanwhile; then every reader's view against the transcript.

mod cast;
mod plant;
mod reader;
mod result;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_client::protocol::Codec;
use clap::ValueEnum;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Outcome;
use crate::options::Common;
use crate::progress::{self, Progress};
use crate::run::Run;
use crate::timeline::Plot;
use crate::transcript::Transcript;
use plant::Plant;
use stage::Stage;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// JSON lines (or the same gzipped) of {room, at, from, body}
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
    /// How many times faster than it was written; 0: each room as fast as its acks come
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    speed: f64,
    /// Sockets to cut while it runs
    #[arg(long, default_value_t = 0, value_name = "N")]
    cuts: usize,
    /// Only the first rooms of the file
    #[arg(long, value_name = "N")]
    limit_rooms: Option<usize>,
    #[arg(long, value_enum, default_value = "proto")]
    codec: CodecArg,
    /// Spoil what one reader saw, to show that the comparison fails
    #[arg(long, value_enum, value_name = "FAULT")]
    plant: Option<Plant>,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodecArg {
    Proto,
    Json,
}

impl From<CodecArg> for Codec {
    fn from(arg: CodecArg) -> Self {
        match arg {
            CodecArg::Proto => Codec::Proto,
            CodecArg::Json => Codec::Json,
        }
    }
}

/// A server that is there has the first author on a socket within this.
const ENTRY: Duration = Duration::from_secs(20);
/// When nothing more arrives for this long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(30);
/// After the last line has arrived: what should not come gets the time to.
const AFTERWARDS: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    if !args.speed.is_finite() || args.speed < 0.0 {
        bail!("--speed: 0 or more");
    }
    let transcript = Transcript::read(&args.transcript, args.limit_rooms, args.common.messages)?;
    let started = Instant::now();
    let deadline = args.common.timeout;
    let run = Run::start("chat", &args.common)?;
    let stage = Arc::new(Stage::new(transcript, args));
    draw(&run, &stage);
    let first = timeout(ENTRY, stage.cast.person(&stage, stage.transcript.rooms[0].lines[0].author)).await;
    first.with_context(|| format!("no socket in {ENTRY:?}: {}", stage.trouble()))??;
    let played = timeout(deadline, play(&stage)).await;
    let sending = started.elapsed();
    if let Ok(result) = &played {
        result.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
        settle(&stage, deadline.saturating_sub(sending)).await;
    }
    let readings = stage.cast.dismiss().await;
    let result = result::Summary::new(&stage, readings, sending, started.elapsed(), played.is_err());
    run.finish(&result)
}

fn draw(run: &Run, stage: &Arc<Stage>) {
    let (acked, seen) = (Arc::clone(stage), Arc::clone(stage));
    run.sampler().watch_rate(Plot::RATE, "lines acked", move || acked.sent());
    run.sampler().watch_rate(Plot::RATE, "deliveries", move || seen.delivered());
    let (acks, deliveries) = (Arc::clone(stage), Arc::clone(stage));
    run.sampler()
        .watch(Plot::LATENCY, "delivery p99", move || deliveries.deliveries.lately().map(|times| times.p99_ms));
    run.sampler().watch(Plot::LATENCY, "ack p99", move || acks.acks.lately().map(|times| times.p99_ms));
}

/// Plays all rooms at once, and cuts sockets meanwhile.
async fn play(stage: &Arc<Stage>) -> anyhow::Result<()> {
    let mut rooms = JoinSet::new();
    for room in 0..stage.transcript.rooms.len() {
        let stage = Arc::clone(stage);
        rooms.spawn(async move { stage.play(room).await });
    }
    let mut progress = Progress::new(stage.transcript.lines() as u64);
    let mut tick = tokio::time::interval(progress::EVERY);
    loop {
        tokio::select! {
            played = rooms.join_next() => match played {
                None => break,
                Some(played) => played??,
            },
            _ = tick.tick() => progress.tell(stage.sent(), || stage.progress()),
        }
    }
    progress.end();
    Ok(())
}

/// Waits until every reader has seen as much as he is to see, or nothing more comes.
async fn settle(stage: &Stage, at_most: Duration) {
    let due = stage.transcript.deliveries();
    let mut progress = Progress::new(due);
    let (mut seen, mut moved) = (stage.delivered(), Instant::now());
    let give_up = Instant::now() + at_most;
    while seen < due && moved.elapsed() < QUIET && Instant::now() < give_up {
        sleep(progress::EVERY).await;
        let next = stage.delivered();
        if next > seen {
            (seen, moved) = (next, Instant::now());
        }
        progress.tell(seen, || stage.progress());
    }
    progress.end();
    sleep(AFTERWARDS).await;
}
