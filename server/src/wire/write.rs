//! Writing: private frames, and what is left of a message that was cut.

use std::io::{self, IoSlice, Write as _};

use bowline_protocol::Close;
use bowline_protocol::wire::ServerFrame;

use super::application::Application;
use super::close::Ending;
use super::shard::Shard;
use super::slab::Key;
use super::slot::{Backlog, Flag, Socket, Wrote};

impl<A: Application> Shard<A> {
    /// Writes the private frames that were just made. What the socket does not take waits in its backlog.
    pub(super) fn send_out(&mut self, key: Key) {
        let mut framed = std::mem::take(&mut self.out.framed);
        self.made += framed.len();
        let sent = match self.slots.get_mut(key) {
            Some(slot) if !framed.is_empty() && !slot.socket.has(Flag::Shut) => slot.socket.send(&framed),
            _ => Wrote::All,
        };
        framed.clear();
        self.out.framed = framed;
        match sent {
            Wrote::Gone => self.remove(key),
            Wrote::Short(_) => self.refuse_too_much(key),
            Wrote::All => {}
        }
    }

    pub(super) fn send_frame(&mut self, key: Key, frame: &ServerFrame) {
        let Some(slot) = self.slots.get(key) else { return };
        self.out.add(slot.socket.codec(), frame);
        self.send_out(key);
    }

    /// An edge came for a blocked socket: first what waits, then the logs.
    pub(super) fn unblock(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.socket.clear(Flag::Blocked);
        match slot.socket.flush() {
            Wrote::All => {
                slot.socket.set(Flag::Lags);
                self.shut_if_done(key);
                self.go_on(key);
            }
            Wrote::Short(_) => {
                self.tally.short_writes += 1;
                self.go_on(key);
            }
            Wrote::Gone => self.remove(key),
        }
    }

    /// Tells the application, if it has asked, that everything has left.
    pub(super) fn tell_taken(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.socket.unsent_private() == 0 && slot.socket.take(Flag::TellTaken) {
            self.call(key, |app, slot, io| app.taken(slot, io));
        }
    }

    fn refuse_too_much(&mut self, key: Key) {
        self.tally.short_writes += 1;
        let limit = self.config.unsent_max_bytes;
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.socket.unsent_private() > limit && !slot.socket.has(Flag::Closing) {
            self.close(key, Ending::Ours(Close::Overloaded));
        }
    }
}

impl Socket {
    /// Writes private frames, or queues them behind what waits.
    fn send(&mut self, framed: &[u8]) -> Wrote {
        let wrote = match self.has(Flag::Blocked) {
            true => Wrote::Short(0),
            false => self.write(framed),
        };
        if let Wrote::Short(n) = wrote {
            let backlog = self.backlog.get_or_insert_default();
            if backlog.taken > 0 && backlog.taken == backlog.private.len() {
                backlog.private.clear();
                backlog.taken = 0;
            }
            backlog.private.extend_from_slice(&framed[n..]);
        }
        wrote
    }

    /// Writes what waits: the rest of a cut message, then private frames.
    fn flush(&mut self) -> Wrote {
        let Some(mut backlog) = self.backlog.take() else { return Wrote::All };
        let wrote = self.flush_backlog(&mut backlog);
        if !backlog.is_empty() {
            self.backlog = Some(backlog);
        }
        wrote
    }

    fn flush_backlog(&mut self, backlog: &mut Backlog) -> Wrote {
        while let Some(part) = backlog.rest.last_mut() {
            match self.write(part) {
                Wrote::All => drop(backlog.rest.pop()),
                Wrote::Short(n) => {
                    let _ = part.split_to(n);
                    return Wrote::Short(n);
                }
                Wrote::Gone => return Wrote::Gone,
            }
        }
        if backlog.taken == backlog.private.len() {
            backlog.forget_private();
            return Wrote::All;
        }
        let wrote = self.write(&backlog.private[backlog.taken..]);
        match wrote {
            Wrote::All => backlog.forget_private(),
            Wrote::Short(n) => backlog.taken += n,
            Wrote::Gone => {}
        }
        wrote
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Wrote {
        let result = retried(|| self.stream.write(bytes));
        self.wrote(result, bytes.len())
    }

    pub(super) fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> Wrote {
        let result = retried(|| self.stream.write_vectored(parts));
        self.wrote(result, parts.iter().map(|part| part.len()).sum())
    }
}

impl Backlog {
    fn forget_private(&mut self) {
        self.private = Vec::new();
        self.taken = 0;
    }
}

/// A call that a signal broke off says nothing about the socket.
fn retried(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
