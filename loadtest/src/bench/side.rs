//! One of those that are compared: its sockets, and the processor time of whoever serves them.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::Shape;
use super::result::Measured;
use crate::bare::Bare;
use crate::fleet::options::FleetOptions;
use crate::fleet::order::Server;
use crate::fleet::places::Faults;
use crate::fleet::tally::Kind;
use crate::fleet::{Fleet, Watcher, founding};
use crate::options::Common;
use crate::process;

pub(super) const NAMES: [&str; 3] = ["bare writer", "ephemeral", "durable"];
const BODY_BYTES: usize = 128;
const CONNECTING: Duration = Duration::from_secs(120);
/// What is under way when the last message was meant to go gets this long.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// Nothing of one side's round is left when the next one's begins.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Side {
    pub(super) name: &'static str,
    fleet: Fleet,
    /// The server's processes; empty for the bare writer.
    pids: Vec<u32>,
}

/// In the order of [`NAMES`], all connected.
pub(super) async fn all(
    common: &Common,
    options: &FleetOptions,
    shape: &Shape,
    bare: &Bare,
) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    for (n, name) in NAMES.into_iter().enumerate() {
        let (topics, pids) = (n < 2, if n == 0 { Vec::new() } else { common.pids.clone() });
        let mut plan = options.plan(common, shape.seats, topics)?;
        if n == 0 {
            plan.servers = vec![Server { address: bare.address, authority: bare.address.to_string() }];
        }
        let mut fleet = Fleet::start(plan, options.workers)?;
        if !topics {
            let logs = founding::found(fleet.plan()).await?;
            fleet.follow(logs).await?;
        }
        fleet.connect_publishers(CONNECTING).await?;
        fleet.connect(CONNECTING).await?;
        sides.push(Side { name, fleet, pids });
    }
    Ok(sides)
}

impl Side {
    pub(super) fn watcher(&self) -> Watcher {
        self.fleet.watcher()
    }

    /// One round: everything published is delivered, or this is an error; a figure of half a delivery says nothing.
    pub(super) async fn measure(&mut self, rate: f64, duration: Duration, bare: &Bare) -> anyhow::Result<Measured> {
        sleep(PAUSE).await;
        self.fleet.lately().await?;
        let (spent, delivered) = (self.cpu(bare)?, self.delivered());
        let stream = self.fleet.plan().stream(rate, duration, BODY_BYTES);
        self.fleet.publish(vec![stream]).await?;
        sleep(duration).await;
        self.fleet.published(AFTERWARDS).await?;
        self.fleet.expect().await?;
        let whole = self.fleet.settle(AFTERWARDS).await?;
        let cpu = self.cpu(bare)?.saturating_sub(spent);
        let times = self.fleet.lately().await?.percentiles(Kind::Deliver);
        let state = self.fleet.state();
        let wrong =
            state.counts.faults != Faults::default() || state.counts.refused > 0 || state.counts.sockets_lost > 0;
        ensure!(whole && !wrong, "not all was delivered: {:?} {}", state.counts, state.complaints.join("; "));
        let deliveries = self.delivered() - delivered;
        Ok(Measured::new(deliveries, cpu, &times))
    }

    /// With those that publishers get of their own messages: the hub writes them too.
    fn delivered(&self) -> u64 {
        let counts = self.fleet.state().counts;
        counts.deliveries + counts.echoes
    }

    fn cpu(&self, bare: &Bare) -> anyhow::Result<Duration> {
        if self.pids.is_empty() {
            return bare.cpu();
        }
        self.pids.iter().map(|pid| process::threads_cpu(*pid)).sum()
    }
}
