//! Where this client stands in each log, and what a push means there. No socket, no clock.
//!
//! The rules of position, all of them: a range of entries covers (after_seq, to_seq]; what is at or below the cursor was
//! seen and is ignored; after it the cursor is to_seq, whatever was inside; a range that begins above the cursor is a
//! hole, and the only thing that is. Logs are met in the user's own log (`joined`, `left`), in `heads`, or by their
//! first entry.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use bowline_protocol::wire::server_frame::Kind as Push;
use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Epoch, LogId, Seq, UserId};

use crate::event::{Event, Why};

/// A position: everything of `log` up to `seq` is known, as of `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub log: LogId,
    pub seq: Seq,
    pub epoch: Epoch,
}

impl Cursor {
    pub fn to_wire(self) -> wire::Cursor {
        wire::Cursor { log_id: self.log.to_wire(), seq: self.seq, epoch: self.epoch }
    }
}

/// Where a conversation that this client meets for the first time begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At its head, or at the entry by which this user joined. Older messages come by `history`.
    #[default]
    Head,
    /// At its first entry, as far as this user may see it.
    Beginning,
}

/// What the connection does after a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Event(Event),
    /// Ask the server to move its cursor; [`State::opened`] takes the answer.
    Open {
        log: LogId,
        after_seq: Seq,
    },
}

/// A part of a log is missing: the connection ends, and the next one resumes from the cursor, which has not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub log: LogId,
    pub cursor: Seq,
    pub after_seq: Seq,
}

impl From<Hole> for Why {
    fn from(hole: Hole) -> Why {
        Why::Hole { log: hole.log, cursor: hole.cursor, after_seq: hole.after_seq }
    }
}

/// Every position of one user, over all connections.
#[derive(Debug)]
pub struct State {
    start: Start,
    user: Option<UserId>,
    epoch: Epoch,
    logs: HashMap<LogId, Position>,
    /// The position in the user's own log is of this connection: told by the first page of `heads`, or by an entry, which
    /// may come before it.
    own_is_known: bool,
    opening: HashMap<LogId, Opening>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    seq: Seq,
    epoch: Epoch,
    /// This user's leaving entry: once it is passed, the log is no longer followed, or goes on after `again_after`.
    left_seq: Option<Seq>,
    /// He has joined again since: the entry before that joining.
    again_after: Option<Seq>,
}

impl Position {
    fn at(seq: Seq, epoch: Epoch) -> Self {
        Self { seq, epoch, left_seq: None, again_after: None }
    }
}

/// The log's first frame, and twice more should the server have been a moment behind.
const START_TRIES: u32 = 3;

enum Membership {
    Joined { log: LogId, seq: Seq },
    Left { log: LogId, seq: Seq },
}

/// A move that the server has not confirmed: what comes may still be of the place before.
#[derive(Clone, Copy, Debug)]
struct Opening {
    outstanding: u32,
    back_to: Seq,
    /// Something was passed over on the word that it comes again.
    skipped: bool,
    /// Of [`Start::Beginning`]: how often it may still be asked for. The server refuses it until it follows the log
    /// itself, which the log's first frame shows.
    tries: u32,
}

impl State {
    /// `cursors` are what an earlier process had reached; the user's own log is among them, if its position is known.
    pub fn new(start: Start, cursors: impl IntoIterator<Item = Cursor>) -> Self {
        let known = |c: Cursor| (c.log, Position::at(c.seq, c.epoch));
        let logs = cursors.into_iter().map(known).collect();
        Self { start, user: None, epoch: 0, logs, own_is_known: false, opening: HashMap::new() }
    }

    /// Whom this is; [`State::user_cursor`] and [`State::cursors`] need it.
    pub fn set_user(&mut self, user: UserId) {
        self.user = Some(user);
    }

    /// The server accepted this client as `user`. False: it is another one than before, whose positions these are not.
    pub fn connected(&mut self, user: UserId, epoch: Epoch) -> bool {
        if self.user.is_some_and(|known| known != user) {
            return false;
        }
        self.user = Some(user);
        self.epoch = epoch;
        true
    }

    /// Unconfirmed moves end with the connection: the next one names the positions anew.
    pub fn disconnected(&mut self) {
        self.opening.clear();
        self.own_is_known = false;
    }

    /// The position in the user's own log, for `connect`.
    pub fn user_cursor(&self) -> Option<Cursor> {
        let log = self.user?.log();
        self.logs.get(&log).map(|p| Cursor { log, seq: p.seq, epoch: p.epoch })
    }

    /// The position in every other log that is followed, for `resume`; in no order.
    pub fn cursors(&self) -> impl Iterator<Item = Cursor> {
        let own = self.user.map(UserId::log);
        let others = self.logs.iter().filter(move |(log, _)| Some(**log) != own);
        others.map(|(log, p)| Cursor { log: *log, seq: p.seq, epoch: p.epoch })
    }

    pub fn cursor(&self, log: LogId) -> Option<Seq> {
        self.logs.get(&log).map(|p| p.seq)
    }

    /// Takes a push; anything else is ignored. After a hole nothing more of this connection may be applied.
    pub fn apply(&mut self, push: Push, out: &mut Vec<Step>) -> Result<(), Hole> {
        match push {
            Push::Entries(entries) => return self.entries(entries, out),
            Push::Heads(heads) => self.heads(heads, out),
            Push::CaughtUp(c) => self.caught_up(&c, out),
            Push::GapTooLarge(gap) => self.gap(&gap, out),
            Push::Trimmed(trimmed) => self.trimmed(&trimmed, out),
            Push::Reset(reset) => self.reset(&reset, out),
            Push::NotFound(missing) => self.not_found(&missing, out),
            Push::Receipt(r) => {
                if let (Some(log), Some(user)) = (log_id(&r.log_id), UserId::from_wire(&r.user_id)) {
                    out.push(Step::Event(Event::Receipt { log, user, seq: r.seq, message_no: r.message_no }));
                }
            }
            Push::Typing(t) => {
                if let (Some(log), Some(user)) = (log_id(&t.log_id), UserId::from_wire(&t.user_id)) {
                    out.push(Step::Event(Event::Typing { log, user }));
                }
            }
            Push::FeedUpdate(wire::FeedUpdate { items, more }) => {
                out.push(Step::Event(Event::Feed { items, more }));
            }
            Push::Notice(notice) => out.push(Step::Event(Event::Notice(notice.text))),
            _ => {}
        }
        Ok(())
    }

    /// A conversation that this client made, or opened by its people; `seq` is its head.
    pub fn created(&mut self, log: LogId, seq: Seq) {
        self.meet(log, seq);
    }

    /// This client asks for another place in a log. What is still under way from the place before is not applied.
    pub fn open(&mut self, log: LogId, after_seq: Seq, out: &mut Vec<Step>) {
        let epoch = self.epoch;
        let position = self.logs.entry(log).or_insert(Position::at(after_seq, epoch));
        let fresh = Opening { outstanding: 0, back_to: position.seq, skipped: false, tries: 0 };
        let opening = self.opening.entry(log).or_insert(fresh);
        opening.outstanding += 1;
        opening.tries = 0;
        position.seq = after_seq;
        position.epoch = epoch;
        out.push(Step::Event(Event::Moved { log, after_seq }));
    }

    /// The answer to a move. Refused, the place before counts again; if something was passed over since, it must be
    /// resumed from there.
    pub fn opened(&mut self, log: LogId, accepted: bool) -> Result<(), Hole> {
        let Slot::Occupied(mut slot) = self.opening.entry(log) else { return Ok(()) };
        let opening = slot.get_mut();
        opening.outstanding = opening.outstanding.saturating_sub(1);
        if (accepted && opening.outstanding > 0) || (!accepted && opening.tries > 0) {
            return Ok(());
        }
        let opening = slot.remove();
        let Some(position) = self.logs.get_mut(&log).filter(|_| !accepted) else { return Ok(()) };
        let reached = position.seq;
        position.seq = opening.back_to.max(reached);
        if opening.skipped { Err(Hole { log, cursor: position.seq, after_seq: reached }) } else { Ok(()) }
    }

    /// A frame of a place that this client has left behind.
    fn passed_over(&mut self, log: LogId, out: &mut Vec<Step>) -> bool {
        let Some(opening) = self.opening.get_mut(&log) else { return false };
        opening.skipped = true;
        if opening.outstanding == 0 && opening.tries > 0 {
            opening.tries -= 1;
            opening.outstanding = 1;
            out.push(Step::Open { log, after_seq: 0 });
        }
        true
    }

    fn entries(&mut self, entries: wire::Entries, out: &mut Vec<Step>) -> Result<(), Hole> {
        let Some(log) = log_id(&entries.log_id) else { return Ok(()) };
        self.meet(log, entries.after_seq);
        let Some(position) = self.logs.get_mut(&log) else { return Ok(()) };
        if entries.after_seq > position.seq {
            let hole = Hole { log, cursor: position.seq, after_seq: entries.after_seq };
            return if self.passed_over(log, out) { Ok(()) } else { Err(hole) };
        }
        self.own_is_known |= self.user.is_some_and(|user| user.log() == log);
        let mut at = position.seq;
        position.seq = at.max(entries.to_seq);
        position.epoch = self.epoch;
        for entry in entries.items {
            if entry.seq > at && entry.seq <= entries.to_seq {
                at = entry.seq;
                self.entry(log, entry, out);
            }
        }
        self.pass_leaving(log);
        Ok(())
    }

    fn entry(&mut self, log: LogId, entry: wire::Entry, out: &mut Vec<Step>) {
        let membership = self.membership(log, &entry);
        out.push(Step::Event(Event::Entry { log, entry }));
        match membership {
            Some(Membership::Joined { log, seq }) => self.joined(log, seq),
            Some(Membership::Left { log, seq }) => self.left(log, seq),
            None => {}
        }
    }

    /// What an entry says about this user's being in a conversation.
    fn membership(&self, log: LogId, entry: &wire::Entry) -> Option<Membership> {
        let user = self.user?;
        match entry.content.as_ref()? {
            Content::Joined(j) if log == user.log() => {
                Some(Membership::Joined { log: log_id(&j.conversation_id)?, seq: j.conversation_seq })
            }
            Content::Left(l) if log == user.log() => {
                Some(Membership::Left { log: log_id(&l.conversation_id)?, seq: l.conversation_seq })
            }
            Content::MemberLeft(l) if l.user_id == user.0.as_bytes() => Some(Membership::Left { log, seq: entry.seq }),
            _ => None,
        }
    }

    fn joined(&mut self, log: LogId, joined_seq: Seq) {
        let before = joined_seq.saturating_sub(1);
        self.meet(log, before);
        // One who never left stands where he stands, even below the joining, whose entry may be a replay.
        if let Some(position) = self.logs.get_mut(&log)
            && position.left_seq.is_some_and(|left| left < joined_seq)
        {
            position.again_after = Some(before);
        }
    }

    /// One who has joined again since has his cursor above that seq, and stays.
    fn left(&mut self, log: LogId, left_seq: Seq) {
        if let Some(position) = self.logs.get_mut(&log)
            && left_seq >= position.seq
        {
            (position.left_seq, position.again_after) = (Some(left_seq), None);
            self.pass_leaving(log);
        }
    }

    fn pass_leaving(&mut self, log: LogId) {
        let Some(position) = self.logs.get_mut(&log).filter(|p| p.left_seq.is_some_and(|left| p.seq >= left)) else {
            return;
        };
        match position.again_after {
            Some(after) => *position = Position::at(position.seq.max(after), position.epoch),
            None => {
                self.logs.remove(&log);
                self.opening.remove(&log);
            }
        }
    }

    /// Takes up a log that was not known, at `seq` or from its beginning.
    fn meet(&mut self, log: LogId, seq: Seq) {
        let epoch = self.epoch;
        let Slot::Vacant(slot) = self.logs.entry(log) else { return };
        let own = self.user.is_some_and(|user| user.log() == log);
        if self.start == Start::Head || own || seq == 0 {
            slot.insert(Position::at(seq, epoch));
            return;
        }
        slot.insert(Position::at(0, epoch));
        self.opening.insert(log, Opening { outstanding: 0, back_to: seq, skipped: false, tries: START_TRIES });
    }

    fn heads(&mut self, heads: wire::Heads, out: &mut Vec<Step>) {
        // Later pages are newer, and entries from the first one's place on still come.
        if let Some(user) = self.user.filter(|_| !self.own_is_known) {
            self.logs.insert(user.log(), Position::at(heads.as_of_seq, self.epoch));
            self.own_is_known = true;
        }
        let logs: Vec<_> = heads.items.iter().filter_map(|head| Some((log_id(&head.log_id)?, head.last_seq))).collect();
        out.push(Step::Event(Event::Heads { items: heads.items, more: heads.more }));
        for (log, last_seq) in logs {
            self.meet(log, last_seq);
            if self.cursor(log).is_some_and(|seq| seq < last_seq) {
                self.passed_over(log, out);
            }
        }
    }

    fn caught_up(&mut self, c: &wire::CaughtUp, out: &mut Vec<Step>) {
        let Some(log) = log_id(&c.log_id) else { return };
        self.meet(log, c.seq);
        let Some(position) = self.logs.get_mut(&log) else { return };
        if c.seq > position.seq && self.opening.contains_key(&log) {
            self.passed_over(log, out);
            return;
        }
        position.seq = position.seq.max(c.seq);
        position.epoch = self.epoch;
        out.push(Step::Event(Event::CaughtUp { log, seq: c.seq, read_seq: c.read_seq, unread: c.unread }));
        self.pass_leaving(log);
    }

    fn gap(&mut self, gap: &wire::GapTooLarge, out: &mut Vec<Step>) {
        let Some(log) = log_id(&gap.log_id) else { return };
        let epoch = self.epoch;
        let position = self.logs.entry(log).or_insert(Position::at(gap.head, epoch));
        out.push(Step::Event(Event::Gap { log, after_seq: position.seq, head: gap.head }));
        position.seq = position.seq.max(gap.head);
        position.epoch = epoch;
    }

    fn trimmed(&mut self, trimmed: &wire::Trimmed, out: &mut Vec<Step>) {
        let Some(log) = log_id(&trimmed.log_id) else { return };
        let before = trimmed.first_seq.saturating_sub(1);
        if let Some(position) = self.logs.get_mut(&log) {
            position.seq = position.seq.max(before);
        }
        out.push(Step::Event(Event::Trimmed { log, first_seq: trimmed.first_seq }));
    }

    fn reset(&mut self, reset: &wire::Reset, out: &mut Vec<Step>) {
        let Some(log) = log_id(&reset.log_id) else { return };
        self.epoch = self.epoch.max(reset.epoch);
        if let Some(position) = self.logs.get_mut(&log) {
            // A cursor below keeps its place: what is between is sure, and not yet seen.
            position.seq = position.seq.min(reset.first_unsure_seq.saturating_sub(1));
            position.epoch = reset.epoch;
        }
        let first_unsure_seq = reset.first_unsure_seq;
        out.push(Step::Event(Event::Reset { log, first_unsure_seq, epoch: reset.epoch }));
    }

    fn not_found(&mut self, missing: &wire::NotFound, out: &mut Vec<Step>) {
        let Some(log) = log_id(&missing.log_id) else { return };
        self.logs.remove(&log);
        self.opening.remove(&log);
        out.push(Step::Event(Event::NotFound { log }));
    }
}

fn log_id(bytes: &[u8]) -> Option<LogId> {
    LogId::from_wire(bytes)
}

#[cfg(test)]
mod tests;
