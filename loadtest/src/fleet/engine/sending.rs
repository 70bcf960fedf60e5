//! What goes out by itself: messages by their schedules, and signs of life.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

use super::Engine;
use crate::fleet::clock;
use crate::fleet::tally::Kind;

/// A publisher with this much unwritten waits.
const UNWRITTEN_BYTES: usize = 256 * 1024;
/// What is sent in one turn.
const SENDS: usize = 4_096;

impl Engine {
    /// Sends what is due, and sets the timer for what comes next.
    pub(super) fn publish(&mut self) -> anyhow::Result<()> {
        let readers = self.shared.plan.count as usize;
        for stream in 0..self.shared.publishing.streams() {
            for _ in 0..SENDS {
                let now = clock::now_ns();
                let Some(due) = self.shared.publishing.due(stream, now) else { break };
                let at = readers + due.publisher as usize;
                let present = self.sockets.get(at).is_some_and(|socket| socket.session.present);
                if present && self.sockets[at].link.out().len() > UNWRITTEN_BYTES {
                    break;
                }
                let topic = |target| format!("lt-{}-{target}", self.shared.plan.identity.run.simple());
                let command = self.shared.publishing.command(&due, topic);
                self.shared.counts.sent += 1;
                if !present {
                    continue;
                }
                let socket = &mut self.sockets[at];
                let id = socket.link.out().ask(self.shared.codec, command);
                self.shared.publishing.opened(&due, id);
                if let Err(error) = socket.link.write() {
                    self.over(at, error.into());
                }
                self.shared.times.record(Kind::Late, due.meant_ns, clock::now_ns());
            }
        }
        let next = self.shared.publishing.next_ns();
        if next != self.timer_ns {
            self.timer_ns = next;
            match next {
                // A time in the past fires at once.
                Some(ns) => self.timer.set(
                    Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(ns))),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?,
                None => self.timer.unset()?,
            }
        }
        Ok(())
    }

    /// Those who do not read answer no pings; a sign of life shows that they are slow, and not dead.
    pub(super) fn live(&mut self, now: u64) {
        if !self.stopped || now < self.alive_ns {
            return;
        }
        self.alive_ns = now + clock::ns(self.shared.heartbeat / 2);
        for at in 0..self.sockets.len() {
            let socket = &mut self.sockets[at];
            if socket.stopped && socket.session.present {
                socket.link.out().sign_of_life();
                if let Err(error) = socket.link.write() {
                    self.over(at, error.into());
                }
            }
        }
    }
}
