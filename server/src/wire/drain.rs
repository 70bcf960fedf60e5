//! Going away without a stampede.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bowline_protocol::Close;

use super::application::Application;
use super::close::Ending;
use super::shard::Shard;
use super::slab::Key;

/// Every socket is told when its turn is, spread evenly over the window, and closed then.
#[derive(Debug)]
pub(super) struct Drain {
    started: Instant,
    window: Duration,
    /// Slots from here on are still to be told.
    next_slot: u32,
    told: u32,
    due: BinaryHeap<Reverse<(Instant, u32, u32)>>,
}

/// Sockets told in one turn.
const TURN_TOLD: u32 = 256;

/// Neighbours in the slab get turns far apart: multiples of the golden ratio spread evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl Drain {
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        match self.next_slot {
            u32::MAX => self.due.peek().map(|Reverse((due, ..))| *due),
            _ => Some(now),
        }
    }
}

impl<A: Application> Shard<A> {
    pub(super) fn begin_drain(&mut self, window: Duration) {
        let started = Instant::now();
        self.drain = Some(Drain { started, window, next_slot: 0, told: 0, due: BinaryHeap::new() });
    }

    pub(super) fn go_on_draining(&mut self, now: Instant) {
        let Some(mut drain) = self.drain.take() else { return };
        if drain.next_slot != u32::MAX {
            self.tell_some(&mut drain, now);
        }
        while drain.due.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, index, generation))) = drain.due.pop() {
                self.close(Key { index, generation }, Ending::Ours(Close::Drain));
            }
        }
        self.drain = Some(drain);
    }

    fn tell_some(&mut self, drain: &mut Drain, now: Instant) {
        let bound = self.slots.bound();
        let end = drain.next_slot.saturating_add(TURN_TOLD).min(bound);
        for index in drain.next_slot..end {
            let Some(key) = self.slots.key_at(index) else { continue };
            drain.told += 1;
            let due = drain.started + drain.window.mul_f64((f64::from(drain.told) * GOLDEN).fract());
            drain.due.push(Reverse((due, key.index, key.generation)));
            let left = due.saturating_duration_since(now);
            self.call(key, |app, slot, io| app.drain(slot, left, io));
        }
        drain.next_slot = if end == bound { u32::MAX } else { end };
    }
}
