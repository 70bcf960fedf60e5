//! What all sockets of a worker share, and who they are.

use std::collections::HashMap;
use std::time::Duration;

use bowline_client::protocol::{Codec, LogId, Seq, UserId};
use uuid::Uuid;

use super::failures::Failures;
use super::order::Plan;
use super::places::Bodies;
use super::publish::Publishing;
use super::tally::{Counts, Times};
use crate::people::Minting;

/// What all sockets of a worker share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) codec: Codec,
    pub(crate) minting: Minting,
    pub(crate) logs: HashMap<LogId, u32>,
    pub(crate) bodies: Vec<Bodies>,
    /// Of topics, where readers began.
    pub(crate) starts: Vec<Seq>,
    /// By target; empty while nothing is expected.
    pub(crate) expected: Vec<Seq>,
    pub(crate) counts: Counts,
    pub(crate) times: Times,
    pub(crate) present: u32,
    pub(crate) whole: u32,
    pub(crate) whole_at_ns: u64,
    pub(crate) epoch: u64,
    pub(crate) heartbeat: Duration,
    /// Attempts to connect that did not succeed.
    pub(crate) failures: Failures,
    pub(crate) complaints: Vec<String>,
    pub(crate) publishing: Publishing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Reader(u32),
    Publisher(u32),
}
/// A few are told; the counts hold them all.
const COMPLAINTS: usize = 8;

impl Shared {
    pub(crate) fn new(plan: Plan) -> Self {
        let targets = plan.seats.all_targets();
        Self {
            codec: if plan.json { Codec::Json } else { Codec::Proto },
            minting: Minting::of(&plan.identity),
            logs: HashMap::new(),
            bodies: vec![Bodies::default(); targets as usize],
            starts: vec![0; targets as usize],
            expected: Vec::new(),
            counts: Counts::default(),
            times: Times::default(),
            present: 0,
            whole: 0,
            whole_at_ns: 0,
            epoch: 0,
            heartbeat: Duration::from_secs(30),
            failures: Failures::default(),
            complaints: Vec::new(),
            publishing: Publishing::new(plan.publishers, targets),
            plan,
        }
    }

    pub(crate) fn set_logs(&mut self, logs: &[Uuid]) {
        self.publishing.logs = logs.iter().copied().map(LogId).collect();
        self.logs = logs.iter().zip(0..).map(|(log, target)| (LogId(*log), target)).collect();
    }

    /// Of a topic all readers and its publisher are at one server: topics do not leave their node. All else is spread.
    pub(crate) fn server_of(&self, who: Who) -> usize {
        let n = match who {
            Who::Reader(n) if self.plan.topics => self.plan.seats.follows(n).next().unwrap_or(n),
            Who::Reader(n) | Who::Publisher(n) => n,
        };
        n as usize % self.plan.servers.len()
    }

    pub(crate) fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.complaints.len() < COMPLAINTS {
            let what = what();
            if !self.complaints.contains(&what) {
                self.complaints.push(what);
            }
        }
    }

    pub(crate) fn user(&self, who: Who) -> UserId {
        match who {
            Who::Reader(n) => self.minting.user(&reader_name(n)),
            Who::Publisher(n) => self.minting.user(&publisher_name(n)),
        }
    }

    pub(crate) fn topic(&self, target: u32) -> String {
        format!("lt-{}-{target}", self.plan.identity.run.simple())
    }
}

pub(crate) fn reader_name(n: u32) -> String {
    format!("reader {n}")
}

pub(crate) fn publisher_name(n: u32) -> String {
    format!("publisher {n}")
}
