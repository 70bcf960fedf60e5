//! One bound on the memory of all tails and pages of a shard.

use std::collections::VecDeque;

/// Counts what tails and pages hold, and remembers in which order it came. Over the limit the oldest is dropped first;
/// whoever needed it reads a page.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: usize,
    order: VecDeque<Token>,
    json: bool,
}

/// Something that can be dropped: an entry or a page of the log that its holder calls `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub log: u32,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Entry(u32),
    Page(u32),
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit: limit_bytes, used: 0, order: VecDeque::new(), json: false }
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

    /// Counts a new thing in; returns its cost, to be given to [`Budget::free`].
    pub(super) fn charge(&mut self, log: u32, what: What, proto_bytes: usize) -> u32 {
        // JSON writes ids as text and names every field: two to three times protobuf's size.
        let cost = if self.json { proto_bytes * 7 / 2 } else { proto_bytes };
        self.used += cost;
        self.order.push_back(Token { log, what });
        cost as u32
    }

    pub(super) fn free(&mut self, cost: u32) {
        self.used -= cost as usize;
    }
}
