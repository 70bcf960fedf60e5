//! Reading: one buffer for all sockets of a shard.

use std::io::{ErrorKind, Read as _};

use crate::tail::Opcode;

use super::application::Application;
use super::close::Ending;
use super::input::Event;
use super::shard::Shard;
use super::slab::Key;
use super::slot::{Flag, Socket};

/// Messages and control frames of one socket in a turn: thousands of tiny ones fit into a read, and others wait.
const TURN_FRAMES: usize = 128;

impl<A: Application> Shard<A> {
    /// Reads a socket once. One that may have more is served again.
    pub(super) fn read(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.socket.has(Flag::Readable) || slot.socket.has_unread() || self.config.pauses(&slot.socket) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let read = slot.socket.stream.read(&mut buffer);
        match read {
            Ok(0) => self.remove(key),
            Ok(n) => {
                slot.socket.set(Flag::Heard);
                // A short read has taken everything, and an edge will tell of more; but of an end that was told, no more.
                if n < buffer.len() && !slot.socket.has(Flag::Ended) {
                    slot.socket.clear(Flag::Readable);
                } else {
                    self.queue(key);
                }
                self.hear(key, &mut buffer[..n]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => slot.socket.clear(Flag::Readable),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.queue(key),
            Err(_) => self.remove(key),
        }
        self.read_buffer = buffer;
    }

    /// Takes bytes of a socket, as many as its application can take now; the others wait.
    pub(super) fn hear(&mut self, key: Key, bytes: &mut [u8]) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let mut input = std::mem::take(&mut slot.socket.input);
        let mut at = 0;
        for turn in 0.. {
            let Some(slot) = self.slots.get_mut(key) else { return };
            if slot.socket.has(Flag::Closing) {
                return;
            }
            if turn == TURN_FRAMES {
                self.queue(key);
            }
            let Some(slot) = self.slots.get_mut(key) else { return };
            if turn == TURN_FRAMES || self.config.pauses(&slot.socket) {
                if at < bytes.len() {
                    slot.socket.backlog.get_or_insert_default().unread.extend_from_slice(&bytes[at..]);
                }
                break;
            }
            let limit = slot.socket.message_bytes as usize;
            match input.next(bytes, &mut at, limit) {
                Ok(Some(event)) => self.take_event(key, event),
                Ok(None) => break,
                Err(close) => return self.close(key, Ending::Ours(close)),
            }
        }
        if let Some(slot) = self.slots.get_mut(key) {
            slot.socket.input = input;
        }
    }

    /// Queues a socket that has something to do without an edge: it may be read again, or has been waited for.
    pub(super) fn go_on(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let socket = &mut slot.socket;
        let unread = socket.has(Flag::Readable) || socket.has_unread();
        let taken = socket.has(Flag::TellTaken) && socket.unsent_private() == 0;
        if taken || (unread && !self.config.pauses(socket)) {
            self.queue(key);
        }
    }

    /// Takes what was read before the socket was paused.
    pub(super) fn hear_unread(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.socket.has_unread() || self.config.pauses(&slot.socket) {
            return;
        }
        let Some(backlog) = &mut slot.socket.backlog else { return };
        let mut unread = std::mem::take(&mut backlog.unread);
        slot.socket.drop_empty_backlog();
        self.hear(key, &mut unread);
    }

    fn take_event(&mut self, key: Key, event: Event<'_>) {
        match event {
            Event::Message { text, payload } => {
                self.tally.messages += 1;
                self.call(key, |app, slot, io| app.message(slot, text, payload, io));
            }
            Event::Ping(payload) => {
                self.out.add_raw(Opcode::Pong, payload);
                self.send_out(key);
            }
            Event::Pong => {}
            Event::Close(code) => self.close(key, Ending::Peers(code)),
        }
    }
}

impl super::config::Config {
    /// The socket has enough to do: what its peer sends waits in the kernel.
    fn pauses(&self, socket: &Socket) -> bool {
        !socket.has(Flag::Closing)
            && (socket.open_commands >= self.open_commands || socket.unsent_private() >= self.unsent_pause_bytes)
    }
}

impl Socket {
    fn has_unread(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| !backlog.unread.is_empty())
    }
}
