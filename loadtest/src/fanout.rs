//! One message to many readers: topics or conversations × readers × rate, an open loop. Beside them, on request, a small
//! one whose readers are timed apart: ten thousand must not starve two.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use crate::Outcome;
use crate::cost::{Cost, Moment};
use crate::crowd::{Account, Crowd, bounded};
use crate::fleet::options::FleetOptions;
use crate::fleet::seats::Seats;
use crate::fleet::stamp::STAMP_BYTES;
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
    /// Topics: what nobody stores
    #[arg(long, value_name = "T", conflicts_with = "conversations")]
    topics: Option<u32>,
    /// Conversations instead: durable messages
    #[arg(long, value_name = "C", required_unless_present = "topics")]
    conversations: Option<u32>,
    /// Readers of each, a socket each
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    readers: u32,
    /// Messages a second in all
    #[arg(short, long, default_value_t = 200.0, value_name = "R")]
    rate: f64,
    /// How long messages flow
    #[arg(short, long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Length of each body
    #[arg(long, default_value_t = 128, value_name = "N")]
    bytes: usize,
    /// Readers of one more, which is timed apart; 0: none
    #[arg(long, default_value_t = 0, value_name = "N")]
    beside: u32,
    /// Messages a second to it
    #[arg(long, default_value_t = 20.0, value_name = "R")]
    beside_rate: f64,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    ensure!(args.readers > 0, "--readers: at least 1");
    ensure!(args.bytes >= STAMP_BYTES, "--bytes: at least {STAMP_BYTES}");
    for rate in [args.rate, args.beside_rate] {
        ensure!(rate > 0.0 && rate.is_finite(), "--rate: above 0");
    }
    args.duration = args.common.flows_for(args.rate, args.duration);
    bounded(args.common.timeout, measured(&args)).await
}

async fn measured(args: &Args) -> anyhow::Result<Outcome> {
    let targets = args.topics.or(args.conversations).unwrap_or_default();
    let sockets = targets.saturating_mul(args.readers);
    let seats = Seats { sockets, follow: 1, targets, beside: args.beside };
    let mut crowd = Crowd::gather("fanout", (&args.common, &args.fleet), seats, args.topics.is_some()).await?;
    let before = Moment::of(&crowd.pids)?;
    crowd.enter().await?;
    let held = Moment::of(&crowd.pids)?;
    let plan = crowd.fleet.plan();
    let mut streams = vec![plan.stream(args.rate, args.duration, args.bytes)];
    streams.extend((args.beside > 0).then(|| plan.stream_beside(args.beside_rate, args.duration, args.bytes)));
    crowd.flow(streams, args.duration).await?;
    let account = crowd.settle().await?;
    let after = Moment::of(&crowd.pids)?;
    let times = crowd.fleet.times();
    let summary = Summary {
        topics: args.topics,
        conversations: args.conversations,
        readers: args.readers,
        sockets: seats.readers(),
        rate: args.rate,
        bytes: args.bytes,
        duration_s: args.duration.as_secs_f64(),
        deliveries_per_s: account.deliveries as f64 / args.duration.as_secs_f64(),
        server: Cost::new([before, held, after], seats.readers(), account.deliveries + account.echoes),
        account,
        send_to_ack: times.percentiles(Kind::Ack),
        send_to_deliver: times.percentiles(Kind::Deliver),
        beside: (args.beside > 0).then(|| times.percentiles(Kind::Beside)),
        connect: times.percentiles(Kind::Enter),
        pacing_late: times.percentiles(Kind::Late),
    };
    crowd.run.finish(&summary)
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
struct Summary {
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<u32>,
    readers: u32,
    sockets: u32,
    rate: f64,
    bytes: usize,
    duration_s: f64,
    deliveries_per_s: f64,
    #[serde(flatten)]
    account: Account,
    send_to_ack: Percentiles,
    send_to_deliver: Percentiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Percentiles>,
    connect: Percentiles,
    pacing_late: Percentiles,
    server: Option<Cost>,
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "fanout";
    const MAIN: &'static str = "send_to_deliver";

    fn ok(&self) -> bool {
        self.account.ok()
    }

    fn verdict(&self) -> String {
        self.account.verdict()
    }

    fn lines(&self, lines: &mut Lines) {
        let (targets, what) = match (self.topics, self.conversations) {
            (Some(topics), _) => (topics, "topics"),
            (None, conversations) => (conversations.unwrap_or_default(), "conversations"),
        };
        lines.say("shape", format_args!("{targets} {what} × {} readers, {} sockets", self.readers, self.sockets));
        let (rate, bytes, duration) = (self.rate, self.bytes, self.duration_s);
        lines.say("rate", format_args!("{rate}/s of {bytes} B for {duration:.0} s"));
        self.account.lines(lines);
        lines.say("deliveries a second", format_args!("{:.0}", self.deliveries_per_s));
        lines.say("send to ack", self.send_to_ack.line());
        lines.say("send to deliver", self.send_to_deliver.line());
        if let Some(beside) = &self.beside {
            lines.say("send to deliver, beside", beside.line());
        }
        lines.say("pacing late", self.pacing_late.line());
        if let Some(server) = &self.server {
            server.lines(lines);
        }
    }
}
