//! One reader's place in one log.

use std::ops::Range;

use bowline_protocol::{Seq, UserId};

use super::header::Header;
use super::spans::Spans;

/// Where a reader stands, and, while it replays, what it may see.
///
/// Up to `as_of_seq`, the head that was read together with the reader's spans, the spans decide alone. Beyond it the
/// reader sees everything up to and including the entry that removes him, and the cursor ends there.
#[derive(Clone, Debug)]
pub struct Cursor {
    seq: Seq,
    replay: Option<Box<Replay>>,
}

#[derive(Clone, Debug)]
struct Replay {
    as_of_seq: Seq,
    spans: Spans,
    announce: bool,
}

/// The next piece of a log for a reader: one message covers `(cursor, to_seq]` with these items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub items: Range<usize>,
    pub to_seq: Seq,
    /// The one item must go without what was said after the reader left.
    pub withheld: bool,
    /// The last item removes the reader: the cursor ends after it.
    pub removed: bool,
}

/// What moving a cursor led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// More may follow.
    Moved,
    /// The replay has covered everything that it was for; the reader is to be told. `ended`: there is nothing to follow.
    Level { ended: bool },
}

impl Cursor {
    /// A reader who has everything up to `seq`. `announce`: he is told when the replay has caught up.
    pub fn new(seq: Seq, as_of_seq: Seq, spans: Spans, announce: bool) -> Self {
        let ended = spans.closed_at().is_some();
        let replays = announce || ended || seq < as_of_seq;
        Self { seq, replay: replays.then(|| Box::new(Replay { as_of_seq, spans, announce })) }
    }

    /// A reader who has everything up to `seq`, and replays nothing.
    pub fn level(seq: Seq) -> Self {
        Self { seq, replay: None }
    }

    pub fn replays(&self) -> bool {
        self.replay.is_some()
    }

    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Nothing but the next live entry is missing, given the log's head.
    pub fn is_level(&self, head: Seq) -> bool {
        self.replay.is_none() && self.seq >= head
    }

    /// The seq up to which this cursor wants to go, given the log's head.
    pub fn target(&self, head: Seq) -> Seq {
        match &self.replay {
            None => head,
            Some(replay) => replay.spans.closed_at().unwrap_or(replay.as_of_seq.max(head)),
        }
    }

    /// Some of `(cursor, to]` is visible to this reader.
    pub fn sees_any(&self, to: Seq) -> bool {
        self.replay.as_ref().is_none_or(|replay| to > replay.as_of_seq || replay.spans.show_any(self.seq, to))
    }

    /// The next piece. `header` gives the entries in seq order, which from `first` on hold everything of
    /// `(cursor, covers_to]`; `limit` says where a message that begins with an item must end.
    pub fn stretch<'a>(
        &self,
        user: Option<UserId>,
        header: impl Fn(usize) -> Option<&'a Header>,
        first: usize,
        limit: impl Fn(usize) -> usize,
        covers_to: Seq,
    ) -> Stretch {
        let end = covers_to.min(self.target(covers_to));
        let within = |i: usize| header(i).filter(|h| h.seq <= end);
        let mut start = first;
        while within(start).is_some_and(|h| !self.shows(h.seq)) {
            start += 1;
        }
        let limit = if within(start).is_some() { limit(start) } else { start };
        let mut known = None;
        let mut stretch = Stretch { items: start..start, to_seq: end, withheld: false, removed: false };
        while let Some(h) = within(stretch.items.end) {
            if stretch.items.end >= limit || !self.shows(h.seq) {
                break;
            }
            if h.version > h.seq {
                let known = *known.get_or_insert_with(|| self.member_until(user, &within, start, end));
                if !self.saw(h.version, known) {
                    if stretch.items.is_empty() {
                        stretch.withheld = true;
                        stretch.items.end += 1;
                    }
                    break;
                }
            }
            stretch.items.end += 1;
            if self.removes(user, h) {
                stretch.removed = true;
                break;
            }
        }
        let last = stretch.items.end.checked_sub(1).filter(|_| !stretch.items.is_empty());
        if stretch.removed {
            stretch.to_seq = last.and_then(&header).map_or(end, |h| h.seq);
        } else if let Some(next) = within(stretch.items.end) {
            stretch.to_seq = next.seq - 1;
        }
        stretch
    }

    /// Everything up to `to_seq` was covered.
    pub fn advance(&mut self, to_seq: Seq) -> Covered {
        self.seq = self.seq.max(to_seq);
        self.settle()
    }

    /// Ends the replay if it has covered what it was for. Called after [`Cursor::new`] too: there may be nothing to replay.
    pub fn settle(&mut self) -> Covered {
        let Some(replay) = &self.replay else { return Covered::Moved };
        let closed_at = replay.spans.closed_at();
        if self.seq < closed_at.unwrap_or(replay.as_of_seq) {
            return Covered::Moved;
        }
        let announce = replay.announce;
        self.replay = None;
        match (announce, closed_at.is_some()) {
            (false, false) => Covered::Moved,
            (_, ended) => Covered::Level { ended },
        }
    }

    fn shows(&self, seq: Seq) -> bool {
        self.replay.as_ref().is_none_or(|replay| seq > replay.as_of_seq || replay.spans.show(seq))
    }

    /// The reader was a member when `version` was said. Headers prove it up to `known`; beyond that, nothing does, and
    /// the fact itself will follow if he was.
    fn saw(&self, version: Seq, known: Seq) -> bool {
        match &self.replay {
            Some(replay) if version <= replay.as_of_seq => replay.spans.show(version),
            _ => version <= known,
        }
    }

    /// How far the headers at hand prove membership.
    fn member_until<'a>(
        &self,
        user: Option<UserId>,
        header: &impl Fn(usize) -> Option<&'a Header>,
        from: usize,
        end: Seq,
    ) -> Seq {
        let mut headers = (from..).map_while(header);
        headers.find(|h| self.removes(user, h)).map_or(end, |h| h.seq)
    }

    fn removes(&self, user: Option<UserId>, header: &Header) -> bool {
        header.removes.is_some()
            && header.removes == user
            && self.replay.as_ref().is_none_or(|replay| header.seq > replay.as_of_seq)
    }
}
