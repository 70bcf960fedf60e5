//! What is due by time: one coarse walk over all sockets of a shard, no timer a socket.

use std::time::{Duration, Instant};

use bowline_protocol::Close;

use crate::tail::Opcode;

use super::application::Application;
use super::close::Ending;
use super::config::Config;
use super::shard::Shard;
use super::slab::Key;
use super::slot::Flag;

/// A socket is looked at six times a heartbeat, one of which sends a ping; the walk goes in sixteen parts, so that it
/// never takes long.
const LOOKS_A_HEARTBEAT: u32 = 6;
const PARTS: u32 = 16;

/// Where the walk is.
#[derive(Debug)]
pub(super) struct Sweep {
    part: u32,
    round: u32,
    every: Duration,
    due: Instant,
    stall_looks: u16,
}

impl Sweep {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let look = config.heartbeat / LOOKS_A_HEARTBEAT;
        let stall_looks = config.stall_limit.as_nanos().div_ceil(look.as_nanos().max(1));
        Self {
            part: 0,
            round: 0,
            every: look / PARTS,
            due: now + look / PARTS,
            stall_looks: u16::try_from(stall_looks).unwrap_or(u16::MAX),
        }
    }
}

impl<A: Application> Shard<A> {
    /// How long the shard may sleep.
    pub(super) fn next_due(&self, now: Instant) -> Duration {
        let closing = self.closing.front().map(|(due, _)| *due);
        let drain = self.drain.as_ref().and_then(|drain| drain.next_due(now));
        let due = [Some(self.sweep.due), closing, drain].into_iter().flatten().min();
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// Does what is due.
    pub(super) fn keep_time(&mut self) {
        let now = Instant::now();
        while self.closing.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.closing.pop_front() {
                self.remove(key);
            }
        }
        self.go_on_draining(now);
        if self.sweep.due <= now {
            let part = self.sweep.part;
            self.sweep.part = (part + 1) % PARTS;
            self.sweep.round = self.sweep.round.wrapping_add(u32::from(part == 0));
            self.sweep.due = now + self.sweep.every;
            for index in (part..self.slots.bound()).step_by(PARTS as usize) {
                if let Some(key) = self.slots.key_at(index) {
                    self.look_at(key, now);
                }
            }
            // Once a heartbeat.
            if part == 0 && self.sweep.round.is_multiple_of(LOOKS_A_HEARTBEAT) {
                self.fanouts.expire_pages();
            }
            let bytes = i64::try_from(self.fanouts.budget.used()).unwrap_or(i64::MAX);
            self.counts.tail_bytes.set(bytes);
        }
    }

    /// Alive is a peer from which bytes came since two heartbeats. While frames wait for it, its taking bytes counts
    /// instead, up to the stall limit.
    fn look_at(&mut self, key: Key, now: Instant) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let socket = &mut slot.socket;
        if socket.has(Flag::Closing) {
            return;
        }
        let heard = socket.take(Flag::Heard);
        let took = socket.take(Flag::Took);
        let waits = socket.has(Flag::Blocked);
        let alive = if waits { took } else { heard };
        socket.quiet_looks = if alive { 0 } else { socket.quiet_looks.saturating_add(1) };
        let limit = if waits { self.sweep.stall_looks } else { 2 * LOOKS_A_HEARTBEAT as u16 };
        if socket.quiet_looks >= limit {
            self.tally.stalled += 1;
            return self.close(key, Ending::Ours(Close::Stalled));
        }
        if !waits && self.sweep.round.wrapping_add(key.index / PARTS).is_multiple_of(LOOKS_A_HEARTBEAT) {
            self.out.add_raw(Opcode::Ping, &[]);
            self.send_out(key);
        }
        self.call(key, |app, slot, io| app.sweep(slot, now, io));
    }
}
