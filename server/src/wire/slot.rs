//! What a socket takes in memory.

use std::io;
use std::ops::Range;

use bowline_protocol::{Codec, Seq, UserId};
use bytes::Bytes;
use mio::net::TcpStream;
use uuid::Uuid;

use crate::tail::Cursor;

use super::input::Input;

/// A socket, and what it is for until it closes.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub app: Option<S>,
    pub socket: Socket,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub stream: TcpStream,
    flags: u16,
    /// Looks since bytes came, or, while frames wait, since the peer took any.
    pub quiet_looks: u16,
    pub open_commands: u16,
    pub message_bytes: u32,
    /// Where catching up goes on.
    pub next_follow: u32,
    /// Which log the application watches; of several the last one.
    pub watched: u32,
    user: UserId,
    pub input: Input,
    pub backlog: Option<Box<Backlog>>,
    pub follows: Vec<Followed>,
}

/// One log of a socket. Its cursor is no more than a seq, unless it replays: then it stands in the backlog.
#[derive(Debug)]
pub(super) struct Followed {
    seq: Seq,
    /// Index of the log's fan-out in its shard.
    pub fanout: u32,
    place: u32,
}

/// What could not go on: only sockets that are behind have it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The rest of a message that was cut, last part first. It goes before everything else.
    pub rest: Vec<Bytes>,
    /// Private frames, from `taken` on.
    pub private: Vec<u8>,
    pub taken: usize,
    /// Bytes that were read while the socket was not to be read.
    pub unread: Vec<u8>,
    /// Cursors that replay, by fan-out.
    replays: Vec<(u32, Cursor)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Flag {
    Json = 1,
    Identified = 1 << 1,
    /// The kernel takes no more: an edge will come. Whoever has a backlog of frames is blocked.
    Blocked = 1 << 2,
    /// An edge came for one that is blocked.
    Writable = 1 << 3,
    /// There may be bytes to read, without another edge.
    Readable = 1 << 4,
    /// Some cursor may be behind although the socket is not blocked.
    Lags = 1 << 5,
    /// In the shard's queue of sockets to serve.
    Queued = 1 << 6,
    /// A close frame was queued: nothing else is sent, what comes is dropped.
    Closing = 1 << 7,
    /// Our side of the connection is shut.
    Shut = 1 << 8,
    TellTaken = 1 << 9,
    /// Since the last look: bytes came; bytes were taken.
    Heard = 1 << 10,
    Took = 1 << 11,
    /// The peer has shut its side: only reading to the end tells what else came.
    Ended = 1 << 12,
    /// The close frame that was queued answers the peer's.
    Answers = 1 << 13,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.private.is_empty() && self.unread.is_empty() && self.replays.is_empty()
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    All,
    /// The kernel took this many bytes and an edge will tell when it takes more.
    Short(usize),
    Gone,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, codec: Codec, message_bytes: usize) -> Self {
        let flags = match codec {
            Codec::Proto => 0,
            Codec::Json => Flag::Json as u16,
        };
        Self {
            stream,
            flags: flags | Flag::Heard as u16,
            quiet_looks: 0,
            open_commands: 0,
            message_bytes: u32::try_from(message_bytes).unwrap_or(u32::MAX),
            next_follow: 0,
            watched: NONE,
            user: UserId(Uuid::nil()),
            input: Input::default(),
            backlog: None,
            follows: Vec::new(),
        }
    }

    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    /// Shared frames may be written.
    pub(super) fn is_open(&self) -> bool {
        self.flags & (Flag::Blocked as u16 | Flag::Closing as u16) == 0
    }

    pub(super) fn set(&mut self, flag: Flag) {
        self.flags |= flag as u16;
    }

    pub(super) fn clear(&mut self, flag: Flag) {
        self.flags &= !(flag as u16);
    }

    /// Clears the flag; true if it was set.
    pub(super) fn take(&mut self, flag: Flag) -> bool {
        let had = self.has(flag);
        self.clear(flag);
        had
    }

    pub(super) fn codec(&self) -> Codec {
        if self.has(Flag::Json) { Codec::Json } else { Codec::Proto }
    }

    pub(super) fn identify(&mut self, user: UserId) {
        self.user = user;
        self.set(Flag::Identified);
    }

    pub(super) fn user(&self) -> Option<UserId> {
        self.has(Flag::Identified).then_some(self.user)
    }

    /// The `nth` cursor, which goes back by [`Socket::put_cursor`].
    pub(super) fn take_cursor(&mut self, nth: usize) -> Option<Cursor> {
        let followed = self.follows.get(nth)?;
        if !followed.replays() {
            return Some(Cursor::level(followed.seq));
        }
        let replays = &mut self.backlog.as_mut()?.replays;
        let at = replays.iter().position(|(fanout, _)| *fanout == followed.fanout)?;
        Some(replays.swap_remove(at).1)
    }

    pub(super) fn put_cursor(&mut self, nth: usize, cursor: Cursor) {
        let Some(followed) = self.follows.get_mut(nth) else { return };
        let replayed = followed.replays();
        followed.seq = cursor.seq();
        followed.mark(REPLAYS, cursor.replays());
        if cursor.replays() {
            let fanout = followed.fanout;
            self.backlog.get_or_insert_default().replays.push((fanout, cursor));
        } else if replayed {
            self.drop_empty_backlog();
        }
    }

    /// Takes a log out; the last one takes its place.
    pub(super) fn take_out(&mut self, nth: usize) -> Option<Followed> {
        if self.take_cursor(nth)?.replays() {
            self.drop_empty_backlog();
        }
        let left = self.follows.swap_remove(nth);
        let moved = self.follows.len() as u32;
        if self.watched == nth as u32 {
            self.watched = self.follows.iter().position(Followed::watch).map_or(NONE, |nth| nth as u32);
        } else if self.watched == moved {
            self.watched = nth as u32;
        }
        Some(left)
    }

    /// Bytes of private frames that wait.
    pub(super) fn unsent_private(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.private.len() - backlog.taken)
    }

    pub(super) fn forget_unread(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.unread = Vec::new();
        }
        self.drop_empty_backlog();
    }

    pub(super) fn drop_empty_backlog(&mut self) {
        if self.backlog.as_ref().is_some_and(|backlog| backlog.is_empty()) {
            self.backlog = None;
        }
    }

    /// Judges a write of `bytes`, and remembers what it says about the peer.
    pub(super) fn wrote(&mut self, result: io::Result<usize>, bytes: usize) -> Wrote {
        match result {
            Ok(n) if n == bytes => {
                self.set(Flag::Took);
                Wrote::All
            }
            Ok(n) => {
                self.set(Flag::Took);
                self.set(Flag::Blocked);
                Wrote::Short(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.set(Flag::Blocked);
                Wrote::Short(0)
            }
            Err(_) => Wrote::Gone,
        }
    }
}

/// No log.
const NONE: u32 = u32::MAX;

// In the upper bits of a place.
const WATCH: u32 = 1 << 31;
const REPLAYS: u32 = 1 << 30;
const MARKS: u32 = WATCH | REPLAYS;

impl Followed {
    pub(super) fn new(fanout: u32, place: u32, watch: bool) -> Self {
        Self { seq: 0, fanout, place: place | if watch { WATCH } else { 0 } }
    }

    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// Nothing but the next live entry is missing, given the log's head.
    pub(super) fn is_level(&self, head: Seq) -> bool {
        !self.replays() && self.seq >= head
    }

    /// Where this socket stands in the log's list.
    pub(super) fn place(&self) -> u32 {
        self.place & !MARKS
    }

    pub(super) fn set_place(&mut self, place: u32) {
        self.place = place | self.place & MARKS;
    }

    /// The application hears of every entry.
    pub(super) fn watch(&self) -> bool {
        self.place & WATCH != 0
    }

    fn replays(&self) -> bool {
        self.place & REPLAYS != 0
    }

    fn mark(&mut self, mark: u32, set: bool) {
        self.place = if set { self.place | mark } else { self.place & !mark };
    }

    /// Of entries that were delivered, those of which the application is to hear: all of a log that it watches, of any
    /// other the one that removed the reader.
    pub(super) fn heard(&self, sent: Range<usize>, removed: bool) -> Range<usize> {
        if self.watch() { sent } else { sent.end - usize::from(removed)..sent.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The targets count bytes a socket; this is the part of them that a field added here would break.
    #[test]
    fn a_socket_is_small() {
        let sizes = [size_of::<Slot<Box<u8>>>(), size_of::<Followed>()];
        println!("slot {} B, followed log {} B", sizes[0], sizes[1]);
        // 88 in a release build, where mio's stream is a descriptor and nothing else.
        assert!(sizes[0] <= 104, "{sizes:?}");
        assert!(sizes[1] <= 16, "{sizes:?}");
    }
}
