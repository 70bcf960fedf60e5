//! A run with a fleet: what all scenarios that hold many sockets do in the same way, and how it is accounted for.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::failures::Failures;
use crate::fleet::founding;
use crate::fleet::options::FleetOptions;
use crate::fleet::order::Stream;
use crate::fleet::seats::Seats;
use crate::fleet::tally::Kind;
use crate::fleet::{Fleet, State};
use crate::options::Common;
use crate::progress::{self, Progress};
use crate::report::Lines;
use crate::run::Run;
use crate::timeline::Plot;

pub(crate) struct Crowd {
    pub(crate) fleet: Fleet,
    pub(crate) run: Run,
    pub(crate) pids: Vec<u32>,
    /// By when all must be done.
    end: Instant,
    connect_s: f64,
    client_bytes_per_socket: f64,
}

/// Every message and every delivery. The keys are documented in docs/loadtest.md.
#[derive(Debug, Serialize)]
pub(crate) struct Account {
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_s: Option<f64>,
    connect_retries: u64,
    connect_failures: Failures,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_bytes_per_socket: Option<f64>,
    sent: u64,
    pub(crate) acked: u64,
    refused: u64,
    unanswered: u64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_due: u64,
    /// To the publishers, of what they sent themselves.
    pub(crate) echoes: u64,
    lost: u64,
    repeated: u64,
    reordered: u64,
    altered: u64,
    foreign: u64,
    said_losses: u64,
    sockets_lost: u64,
    pub(crate) complaints: Vec<String>,
}

/// Memory is looked at when nothing has happened for this long.
pub(crate) const REST: Duration = Duration::from_secs(3);
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is under way when the last message was sent gets this long to be answered.
const ANSWERS: Duration = Duration::from_secs(30);

impl Crowd {
    /// Starts the workers, makes the conversations, and connects those who publish; no reader yet.
    pub(crate) async fn gather(
        scenario: &str,
        (common, options): (&Common, &FleetOptions),
        seats: Seats,
        topics: bool,
    ) -> anyhow::Result<Self> {
        let end = Instant::now() + common.timeout;
        let plan = options.plan(common, seats, topics)?;
        let run = Run::start(scenario, common)?;
        let mut fleet = Fleet::start(plan, options.workers)?;
        draw(&run, &fleet);
        if !topics {
            let logs = founding::found(fleet.plan()).await?;
            fleet.follow(logs).await?;
        }
        fleet.connect_publishers(left(end)).await?;
        let crowd = Self { fleet, run, pids: common.pids.clone(), end, connect_s: 0.0, client_bytes_per_socket: 0.0 };
        crowd.rest().await;
        Ok(crowd)
    }

    /// Before memory is looked at.
    async fn rest(&self) {
        if !self.pids.is_empty() {
            sleep(REST).await;
        }
    }

    /// Connects all readers, and waits until nothing happens any more.
    pub(crate) async fn enter(&mut self) -> anyhow::Result<()> {
        let all = self.fleet.plan().seats.readers();
        let mut progress = Progress::new(u64::from(all));
        let watcher = self.fleet.watcher();
        let connecting = self.fleet.connect(left(self.end));
        let connected_in = tokio::select! {
            connected_in = connecting => connected_in,
            never = async {
                loop {
                    let present = watcher.state().present;
                    progress.tell(u64::from(present), || format!("{present} sockets connected"));
                    sleep(progress::EVERY).await;
                }
            } => never,
        }?;
        progress.end();
        self.connect_s = connected_in.as_secs_f64();
        self.run.timeline().mark("all are connected");
        self.rest().await;
        self.client_bytes_per_socket = self.fleet.state().grown_bytes as f64 / f64::from(all);
        Ok(())
    }

    /// Begins to publish, and watches for so long.
    pub(crate) async fn flow(&mut self, streams: Vec<Stream>, duration: Duration) -> anyhow::Result<()> {
        self.fleet.publish(streams).await?;
        self.watch(duration).await;
        Ok(())
    }

    pub(crate) async fn watch(&self, duration: Duration) {
        let mut progress = Progress::new(duration.as_secs().max(1));
        let started = Instant::now();
        while started.elapsed() < duration {
            sleep(progress::EVERY.min(duration.saturating_sub(started.elapsed()))).await;
            progress.tell(started.elapsed().as_secs(), || told(&self.fleet.state()));
        }
        progress.end();
    }

    /// Waits until all is answered and delivered, or nothing more comes; then the account.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<Account> {
        let answered = self.fleet.published(ANSWERS).await;
        self.fleet.expect().await?;
        self.fleet.settle(left(self.end)).await?;
        let mut account = Account::of(&self.fleet);
        account.connect_s = Some(self.connect_s);
        account.client_bytes_per_socket = Some(self.client_bytes_per_socket);
        if let Err(error) = answered {
            account.complaints.push(format!("{error:#}"));
        }
        Ok(account)
    }
}

/// What may still be waited for. Less than `--timeout` leaves, so that what was waited for is said, and not only that
/// there is no time left.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).saturating_sub(LAST_WORDS)
}

/// Does not go on for longer than `--timeout`.
pub(crate) async fn bounded<T>(limit: Duration, run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(limit, run).await.context("not done within --timeout")?
}

impl Account {
    /// Of what has been published until now. How long connecting took, and what it cost here, is not in it.
    pub(crate) fn of(fleet: &Fleet) -> Account {
        let state = fleet.state();
        let (counts, faults) = (state.counts, state.counts.faults);
        Account {
            connect_s: None,
            connect_retries: state.failures.total(),
            connect_failures: state.failures,
            client_bytes_per_socket: None,
            sent: counts.sent,
            acked: counts.acked,
            refused: counts.refused,
            unanswered: counts.sent - counts.acked - counts.refused,
            deliveries: counts.deliveries,
            deliveries_due: fleet.due(),
            echoes: counts.echoes,
            lost: faults.lost + state.behind,
            repeated: faults.repeated,
            reordered: faults.reordered,
            altered: faults.altered,
            foreign: faults.foreign,
            said_losses: counts.said_losses,
            sockets_lost: counts.sockets_lost,
            complaints: state.complaints,
        }
    }

    /// Every message was acked, and delivered to everyone once and in order.
    pub(crate) fn ok(&self) -> bool {
        let wrong = [self.lost, self.repeated, self.reordered, self.altered, self.foreign, self.said_losses];
        let ended = [self.refused, self.unanswered, self.sockets_lost];
        self.deliveries == self.deliveries_due && wrong.iter().chain(&ended).all(|count| *count == 0)
    }

    pub(crate) fn verdict(&self) -> String {
        if self.ok() { "every message delivered exactly" } else { "not every message was delivered exactly" }.to_owned()
    }

    pub(crate) fn lines(&self, lines: &mut Lines) {
        if let Some(connect_s) = self.connect_s {
            lines.say("connected", format_args!("in {connect_s:.2} s"));
        }
        if let Some(bytes) = self.client_bytes_per_socket {
            lines.say("client bytes a socket", format_args!("at most {bytes:.0}"));
        }
        lines.say("messages", format_args!("{} of {} acked, {} refused", self.acked, self.sent, self.refused));
        lines.say("deliveries", format_args!("{} of {}", self.deliveries, self.deliveries_due));
        let faults = [
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("reordered", self.reordered),
            ("altered", self.altered),
            ("of another log", self.foreign),
            ("said to be lost", self.said_losses),
            ("messages unanswered", self.unanswered),
            ("sockets lost", self.sockets_lost),
        ];
        for (what, count) in faults.into_iter().filter(|(_, count)| *count > 0) {
            lines.say(what, count);
        }
        for (why, times) in self.connect_failures.iter() {
            lines.say("connects made again", format_args!("{times}: {why}"));
        }
        for complaint in &self.complaints {
            lines.say("complaint", complaint);
        }
    }
}

fn told(state: &State) -> String {
    let counts = &state.counts;
    let lost = match counts.sockets_lost {
        0 => String::new(),
        lost => format!(", {lost} sockets lost"),
    };
    format!("{} acked, {} delivered{lost}", counts.acked, counts.deliveries)
}

fn draw(run: &Run, fleet: &Fleet) {
    let watch = |plot, name, what: fn(&State) -> u64| {
        let watcher = fleet.watcher();
        run.sampler().watch_rate(plot, name, move || what(&watcher.state()));
    };
    watch(Plot::RATE, "acked", |state| state.counts.acked);
    watch(Plot::RATE, "delivered", |state| state.counts.deliveries);
    let watcher = fleet.watcher();
    run.sampler().watch(Plot::SOCKETS, "connected here", move || Some(f64::from(watcher.state().present)));
    let kinds = [
        ("delivery p99", Kind::Deliver),
        ("delivery p99, beside", Kind::Beside),
        ("delivery p99, slow readers", Kind::Slow),
        ("ack p99", Kind::Ack),
    ];
    for (name, kind) in kinds {
        let watcher = fleet.watcher();
        run.sampler().watch(Plot::LATENCY, name, move || watcher.drawn(kind).map(|times| times.p99_ms));
    }
}
