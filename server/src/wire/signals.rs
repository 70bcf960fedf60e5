//! Signals: for who can take them at once.

use std::sync::Arc;

use bowline_protocol::LogId;
use bytes::Bytes;

use crate::tail::Signal;

use super::application::Application;
use super::fanout::Run;
use super::shard::Shard;
use super::slab::Key;
use super::slot::{Socket, Wrote};

/// A signal on its way through a log's followers.
#[derive(Debug)]
pub(super) struct SignalRun {
    fanout: Key,
    at: u32,
    signal: Arc<Signal>,
}

/// Work that waits in turn; signals that would make it longer are dropped.
const MAX_RUNS: usize = 1024;

impl<A: Application> Shard<A> {
    pub(super) fn signal(&mut self, log: LogId, signal: Arc<Signal>) {
        let Some(fanout) = self.fanouts.find(log) else { return };
        let Some(at) = self.fanouts.get(fanout).map(|fanout| fanout.followers.as_slice().len() as u32) else { return };
        if self.fanouts.runs.len() < MAX_RUNS {
            self.fanouts.runs.push_back(Run::Signal(SignalRun { fanout, at, signal }));
        }
    }

    /// Writes it to at most `allowed` followers; returns how many.
    pub(super) fn run_signal(&mut self, mut run: SignalRun, allowed: usize) -> usize {
        let mut writes = 0;
        while writes < allowed {
            let Some(fanout) = self.fanouts.get(run.fanout) else { return writes };
            let followers = fanout.followers.as_slice();
            run.at = run.at.min(followers.len() as u32);
            let Some(at) = run.at.checked_sub(1) else { return writes };
            run.at = at;
            let follower = followers[at as usize];
            let head = fanout.tail.head();
            let Some(slot) = self.slots.at_mut(follower.slot) else { continue };
            let level = slot.socket.follows.get(follower.nth as usize).is_some_and(|f| f.is_level(head));
            if !level || !slot.socket.is_open() {
                continue;
            }
            writes += 1;
            let frame = run.signal.frame(slot.socket.codec());
            if slot.socket.write_now(frame) == Wrote::Gone
                && let Some(key) = self.slots.key_at(follower.slot)
            {
                self.remove(key);
            }
        }
        self.fanouts.runs.push_back(Run::Signal(run));
        writes
    }
}

impl Socket {
    /// Writes a shared frame, or nothing of it; one that was begun is finished later.
    fn write_now(&mut self, frame: &Bytes) -> Wrote {
        let wrote = self.write(frame);
        if let Wrote::Short(n) = wrote
            && n > 0
        {
            self.backlog.get_or_insert_default().rest.push(frame.slice(n..));
        }
        wrote
    }
}
