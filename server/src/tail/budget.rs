//! One bound on the memory of all tails and pages of a shard.

use std::collections::VecDeque;

/// Counts what tails and pages hold, and remembers in which order it came. Over the limit the oldest is dropped first;
/// whoever needed it reads a page.
///
/// Tails may take half of it, and give way to pages down to an eighth. Pages are many when many come back at once: if they
/// did not all fit, each would be read again for every batch of readers. They are needed for a while only, and expire.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    entries: Held,
    pages: Held,
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
    kind: Kind,
    cost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Page,
}

/// Things of one kind. The queue may name some that are gone already.
#[derive(Debug, Default)]
struct Held {
    used: usize,
    order: VecDeque<Token>,
    /// So many at the front of the queue were there at the last [`Budget::expired`] but one.
    old: usize,
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Self {
        let (entries, pages) = Default::default();
        Self { limit: limit_bytes, entries, pages, next_serial: 0, json: false }
    }

    /// From here on entries are counted as if they were made in JSON too.
    pub fn expect_json(&mut self) {
        self.json = true;
    }

    /// In bytes, this bookkeeping included.
    pub fn used(&self) -> usize {
        self.entries.bytes() + self.pages.bytes()
    }

    /// What must be dropped next, if a limit is passed. What came last stays, however large: its reader waits for it.
    pub fn over(&mut self) -> Option<Token> {
        let over = self.used() > self.limit;
        let tails_may_take = if over { self.limit / 8 } else { self.limit / 2 };
        if self.entries.bytes() > tails_may_take {
            return self.entries.drop_oldest().or_else(|| self.pages.drop_oldest());
        }
        if over { self.pages.drop_oldest() } else { None }
    }

    /// The next page that has been here since the last round but one; `None` ends a round. A page that is still needed
    /// is read again.
    pub fn expired(&mut self) -> Option<Token> {
        match self.pages.old {
            0 => {
                self.pages.old = self.pages.order.len();
                None
            }
            _ => {
                self.pages.old -= 1;
                self.pages.order.pop_front()
            }
        }
    }

    /// Counts a new thing in, until it is given back.
    pub(super) fn charge(&mut self, kind: Kind, log: u32, proto_bytes: usize) -> Charge {
        // JSON writes ids as text and names every field: two to three times protobuf's size.
        let cost = if self.json { proto_bytes * 7 / 2 } else { proto_bytes };
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let held = self.held(kind);
        held.used += cost;
        held.order.push_back(Token { log, serial });
        Charge { serial, kind, cost: u32::try_from(cost).unwrap_or(u32::MAX) }
    }

    pub(super) fn free(&mut self, charge: Charge) {
        self.held(charge.kind).used -= charge.cost as usize;
    }

    fn held(&mut self, kind: Kind) -> &mut Held {
        match kind {
            Kind::Entry => &mut self.entries,
            Kind::Page => &mut self.pages,
        }
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.used + self.order.len() * size_of::<Token>()
    }

    fn drop_oldest(&mut self) -> Option<Token> {
        if self.order.len() <= 1 {
            return None;
        }
        self.old = self.old.saturating_sub(1);
        self.order.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The logs of what is to be dropped.
    fn over(budget: &mut Budget, charges: &[Charge]) -> Vec<u32> {
        let mut dropped = Vec::new();
        while let Some(token) = budget.over() {
            dropped.push(token.log);
            let charge = charges.iter().find(|charge| charge.serial == token.serial);
            charge.into_iter().for_each(|charge| budget.free(*charge));
        }
        dropped
    }

    #[test]
    fn tails_take_half_and_give_way_to_pages() {
        let mut budget = Budget::new(1_000);
        let mut charges: Vec<Charge> = (0..6).map(|log| budget.charge(Kind::Entry, log, 100)).collect();
        assert_eq!(over(&mut budget, &charges), [0, 1], "of six, four and their bookkeeping are a half");
        charges.extend((10..15).map(|log| budget.charge(Kind::Page, log, 100)));
        assert_eq!(over(&mut budget, &charges), [] as [u32; 0], "there is room for all");
        charges.extend((15..19).map(|log| budget.charge(Kind::Page, log, 100)));
        assert_eq!(over(&mut budget, &charges), [2, 3, 4, 10], "tails first, but for an eighth; then the oldest pages");
        assert!(budget.used() <= 1_000);
    }

    #[test]
    fn what_came_last_stays_however_large() {
        for kind in [Kind::Entry, Kind::Page] {
            let mut budget = Budget::new(1_000);
            let charges = [budget.charge(kind, 1, 100), budget.charge(kind, 2, 5_000)];
            assert_eq!(over(&mut budget, &charges), [1], "{kind:?}");
        }
    }

    #[test]
    fn a_page_expires_in_the_second_round_after_it_came() {
        let mut budget = Budget::new(1_000);
        let round = |budget: &mut Budget| std::iter::from_fn(|| budget.expired()).map(|t| t.log).collect::<Vec<_>>();
        budget.charge(Kind::Entry, 1, 10);
        budget.charge(Kind::Page, 2, 10);
        assert_eq!(round(&mut budget), [] as [u32; 0]);
        budget.charge(Kind::Page, 3, 10);
        assert_eq!(round(&mut budget), [2]);
        assert_eq!(round(&mut budget), [3]);
        assert_eq!(round(&mut budget), [] as [u32; 0], "entries stay");
    }
}
