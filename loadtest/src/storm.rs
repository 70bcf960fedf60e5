//! All sockets are cut at once, messages are stored meanwhile, and all come back with their cursors, as fast as the server
//! lets them: how long until everyone has everything that was missed, and what that costs the database.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use crate::Outcome;
use crate::cost::{Cost, Moment};
use crate::crowd::{Account, Crowd, REST, bounded};
use crate::fleet::now_ns;
use crate::fleet::options::{FleetOptions, Following};
use crate::fleet::tally::Kind;
use crate::options::Common;
use crate::report::Lines;
use crate::run;
use crate::sample::metrics;
use crate::times::Percentiles;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetOptions,
    #[command(flatten)]
    following: Following,
    /// Messages that each conversation gets while nobody is there
    #[arg(long, default_value_t = 20, value_name = "M")]
    missed: u32,
}

const BODY_BYTES: usize = 128;
/// Messages open a publisher while nobody is there.
const WINDOW: u32 = 24;
/// Users whose places one statement reads when many come back at once; each needs three such statements.
const USERS_A_STATEMENT: u64 = 256;
const STATEMENTS: &str = "bowline_database_statements_total";

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    args.common.refuse_messages("--missed says what each conversation gets")?;
    args.following.check()?;
    ensure!(args.missed > 0, "--missed: at least 1");
    bounded(args.common.timeout, measured(&args)).await
}

async fn measured(args: &Args) -> anyhow::Result<Outcome> {
    let mut crowd = Crowd::gather("storm", (&args.common, &args.fleet), args.following.seats(), false).await?;
    let before = Moment::of(&crowd.pids)?;
    crowd.enter().await?;
    let entered = crowd.fleet.lately().await?.percentiles(Kind::Enter);

    crowd.fleet.cut().await?;
    crowd.run.timeline().mark("all are cut");
    let burst = crowd.fleet.plan().burst(args.missed, WINDOW, BODY_BYTES);
    crowd.fleet.publish(vec![burst]).await?;
    crowd.fleet.published(args.common.timeout).await?;
    crowd.fleet.expect().await?;
    tokio::time::sleep(REST).await;

    let (cut, counted) = (Moment::of(&crowd.pids)?, statements(&args.common.urls));
    crowd.run.timeline().mark("all come back");
    let started = now_ns();
    let connected = crowd.fleet.connect(args.common.timeout).await?;
    let account = crowd.settle().await?;
    let statements = statements(&args.common.urls).zip(counted).map(|(after, before)| (after - before) as u64);
    let whole = Duration::from_nanos(crowd.fleet.state().whole_at_ns.saturating_sub(started));
    crowd.run.timeline().mark("all have everything");
    let returned = crowd.fleet.lately().await?;
    let conversations = u64::from(args.following.conversations) * args.common.urls.len() as u64;
    let summary = Summary {
        following: args.following,
        missed: args.missed,
        back_s: connected.as_secs_f64(),
        whole_s: whole.as_secs_f64(),
        statements,
        statements_allowed: conversations + (3 * u64::from(args.following.sockets)).div_ceil(USERS_A_STATEMENT),
        server: Cost::new([before, cut, Moment::of(&crowd.pids)?], args.following.sockets, account.deliveries),
        account,
        connect: entered,
        cut_to_present: returned.percentiles(Kind::Enter),
    };
    crowd.run.finish(&summary)
}

/// Of all servers together, since they started; none where one does not count them.
fn statements(urls: &[String]) -> Option<f64> {
    urls.iter().map(|url| metrics::value(&metrics::fetch(url)?, STATEMENTS)).sum()
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    following: Following,
    missed: u32,
    back_s: f64,
    whole_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    statements: Option<u64>,
    statements_allowed: u64,
    #[serde(flatten)]
    account: Account,
    connect: Percentiles,
    cut_to_present: Percentiles,
    server: Option<Cost>,
}

impl Summary {
    fn too_many_statements(&self) -> bool {
        self.statements.is_some_and(|statements| statements > self.statements_allowed)
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "storm";
    const MAIN: &'static str = "cut_to_present";

    fn ok(&self) -> bool {
        self.account.ok() && !self.too_many_statements()
    }

    fn verdict(&self) -> String {
        if self.account.ok() && self.too_many_statements() {
            return "every message delivered exactly, but with too many statements".to_owned();
        }
        self.account.verdict()
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say("sockets", self.following);
        let each = self.missed * self.following.follow;
        lines.say("missed", format_args!("{} in each conversation, {each} by each socket", self.missed));
        self.account.lines(lines);
        lines.say("first connect", self.connect.line());
        lines.say("return until present", self.cut_to_present.line());
        lines.say("all present", format_args!("{:.2} s after the first came back", self.back_s));
        lines.say("all whole", format_args!("{:.2} s after the first came back", self.whole_s));
        match self.statements {
            Some(statements) => {
                lines.say("statements", format_args!("{statements}, {} allowed", self.statements_allowed))
            }
            None => lines.say("statements", "not counted by this server"),
        }
        if let Some(server) = &self.server {
            server.lines(lines);
        }
    }
}
