//! Moving one cursor: the one path for live entries, slow readers, holes and replays.

use std::io::IoSlice;

use bowline_protocol::wire::{self, Entries, ServerFrame, Trimmed, server_frame::Kind};
use bowline_protocol::{LogId, Seq};
use bytes::Bytes;

use crate::tail::{Covered, Cursor, MAX_FRAMES, Page, Plan, Stretch, Tail, entries_end, entries_head, plan};

use super::application::Application;
use super::fanout::Fanouts;
use super::io::add_frame;
use super::shard::Shard;
use super::slab::Key;
use super::slot::{Flag, Socket, Wrote};

/// How far ahead of a socket that takes nothing is looked, in pieces of a page or tail.
const FORESEEN_PLANS: usize = 16;

/// What one step of a cursor led to.
enum Step {
    /// It is level, blocked, or waits for a page: somebody will come back to it.
    Rests,
    Moved(Moved),
    /// Messages of a topic that the reader was too slow for.
    Lost(u64),
    /// Entries that the reader would have seen are not kept any more.
    Trimmed {
        first_seq: Seq,
    },
    Gone,
}

/// A range that was covered, by a message or because nothing of it is for this reader.
struct Moved {
    entries: usize,
    covered: Covered,
    /// Entries of which the application is to hear.
    passed: Vec<wire::Entry>,
    /// The last of them removed the reader.
    removed: bool,
}

impl<A: Application> Shard<A> {
    /// Moves the `nth` cursor of the socket in this slot by at most `allowed` writes; returns how many it took. One that
    /// could go on then is queued.
    pub(super) fn advance(&mut self, slot: u32, nth: usize, allowed: usize) -> usize {
        let mut writes = 0;
        let Some(key) = self.slots.key_at(slot) else { return writes };
        let Some(fanout) = self.slots.get(key).and_then(|slot| slot.socket.follows.get(nth)).map(|f| f.fanout) else {
            return writes;
        };
        let mut nth = nth;
        while writes < allowed {
            let Some(slot) = self.slots.get_mut(key) else { return writes };
            match step(&mut slot.socket, nth, &mut self.fanouts, &mut self.scratch) {
                Step::Rests => {
                    self.foresee(key, nth);
                    return writes;
                }
                Step::Gone => {
                    self.remove(key);
                    return writes;
                }
                Step::Lost(messages) => self.tally.lost += messages,
                Step::Trimmed { first_seq } => self.trim(key, nth, first_seq),
                Step::Moved(moved) => {
                    writes += 1;
                    self.tally.deliveries += moved.entries as u64;
                    self.tally.short_writes += u64::from(slot.socket.has(Flag::Blocked));
                    if !moved.is_silent() {
                        self.tell(key, nth, moved);
                        let Some(slot) = self.slots.get(key) else { return writes };
                        match slot.socket.follows.iter().position(|followed| followed.fanout == fanout) {
                            Some(at) => nth = at,
                            None => return writes,
                        }
                    }
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(key) {
            slot.socket.set(Flag::Lags);
            self.queue(key);
        }
        writes
    }

    /// One write for the next cursor that is behind; true if there may be more to do. What the application watches goes
    /// before everything else, for it may end the connection.
    pub(super) fn catch_up(&mut self, key: Key) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if !slot.socket.is_open() || !slot.socket.take(Flag::Lags) {
            return false;
        }
        let follows = slot.socket.follows.len();
        let watched = slot.socket.watched as usize;
        if self.advance(key.index, watched, 1) > 0 {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.socket.set(Flag::Lags);
            }
            return true;
        }
        for _ in 0..follows {
            let Some(slot) = self.slots.get_mut(key) else { return false };
            let nth = slot.socket.next_follow as usize;
            if nth >= slot.socket.follows.len() {
                slot.socket.next_follow = 0;
            }
            let nth = slot.socket.next_follow as usize;
            let used = self.advance(key.index, nth, 1);
            let Some(slot) = self.slots.get_mut(key) else { return false };
            if !slot.socket.is_open() {
                return false;
            }
            if used > 0 {
                slot.socket.set(Flag::Lags);
                return true;
            }
            slot.socket.next_follow += 1;
        }
        false
    }

    /// Tells the application what was passed, and ends what has ended.
    fn tell(&mut self, key: Key, nth: usize, moved: Moved) {
        let Some(followed) = self.slots.get(key).and_then(|slot| slot.socket.follows.get(nth)) else { return };
        let seq = followed.seq();
        let Some(log) = self.fanouts.at_mut(followed.fanout).map(|(fanout, _)| fanout.log) else { return };
        if moved.removed || moved.covered == (Covered::Level { ended: true }) {
            self.unfollow_nth(key, nth);
        }
        for entry in &moved.passed {
            self.call(key, |app, slot, io| app.passed(slot, log, entry, io));
        }
        if let Covered::Level { ended } = moved.covered {
            let ended = ended || moved.removed;
            self.call(key, |app, slot, io| app.level(slot, log, seq, ended, io));
        }
    }

    /// Tells the application of what a socket that takes nothing would pass next in a log that it watches: it may have to
    /// end the connection, and can't wait for the peer.
    fn foresee(&mut self, key: Key, nth: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let socket = &mut slot.socket;
        let Some(followed) = socket.follows.get(nth) else { return };
        if !followed.watch() || !socket.has(Flag::Blocked) || socket.has(Flag::Closing) {
            return;
        }
        let (user, codec, index) = (socket.user(), socket.codec(), followed.fanout);
        let Some(stands) = socket.take_cursor(nth) else { return };
        let mut cursor = stands.clone();
        socket.put_cursor(nth, stands);
        let mut entries = Vec::new();
        let Some((fanout, budget)) = self.fanouts.at_mut(index) else { return };
        let log = fanout.log;
        for _ in 0..FORESEEN_PLANS {
            let to_seq = match plan(&cursor, user, codec, &mut fanout.tail, budget) {
                Plan::Need(page) => {
                    self.fanouts.need(index, page);
                    break;
                }
                Plan::Frames(stretch) => {
                    entries.extend(stretch.items.filter_map(|i| fanout.tail.entry(i)).map(|entry| entry.decode()));
                    stretch.to_seq
                }
                Plan::Slice(page, stretch) => {
                    entries.extend(stretch.items.map(|i| page.decode(i)));
                    stretch.to_seq
                }
                Plan::Skip(to_seq) => to_seq,
                Plan::Trimmed(first_seq) => first_seq - 1,
                Plan::Rest | Plan::Settle | Plan::Withheld(..) => break,
            };
            let _ = cursor.advance(to_seq);
        }
        for entry in &entries {
            self.call(key, |app, slot, io| app.foreseen(slot, log, entry, io));
        }
    }

    fn trim(&mut self, key: Key, nth: usize, first_seq: Seq) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(mut cursor) = slot.socket.take_cursor(nth) else { return };
        // Not beyond: what is there follows as a range of its own.
        let _ = cursor.advance(first_seq - 1);
        slot.socket.put_cursor(nth, cursor);
        let Some(log) = self.fanouts.at_mut(slot.socket.follows[nth].fanout).map(|(fanout, _)| fanout.log) else {
            return;
        };
        let trimmed = Trimmed { log_id: log.to_wire(), first_seq };
        self.send_frame(key, &ServerFrame { id: None, kind: Some(Kind::Trimmed(trimmed)) });
    }
}

impl Moved {
    fn is_silent(&self) -> bool {
        self.passed.is_empty() && !self.removed && self.covered == Covered::Moved
    }
}

/// Covers the next range of one cursor by at most one write.
fn step(socket: &mut Socket, nth: usize, fanouts: &mut Fanouts, scratch: &mut Vec<u8>) -> Step {
    if !socket.is_open() {
        return Step::Rests;
    }
    let Some(mut cursor) = socket.take_cursor(nth) else { return Step::Rests };
    let step = move_on(socket, nth, &mut cursor, fanouts, scratch);
    socket.put_cursor(nth, cursor);
    step
}

fn move_on(socket: &mut Socket, nth: usize, cursor: &mut Cursor, fanouts: &mut Fanouts, scratch: &mut Vec<u8>) -> Step {
    let index = socket.follows[nth].fanout;
    let Some((fanout, budget)) = fanouts.at_mut(index) else { return Step::Rests };
    let log = fanout.log;
    match plan(cursor, socket.user(), socket.codec(), &mut fanout.tail, budget) {
        Plan::Rest => Step::Rests,
        Plan::Settle => match cursor.settle() {
            Covered::Moved => Step::Rests,
            covered => Step::Moved(Moved { entries: 0, covered, passed: Vec::new(), removed: false }),
        },
        Plan::Need(page) => {
            let begins_after = fanout.tail.begins_after();
            if fanouts.name(index).is_some() {
                // What is not in memory is nowhere: the next seq tells.
                let lost = begins_after - cursor.seq();
                let _ = cursor.advance(begins_after);
                return Step::Lost(lost);
            }
            fanouts.need(index, page);
            Step::Rests
        }
        Plan::Trimmed(first_seq) => Step::Trimmed { first_seq },
        Plan::Skip(to_seq) => private(socket, cursor, log, to_seq, Vec::new(), scratch),
        Plan::Withheld(page, Stretch { items, to_seq, .. }) => {
            private(socket, cursor, log, to_seq, vec![page.withheld(items.start)], scratch)
        }
        Plan::Frames(stretch) => write_frames(socket, nth, cursor, &fanout.tail, stretch),
        Plan::Slice(page, stretch) => write_slice(socket, nth, cursor, log, &page, stretch, scratch),
    }
}

/// Shared frames, as they are.
fn write_frames(socket: &mut Socket, nth: usize, cursor: &mut Cursor, tail: &Tail, stretch: Stretch) -> Step {
    let codec = socket.codec();
    let entries = || stretch.items.clone().filter_map(|i| tail.entry(i));
    let wrote = match stretch.items.len() {
        1 => tail.entry(stretch.items.start).map_or(Wrote::All, |entry| socket.write(entry.frame(codec))),
        n => {
            let mut parts = [IoSlice::new(&[]); MAX_FRAMES];
            entries().zip(&mut parts).for_each(|(entry, part)| *part = IoSlice::new(entry.frame(codec)));
            socket.write_vectored(&parts[..n])
        }
    };
    let (whole, rest) = match wrote {
        Wrote::Gone => return Step::Gone,
        Wrote::All => (stretch.items.len(), None),
        Wrote::Short(0) => return Step::Rests,
        Wrote::Short(n) => cut(entries().map(|entry| entry.frame(codec)), n),
    };
    if let Some(rest) = rest {
        socket.backlog.get_or_insert_default().rest.push(rest);
    }
    let sent = stretch.items.start..stretch.items.start + whole;
    let all = sent.end == stretch.items.end;
    let last = tail.entry(sent.end - 1).map_or(0, |entry| entry.header().seq);
    let removed = all && stretch.removed;
    Step::Moved(Moved {
        entries: whole,
        covered: cursor.advance(if all { stretch.to_seq } else { last }),
        passed: socket.follows[nth]
            .heard(sent, removed)
            .filter_map(|i| tail.entry(i))
            .map(|entry| entry.decode())
            .collect(),
        removed,
    })
}

/// One message out of a page: its head is this reader's, its items are everybody's.
fn write_slice(
    socket: &mut Socket,
    nth: usize,
    cursor: &mut Cursor,
    log: LogId,
    page: &Page,
    stretch: Stretch,
    scratch: &mut Vec<u8>,
) -> Step {
    let codec = socket.codec();
    let Stretch { items, to_seq, removed, .. } = stretch;
    let slice = page.slice(codec, items.clone());
    let bytes = slice.as_ref();
    let end = entries_end(codec);
    scratch.clear();
    entries_head(codec, log, cursor.seq(), to_seq, bytes.len(), scratch);
    let parts = [IoSlice::new(scratch), IoSlice::new(bytes), IoSlice::new(end)];
    match socket.write_vectored(&parts) {
        Wrote::Gone => return Step::Gone,
        Wrote::Short(0) => return Step::Rests,
        Wrote::All => {}
        Wrote::Short(n) => {
            let head = Bytes::copy_from_slice(&scratch[n.min(scratch.len())..]);
            let n = n.saturating_sub(scratch.len());
            let items = slice.share(n.min(bytes.len()));
            let end = Bytes::from_static(end).slice(n.saturating_sub(bytes.len())..);
            let rest = &mut socket.backlog.get_or_insert_default().rest;
            rest.extend([end, items, head].into_iter().filter(|part| !part.is_empty()));
        }
    }
    Step::Moved(Moved {
        entries: items.len(),
        covered: cursor.advance(to_seq),
        passed: socket.follows[nth].heard(items, removed).map(|i| page.decode(i)).collect(),
        removed,
    })
}

/// A message that no other reader gets.
fn private(
    socket: &mut Socket,
    cursor: &mut Cursor,
    log: LogId,
    to_seq: Seq,
    items: Vec<wire::Entry>,
    scratch: &mut Vec<u8>,
) -> Step {
    let entries = items.len();
    let frame = Entries { log_id: log.to_wire(), after_seq: cursor.seq(), to_seq, items };
    scratch.clear();
    add_frame(socket.codec(), &ServerFrame { id: None, kind: Some(Kind::Entries(frame)) }, scratch);
    match socket.write(scratch) {
        Wrote::Gone => return Step::Gone,
        Wrote::Short(0) => return Step::Rests,
        Wrote::All => {}
        Wrote::Short(n) => {
            let rest = Bytes::copy_from_slice(&scratch[n..]);
            socket.backlog.get_or_insert_default().rest.push(rest);
        }
    }
    let covered = cursor.advance(to_seq);
    Step::Moved(Moved { entries, covered, passed: Vec::new(), removed: false })
}

/// Of frames of which `n` bytes were taken: how many count as written, and the rest of the last one if it was cut.
fn cut<'a>(frames: impl Iterator<Item = &'a Bytes>, n: usize) -> (usize, Option<Bytes>) {
    let mut left = n;
    let mut whole = 0;
    for frame in frames {
        if left == 0 {
            break;
        }
        whole += 1;
        if left < frame.len() {
            return (whole, Some(frame.slice(left..)));
        }
        left -= frame.len();
    }
    (whole, None)
}
