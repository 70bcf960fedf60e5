//! What one shard holds of one log.

use std::collections::VecDeque;
use std::sync::Arc;

use bowline_protocol::Seq;

use super::budget::{self, Budget, Charge, Token};
use super::entry::Entry;
use super::header::{Header, Kind};
use super::page::{PAGE_ENTRIES, Page, page_of};

/// The newest entries of a log without a hole between them, the pages that its replays read, and the reads under way.
/// An idle log is a number: the rest exists from the first entry on.
///
/// A publish may be lost, repeated or come out of order: a repeat is ignored, and a hole restarts the entries behind it,
/// so a reader who stands before it reads a page, as one who fell behind does.
#[derive(Debug)]
pub struct Tail {
    head: Seq,
    hot: Option<Box<Hot>>,
}

#[derive(Debug, Default)]
struct Hot {
    /// Contiguous; the last one is the head.
    entries: VecDeque<(Arc<Entry>, Charge)>,
    pages: Vec<(Arc<Page>, Charge)>,
    reads: Vec<Read>,
}

/// A page that was asked for, and what happened since.
#[derive(Debug)]
struct Read {
    page: u64,
    /// The least as_of_seq that is of use.
    least_as_of: Seq,
    /// Facts (seq, target) of which the answer may not know.
    facts: Vec<(Seq, Seq)>,
}

/// Facts remembered of one read; beyond it the read must be younger than all of them.
const MAX_FACTS: usize = 32;

/// Where the entries after a position are.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// In memory, from this index of [`Tail::entry`] on.
    Entries(usize),
    Page(&'a Arc<Page>),
    /// In this page, which is not here. `asked`: nobody has to ask for it any more.
    Missing {
        page: u64,
        asked: bool,
    },
}

/// What became of a page that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Kept,
    /// Out of date before it came: it must be read again.
    Stale,
    /// Nobody waits for it.
    Unasked,
}

impl Tail {
    /// A log whose last known seq is `head`.
    pub fn new(head: Seq) -> Self {
        Self { head, hot: None }
    }

    /// The highest seq that is known to exist.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.hot.as_ref().map_or(0, |hot| hot.entries.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything after this seq is here.
    pub fn begins_after(&self) -> Seq {
        self.head - self.len() as Seq
    }

    pub fn entry(&self, index: usize) -> Option<&Arc<Entry>> {
        self.hot.as_ref()?.entries.get(index).map(|(entry, _)| entry)
    }

    /// Takes a published entry; false if it brought nothing.
    pub fn push(&mut self, entry: Arc<Entry>, log: u32, budget: &mut Budget) -> bool {
        let Header { seq, target_seq, kind, .. } = *entry.header();
        if seq <= self.head {
            return false;
        }
        if seq > self.head + 1 {
            self.reached(seq - 1, budget);
        }
        if kind == Kind::Rewrite {
            self.rewritten(seq, target_seq, budget);
        }
        let hot = self.hot.get_or_insert_default();
        let charge = budget.charge(budget::Kind::Entry, log, entry.bytes());
        hot.entries.push_back((entry, charge));
        self.head = seq;
        true
    }

    /// The log has reached `seq`, with unknown entries, maybe facts, up to there; true if that is news.
    pub fn reached(&mut self, seq: Seq, budget: &mut Budget) -> bool {
        if seq <= self.head {
            return false;
        }
        self.head = seq;
        if let Some(hot) = &mut self.hot {
            hot.entries.drain(..).for_each(|(_, charge)| budget.free(charge));
            hot.drop_pages(budget, |page| page.as_of_seq() < seq);
            hot.reads.iter_mut().for_each(|read| read.least_as_of = seq);
        }
        true
    }

    /// Where what follows `after` is to be read; `after` must be below what is wanted.
    pub(super) fn find(&mut self, after: Seq, budget: &mut Budget) -> Found<'_> {
        let len = self.len() as u64;
        let hot = self.hot.get_or_insert_default();
        if after < self.head && self.head - after <= len {
            return Found::Entries((len - (self.head - after)) as usize);
        }
        let number = page_of(after + 1);
        hot.drop_pages(budget, |page| page.number() == number && page.covers_to() <= after);
        match hot.pages.iter().position(|(page, _)| page.number() == number) {
            Some(i) => Found::Page(&hot.pages[i].0),
            None => Found::Missing { page: number, asked: hot.reads.iter().any(|read| read.page == number) },
        }
    }

    pub fn is_asked(&self, page: u64) -> bool {
        self.hot.as_ref().is_some_and(|hot| hot.reads.iter().any(|read| read.page == page))
    }

    /// Something of this page is neither here nor asked for.
    pub fn lacks(&self, page: u64) -> bool {
        let held = |hot: &Hot| hot.pages.iter().any(|(held, _)| held.number() == page);
        let first = self.head - self.len() as u64 + 1;
        first > page * PAGE_ENTRIES && !self.is_asked(page) && !self.hot.as_deref().is_some_and(held)
    }

    /// A read of this page is under way from here on, until it arrives.
    pub fn asked(&mut self, page: u64) {
        // The answer may come from a read that began before this one was asked for.
        let least_as_of = self.head;
        self.hot.get_or_insert_default().reads.push(Read { page, least_as_of, facts: Vec::new() });
    }

    /// Takes a page that was read. A stale one counts as asked for again.
    pub fn arrived(&mut self, page: Arc<Page>, log: u32, budget: &mut Budget) -> Arrival {
        let Some(hot) = &mut self.hot else { return Arrival::Unasked };
        let Some(at) = hot.reads.iter().position(|read| read.page == page.number()) else { return Arrival::Unasked };
        if hot.reads[at].outdates(&page) {
            return Arrival::Stale;
        }
        hot.reads.swap_remove(at);
        hot.drop_pages(budget, |old| old.number() == page.number());
        let charge = budget.charge(budget::Kind::Page, log, page.bytes());
        hot.pages.push((page, charge));
        Arrival::Kept
    }

    /// Drops what the budget says is the oldest, if it is still here.
    pub fn evict(&mut self, token: Token, budget: &mut Budget) {
        let Some(hot) = &mut self.hot else { return };
        if hot.entries.front().is_some_and(|(_, charge)| charge.serial == token.serial) {
            hot.entries.pop_front().into_iter().for_each(|(_, charge)| budget.free(charge));
        } else if let Some(i) = hot.pages.iter().position(|(_, charge)| charge.serial == token.serial) {
            budget.free(hot.pages.swap_remove(i).1);
        }
    }

    /// Gives everything back, when nobody follows the log any more.
    pub fn clear(&mut self, budget: &mut Budget) {
        if let Some(mut hot) = self.hot.take() {
            hot.entries.drain(..).for_each(|(_, charge)| budget.free(charge));
            hot.drop_pages(budget, |_| true);
        }
    }

    /// Fact `seq` changed how `target` and the facts about it are shown.
    fn rewritten(&mut self, seq: Seq, target: Seq, budget: &mut Budget) {
        let Some(hot) = &mut self.hot else { return };
        hot.drop_pages(budget, |page| page.as_of_seq() < seq && page.holds(target));
        if let Some(last) = hot.entries.iter().rposition(|(entry, _)| entry.header().holds(target)) {
            hot.entries.drain(..=last).for_each(|(_, charge)| budget.free(charge));
        }
        for read in &mut hot.reads {
            if read.facts.len() < MAX_FACTS {
                read.facts.push((seq, target));
            } else {
                read.least_as_of = seq;
            }
        }
    }
}

impl Hot {
    fn drop_pages(&mut self, budget: &mut Budget, mut which: impl FnMut(&Page) -> bool) {
        self.pages.retain(|(page, charge)| {
            let dropped = which(page);
            if dropped {
                budget.free(*charge);
            }
            !dropped
        });
    }
}

impl Read {
    fn outdates(&self, page: &Page) -> bool {
        page.as_of_seq() < self.least_as_of
            || self.facts.iter().any(|(seq, target)| page.as_of_seq() < *seq && page.holds(*target))
    }
}
