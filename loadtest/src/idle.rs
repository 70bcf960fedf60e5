//! Many sockets that mostly wait: each follows a few conversations, messages flow at a rate, every delivery is counted
//! exactly, and the server's memory is divided by the number of sockets.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use crate::Outcome;
use crate::cost::{Cost, Moment};
use crate::crowd::{Account, Crowd, bounded};
use crate::fleet::options::{FleetOptions, Following};
use crate::fleet::tally::Kind;
use crate::options::{Common, duration};
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetOptions,
    #[command(flatten)]
    following: Following,
    /// Messages a second in all
    #[arg(short, long, default_value_t = 100.0, value_name = "R")]
    rate: f64,
    /// How long messages flow
    #[arg(short, long, default_value = "60s", value_parser = duration)]
    duration: Duration,
}

const BODY_BYTES: usize = 128;

pub(crate) async fn run(mut args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.following.check()?;
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    args.duration = args.common.flows_for(args.rate, args.duration);
    bounded(args.common.timeout, measured(&args)).await
}

async fn measured(args: &Args) -> anyhow::Result<Outcome> {
    let mut crowd = Crowd::gather("idle", (&args.common, &args.fleet), args.following.seats(), false).await?;
    let before = Moment::of(&crowd.pids)?;
    crowd.enter().await?;
    let held = Moment::of(&crowd.pids)?;
    let stream = crowd.fleet.plan().stream(args.rate, args.duration, BODY_BYTES);
    crowd.flow(vec![stream], args.duration).await?;
    let account = crowd.settle().await?;
    let after = Moment::of(&crowd.pids)?;
    let times = crowd.fleet.times();
    let summary = Summary {
        following: args.following,
        rate: args.rate,
        duration_s: args.duration.as_secs_f64(),
        server: Cost::new([before, held, after], args.following.sockets, account.deliveries + account.echoes),
        account,
        send_to_ack: times.percentiles(Kind::Ack),
        send_to_deliver: times.percentiles(Kind::Deliver),
        connect: times.percentiles(Kind::Enter),
        pacing_late: times.percentiles(Kind::Late),
    };
    crowd.run.finish(&summary)
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    following: Following,
    rate: f64,
    duration_s: f64,
    #[serde(flatten)]
    account: Account,
    send_to_ack: Percentiles,
    send_to_deliver: Percentiles,
    connect: Percentiles,
    pacing_late: Percentiles,
    server: Option<Cost>,
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "idle";
    const MAIN: &'static str = "send_to_deliver";

    fn ok(&self) -> bool {
        self.account.ok()
    }

    fn verdict(&self) -> String {
        self.account.verdict()
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say("sockets", self.following);
        lines.say("rate", format_args!("{}/s for {:.0} s", self.rate, self.duration_s));
        self.account.lines(lines);
        lines.say("send to ack", self.send_to_ack.line());
        lines.say("send to deliver", self.send_to_deliver.line());
        if let Some(server) = &self.server {
            server.lines(lines);
        }
    }
}
