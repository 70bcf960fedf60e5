//! A share of the readers stops reading for a while: what that costs the server, whether the others feel it, and that the
//! slow ones have everything in the end.

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
    #[arg(short, long, default_value_t = 200.0, value_name = "R")]
    rate: f64,
    /// How long the slow ones do not read
    #[arg(short, long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// How long messages flow before, and again afterwards
    #[arg(long, default_value = "10s", value_parser = duration)]
    around: Duration,
    /// One reader of so many stops
    #[arg(long, default_value_t = 10, value_name = "N")]
    one_of: u32,
    /// Length of each body
    #[arg(long, default_value_t = 128, value_name = "N")]
    bytes: usize,
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.common.refuse_messages("messages flow while the slow ones do not read, and --around it")?;
    args.following.check()?;
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    ensure!(args.one_of > 0, "--one-of: at least 1");
    bounded(args.common.timeout, measured(&args)).await
}

async fn measured(args: &Args) -> anyhow::Result<Outcome> {
    let mut crowd = Crowd::gather("slow", (&args.common, &args.fleet), args.following.seats(), false).await?;
    let before = Moment::of(&crowd.pids)?;
    crowd.enter().await?;
    let held = Moment::of(&crowd.pids)?;
    let stream = crowd.fleet.plan().stream(args.rate, args.duration + args.around * 2, args.bytes);
    crowd.flow(vec![stream], args.around).await?;

    let normal = crowd.fleet.lately().await?.percentiles(Kind::Deliver);
    let stopped_at = Moment::of(&crowd.pids)?;
    crowd.fleet.stop_reading(args.one_of).await?;
    crowd.run.timeline().mark("the slow ones stop");
    let most = watch_memory(&crowd, args.duration, stopped_at).await?;
    let stopped = crowd.fleet.lately().await?.percentiles(Kind::Deliver);

    crowd.fleet.read_on().await?;
    crowd.run.timeline().mark("and go on");
    crowd.watch(args.around).await;
    let account = crowd.settle().await?;
    let after = crowd.fleet.lately().await?;
    let summary = Summary {
        following: args.following,
        slow: args.following.sockets.div_ceil(args.one_of),
        rate: args.rate,
        stopped_s: args.duration.as_secs_f64(),
        others_before: normal,
        others_stopped: stopped,
        others_after: after.percentiles(Kind::Deliver),
        slow_deliver: after.percentiles(Kind::Slow),
        added: stopped_at.zip(most).map(|(before, most)| Added::between(before, most)),
        server: Cost::new(
            [before, held, Moment::of(&crowd.pids)?],
            args.following.sockets,
            account.deliveries + account.echoes,
        ),
        account,
    };
    crowd.run.finish(&summary)
}

/// The most of each kind of memory, looked at once a second.
async fn watch_memory(crowd: &Crowd, duration: Duration, first: Option<Moment>) -> anyhow::Result<Option<Moment>> {
    let mut most = first;
    let mut left = duration;
    while !left.is_zero() {
        crowd.watch(left.min(LOOK_EVERY)).await;
        left = left.saturating_sub(LOOK_EVERY);
        let Some((most, now)) = most.as_mut().zip(Moment::of(&crowd.pids)?) else { continue };
        most.usage.pss_bytes = most.usage.pss_bytes.max(now.usage.pss_bytes);
        if let Some((most, now)) = most.cgroup.as_mut().zip(now.cgroup) {
            most.used_bytes = most.used_bytes.max(now.used_bytes);
            most.kernel_bytes = most.kernel_bytes.max(now.kernel_bytes);
        }
    }
    Ok(most)
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    following: Following,
    slow: u32,
    rate: f64,
    stopped_s: f64,
    others_before: Percentiles,
    others_stopped: Percentiles,
    others_after: Percentiles,
    slow_deliver: Percentiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<Added>,
    #[serde(flatten)]
    account: Account,
    server: Option<Cost>,
}

/// What the server's memory grew by while the slow ones did not read, at most.
#[derive(Serialize)]
struct Added {
    process_mib: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_mib: Option<f64>,
}

impl Added {
    fn between(before: Moment, most: Moment) -> Self {
        let mib = |before: u64, most: u64| (most as f64 - before as f64) / MIB;
        let cgroup = before.cgroup.zip(most.cgroup);
        Self {
            process_mib: mib(before.usage.pss_bytes, most.usage.pss_bytes),
            cgroup_mib: cgroup.map(|(before, most)| mib(before.used_bytes, most.used_bytes)),
            kernel_mib: cgroup.map(|(before, most)| mib(before.kernel_bytes, most.kernel_bytes)),
        }
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "slow";
    const MAIN: &'static str = "others_stopped";

    fn ok(&self) -> bool {
        self.account.ok()
    }

    fn verdict(&self) -> String {
        self.account.verdict()
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say("sockets", self.following);
        lines.say("slow", format_args!("{} of them do not read for {:.0} s", self.slow, self.stopped_s));
        lines.say("rate", format_args!("{}/s", self.rate));
        self.account.lines(lines);
        lines.say("others, before", self.others_before.line());
        lines.say("others, meanwhile", self.others_stopped.line());
        lines.say("others, afterwards", self.others_after.line());
        lines.say("the slow ones", self.slow_deliver.line());
        if let Some(added) = &self.added {
            let in_cgroup = match (added.cgroup_mib, added.kernel_mib) {
                (Some(all), Some(kernel)) => format!("; cgroup {all:.1}, {kernel:.1} of it the kernel's"),
                _ => String::new(),
            };
            lines.say("memory added", format_args!("{:.1} MiB in the process{in_cgroup}", added.process_mib));
        }
        if let Some(server) = &self.server {
            server.lines(lines);
        }
    }
}
