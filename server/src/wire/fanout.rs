//! A log as a shard knows it: its tail, and who follows it here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bowline_protocol::{LogId, Seq};

use crate::tail::{Arrival, Budget, Entry, Page, Tail, Token, page_of};

use super::followers::{Follower, Followers};
use super::index::Index;
use super::signals::SignalRun;
use super::slab::{Key, Slab};

#[derive(Debug)]
pub(super) struct Fanout {
    pub log: LogId,
    pub tail: Tail,
    pub followers: Followers,
    /// Followers below this are still to be served in this round; a round walks backwards.
    pub at: u32,
    /// In the queue of runs.
    pub queued: bool,
    /// There is news for those that the round has passed already.
    pub again: bool,
    /// In the queue of those who could not ask for their page.
    pub starving: bool,
    /// The head may be higher than is known: the next page that comes tells.
    pub doubtful: bool,
}

/// All logs of a shard, and the memory that they share.
#[derive(Debug)]
pub(super) struct Fanouts {
    fanouts: Slab<Fanout>,
    by_log: Index,
    /// The names of those that are in no store.
    named: HashMap<u32, Arc<str>>,
    pub budget: Budget,
    /// Work that waits: logs with news, signals. Taken in turn.
    pub runs: VecDeque<Run>,
    /// Pages to ask for when the turn ends.
    pub asks: Vec<(LogId, u64)>,
    /// Pages that were asked for and have not come.
    pub asked: usize,
    pub starving: VecDeque<Key>,
}

#[derive(Debug)]
pub(super) enum Run {
    Entries(Key),
    Signal(SignalRun),
}

/// Pages asked for at once, a shard; logs beyond it wait for one to come.
const MAX_ASKED: usize = 1024;

impl Fanouts {
    pub(super) fn new(tail_bytes: usize) -> Self {
        Self {
            fanouts: Slab::new(),
            by_log: Index::default(),
            named: HashMap::new(),
            budget: Budget::new(tail_bytes),
            runs: VecDeque::new(),
            asks: Vec::new(),
            asked: 0,
            starving: VecDeque::new(),
        }
    }

    pub(super) fn find(&self, log: LogId) -> Option<Key> {
        self.fanouts.key_at(self.by_log.find(log, &self.fanouts)?)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Fanout> {
        self.fanouts.get_mut(key)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Fanout> {
        self.fanouts.get(key)
    }

    /// The fan-out at an index that a follower keeps alive, and what all of them share.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<(&mut Fanout, &mut Budget)> {
        Some((self.fanouts.at_mut(index)?, &mut self.budget))
    }

    pub(super) fn key_at(&self, index: u32) -> Option<Key> {
        self.fanouts.key_at(index)
    }

    pub(super) fn insert(&mut self, log: LogId, head: Seq) -> Key {
        let key = self.fanouts.insert(Fanout {
            log,
            tail: Tail::new(head),
            followers: Followers::None,
            at: 0,
            queued: false,
            again: false,
            starving: false,
            doubtful: false,
        });
        self.by_log.insert(log, key.index, &self.fanouts);
        key
    }

    /// A topic of the contract.
    pub(super) fn insert_named(&mut self, log: LogId, head: Seq, name: Arc<str>) -> Key {
        let key = self.insert(log, head);
        self.named.insert(key.index, name);
        key
    }

    /// The name of a topic whose messages are in no store.
    pub(super) fn name(&self, index: u32) -> Option<&Arc<str>> {
        self.named.get(&index)
    }

    /// Forgets a log that nobody follows here.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(log) = self.fanouts.get(key).map(|fanout| fanout.log) else { return };
        self.by_log.remove(log, &self.fanouts);
        self.named.remove(&key.index);
        if let Some(mut fanout) = self.fanouts.remove(key) {
            fanout.tail.clear(&mut self.budget);
        }
    }

    /// A published entry.
    pub(super) fn push(&mut self, log: LogId, entry: Arc<Entry>) {
        let Some(key) = self.find(log) else { return };
        let Some(fanout) = self.fanouts.get_mut(key) else { return };
        if fanout.tail.push(entry, key.index, &mut self.budget) {
            self.run(key);
            self.keep_to_budget();
        }
    }

    /// The log has reached `seq`, with what is not said.
    pub(super) fn reached(&mut self, log: LogId, seq: Seq) {
        let Some(key) = self.find(log) else { return };
        let Some(fanout) = self.fanouts.get_mut(key) else { return };
        if fanout.tail.reached(seq, &mut self.budget) {
            self.run(key);
        }
    }

    /// A page that was asked for.
    pub(super) fn arrived(&mut self, log: LogId, page: Arc<Page>) {
        self.asked -= 1;
        let number = page.number();
        if let Some(key) = self.find(log)
            && let Some(fanout) = self.fanouts.get_mut(key)
        {
            let as_of_seq = page.as_of_seq();
            match fanout.tail.arrived(page, key.index, &mut self.budget) {
                Arrival::Kept => {
                    if std::mem::take(&mut fanout.doubtful) {
                        fanout.tail.reached(as_of_seq, &mut self.budget);
                    }
                    self.run(key);
                }
                Arrival::Stale => self.ask(log, number),
                Arrival::Unasked => {}
            }
            self.keep_to_budget();
        }
        if let Some(starving) = self.starving.pop_front()
            && let Some(fanout) = self.fanouts.get_mut(starving)
        {
            fanout.starving = false;
            if fanout.doubtful {
                self.doubt(starving);
            }
            self.run(starving);
        }
    }

    /// Nobody can say whether the log has moved since its head was read: reads the page behind it.
    pub(super) fn doubt(&mut self, key: Key) {
        let Some(fanout) = self.fanouts.get_mut(key) else { return };
        fanout.doubtful = true;
        let page = page_of(fanout.tail.head() + 1);
        if !fanout.tail.is_asked(page) {
            self.need(key.index, page);
        }
    }

    /// A reader of this log needs a page that is not here and was not asked for.
    pub(super) fn need(&mut self, index: u32, page: u64) {
        let Some(key) = self.fanouts.key_at(index) else { return };
        let Some(fanout) = self.fanouts.at_mut(index) else { return };
        if self.asked < MAX_ASKED {
            fanout.tail.asked(page);
            // Most who are behind are so by a little: the page that the log ends in comes in the same statement.
            let last = page_of(fanout.tail.head());
            let also = Some(last).filter(|last| *last == page + 1 && fanout.tail.lacks(*last));
            also.into_iter().for_each(|also| fanout.tail.asked(also));
            let log = fanout.log;
            self.ask(log, page);
            also.into_iter().for_each(|also| self.ask(log, also));
        } else if !fanout.starving {
            fanout.starving = true;
            self.starving.push_back(key);
        }
    }

    /// Queues the log: every follower is served until it is level, blocked or waits for a page.
    pub(super) fn run(&mut self, key: Key) {
        let Some(fanout) = self.fanouts.get_mut(key) else { return };
        if fanout.queued {
            fanout.again = true;
        } else {
            fanout.queued = true;
            fanout.at = fanout.followers.as_slice().len() as u32;
            self.runs.push_back(Run::Entries(key));
        }
    }

    /// What the database says now may be another history: nothing in memory counts.
    pub(super) fn forget_entries(&mut self) {
        for index in 0..self.fanouts.bound() {
            if let Some(fanout) = self.fanouts.at_mut(index) {
                fanout.tail.clear(&mut self.budget);
            }
        }
    }

    /// Forgets pages that were read long ago.
    pub(super) fn expire_pages(&mut self) {
        while let Some(token) = self.budget.expired() {
            self.evict(token);
        }
    }

    fn ask(&mut self, log: LogId, page: u64) {
        self.asked += 1;
        self.asks.push((log, page));
    }

    fn keep_to_budget(&mut self) {
        while let Some(token) = self.budget.over() {
            self.evict(token);
        }
    }

    fn evict(&mut self, token: Token) {
        if let Some(fanout) = self.fanouts.at_mut(token.log) {
            fanout.tail.evict(token, &mut self.budget);
        }
    }
}

impl Fanout {
    /// Adds a follower at the end, which a round under way has passed; returns its place.
    pub(super) fn add(&mut self, follower: Follower) -> u32 {
        self.followers.push(follower);
        self.followers.as_slice().len() as u32 - 1
    }

    /// Takes a follower out; returns the one that has taken its place. That one comes from the end, so a round under way
    /// has served it, or has not begun.
    pub(super) fn take_out(&mut self, place: u32) -> Option<Follower> {
        self.followers.swap_remove(place as usize);
        let followers = self.followers.as_slice();
        self.at = self.at.min(followers.len() as u32);
        followers.get(place as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every user has a log of his own, so the targets count these bytes a socket too.
    #[test]
    fn a_fanout_is_small() {
        let size = size_of::<Fanout>();
        println!("fanout {size} B");
        assert!(size <= 64, "{size}");
    }
}
