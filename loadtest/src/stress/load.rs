//! The load of a step: a fleet whose rate grows, or one fleet more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep;

use super::resource::Observed;
use super::result::Step;
use super::{Args, Of};
use crate::fleet::places::Faults;
use crate::fleet::seats::Seats;
use crate::fleet::tally::{Kind, Times};
use crate::fleet::{Fleet, Watcher, founding};
use crate::run::Run;
use crate::timeline::Plot;
use crate::unit::number;

pub(super) struct Load<'a> {
    args: &'a Args,
    fleets: Vec<Fleet>,
    sockets: u32,
    shown: Arc<Mutex<Vec<Watcher>>>,
    /// What the database took in the first step.
    database_at_first_ms: Option<f64>,
}

const BODY_BYTES: usize = 128;
const CONNECTING: Duration = Duration::from_secs(60);
/// What is under way at the end of a step gets this long.
const AFTERWARDS: Duration = Duration::from_secs(15);

impl<'a> Load<'a> {
    pub(super) async fn new(args: &'a Args, run: &Run) -> anyhow::Result<Self> {
        let shown: Arc<Mutex<Vec<Watcher>>> = Arc::default();
        draw(run, &shown);
        let mut load = Self { args, fleets: Vec::new(), sockets: 0, shown, database_at_first_ms: None };
        if args.of == Of::Rate {
            load.grow(args.connections).await?;
        }
        Ok(load)
    }

    /// What goes wrong in a step is its result: it is where the ramp ends.
    pub(super) async fn step(&mut self, asked: f64, run: &Run) -> Step {
        let what = if self.args.of == Of::Rate { "/s" } else { " sockets" };
        run.timeline().mark(format!("{}{what}", number(asked)));
        let mut trouble = Vec::new();
        if self.args.of == Of::Connections {
            let more = (asked as u32).saturating_sub(self.sockets);
            if let Err(error) = self.grow(more).await {
                trouble.push(format!("{error:#}"));
            }
        }
        let from_s = run.timeline().now_s();
        let rate = if self.args.of == Of::Rate { asked } else { self.args.rate };
        let times = match self.flow(rate, &mut trouble).await {
            Ok(times) => times,
            Err(error) => {
                trouble.push(format!("{error:#}"));
                Times::default()
            }
        };
        let observed = Observed::of(&run.timeline().copy(), from_s, &self.args.common.pids, self.database_at_first_ms);
        self.database_at_first_ms = self.database_at_first_ms.or(observed.database_ms);
        Step {
            asked,
            sockets: self.sockets,
            rate,
            send_to_ack: times.percentiles(Kind::Ack),
            send_to_deliver: times.percentiles(Kind::Deliver),
            pacing_late_ms: times.percentiles(Kind::Late).p99_ms,
            observed,
            trouble,
        }
    }

    /// So many sockets more, all connected.
    async fn grow(&mut self, sockets: u32) -> anyhow::Result<()> {
        if sockets == 0 {
            return Ok(());
        }
        let seats = Seats { sockets, follow: 1, targets: sockets.div_ceil(self.args.readers), beside: 0 };
        let mut fleet =
            Fleet::start(self.args.fleet.plan(&self.args.common, seats, self.args.topics)?, self.args.fleet.workers)?;
        if !self.args.topics {
            let logs = founding::found(fleet.plan()).await?;
            fleet.follow(logs).await?;
        }
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(fleet.watcher());
        fleet.connect_publishers(CONNECTING).await?;
        let connected = fleet.connect(CONNECTING).await;
        self.sockets += fleet.state().present;
        self.fleets.push(fleet);
        connected.context("connecting").map(drop)
    }

    /// Messages at a rate over all fleets, each by its share of the sockets, until they are delivered.
    async fn flow(&mut self, rate: f64, trouble: &mut Vec<String>) -> anyhow::Result<Times> {
        for fleet in &mut self.fleets {
            fleet.lately().await?;
            let share = f64::from(fleet.plan().seats.sockets) / f64::from(self.sockets.max(1));
            let stream = fleet.plan().stream(rate * share, self.args.hold, BODY_BYTES);
            fleet.publish(vec![stream]).await?;
        }
        sleep(self.args.hold).await;
        let mut times = Times::default();
        for fleet in &mut self.fleets {
            if let Err(error) = fleet.published(AFTERWARDS).await {
                trouble.push(format!("{error:#}"));
            }
            fleet.expect().await?;
            let whole = fleet.settle(AFTERWARDS).await?;
            times.merge(&fleet.lately().await?);
            let counts = fleet.state().counts;
            if !whole || counts.faults != Faults::default() || counts.refused > 0 || counts.sockets_lost > 0 {
                trouble.push(format!("not all was acked and delivered: {counts:?}"));
            }
        }
        Ok(times)
    }
}

fn draw(run: &Run, shown: &Arc<Mutex<Vec<Watcher>>>) {
    let all = |what: fn(&Watcher) -> u64| {
        let shown = Arc::clone(shown);
        move || shown.lock().unwrap_or_else(PoisonError::into_inner).iter().map(what).sum::<u64>()
    };
    run.sampler().watch_rate(Plot::RATE, "acked", all(|watcher| watcher.state().counts.acked));
    run.sampler().watch_rate(Plot::RATE, "delivered", all(|watcher| watcher.state().counts.deliveries));
    let present = all(|watcher| u64::from(watcher.state().present));
    run.sampler().watch(Plot::SOCKETS, "connected here", move || Some(present() as f64));
    for (name, kind) in [("delivery p99", Kind::Deliver), ("ack p99", Kind::Ack)] {
        let shown = Arc::clone(shown);
        // The worst of the fleets.
        run.sampler().watch(Plot::LATENCY, name, move || {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.iter().filter_map(|watcher| Some(watcher.drawn(kind)?.p99_ms)).max_by(f64::total_cmp)
        });
    }
}
