//! 100 users, half of whom write to the other half, 500 messages a second: what every machine that serves chat must keep.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::timeout;

use super::result::Summary;
use super::{Rate, measured};
use crate::Outcome;
use crate::options::{Common, duration};
use crate::report::Lines;
use crate::run;
use crate::threshold::Threshold;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// How long sends go out
    #[arg(short, long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// A folder on the disk that the database writes to
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    probe_dir: PathBuf,
}

const CONVERSATIONS: usize = 50;
const RATE: f64 = 500.0;
const BODY_BYTES: usize = 128;
/// What must hold: see "Chat" in docs/performance.md.
const MUSTS: [&str; 3] = ["send_to_ack.p99<=10ms", "ack_over_fdatasync_p99<=3", "send_to_deliver.p99<=25ms"];

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    let limit = args.common.timeout;
    let sends = super::Args {
        common: args.common,
        conversations: CONVERSATIONS,
        rate: Rate::PerSecond(RATE),
        duration: args.duration,
        bytes: BODY_BYTES,
        readers: 1,
        window: 1,
        probe_dir: args.probe_dir,
    };
    let (mut run, summary) =
        timeout(limit, measured("baseline", sends)).await.context("not done within --timeout")??;
    for must in MUSTS {
        run.must(must.parse::<Threshold>().map_err(anyhow::Error::msg)?);
    }
    run.finish(&Baseline(summary))
}

/// The keys are those of `sends`.
#[derive(Serialize)]
#[serde(transparent)]
struct Baseline(Summary);

impl run::Summary for Baseline {
    const SCENARIO: &'static str = "baseline";
    const MAIN: &'static str = Summary::MAIN;

    fn ok(&self) -> bool {
        self.0.ok()
    }

    fn verdict(&self) -> String {
        self.0.verdict()
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say("users", 2 * CONVERSATIONS);
        self.0.lines(lines);
    }
}
