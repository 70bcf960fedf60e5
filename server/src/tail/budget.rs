//! One bound on the memory of all tails and pages of a shard.

use std::collections::VecDeque;

/// Counts what tails and pages hold, and remembers in which order it came. Over the limit the oldest is dropped first;
/// whoever needed it reads a page.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: usize,
    order: VecDeque<Token>,
    next_serial: u32,
    json: bool,
}

/// Something that can be dropped, of the log that its holder calls `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub log: u32,
    pub(super) serial: u32,
}

/// What one thing was counted as. The serial tells it from what came in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub serial: u32,
    cost: u32,
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit: limit_bytes, used: 0, order: VecDeque::new(), next_serial: 0, json: false }
    }

    /// From here on entries are counted as if they were made in JSON too.
    pub fn expect_json(&mut self) {
        self.json = true;
    }

    /// In bytes, this bookkeeping included.
    pub fn used(&self) -> usize {
        self.used + self.order.len() * size_of::<Token>()
    }

    /// What must be dropped next, if the limit is passed. What came last stays, however large: its reader waits for it.
    pub fn over(&mut self) -> Option<Token> {
        if self.used() > self.limit && self.order.len() > 1 { self.order.pop_front() } else { None }
    }

    /// Counts a new thing in, until it is given back.
    pub(super) fn charge(&mut self, log: u32, proto_bytes: usize) -> Charge {
        // JSON writes ids as text and names every field: two to three times protobuf's size.
        let cost = if self.json { proto_bytes * 7 / 2 } else { proto_bytes };
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        self.used += cost;
        self.order.push_back(Token { log, serial });
        Charge { serial, cost: u32::try_from(cost).unwrap_or(u32::MAX) }
    }

    pub(super) fn free(&mut self, charge: Charge) {
        self.used -= charge.cost as usize;
    }
}
