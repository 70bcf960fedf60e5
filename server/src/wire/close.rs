//! The end of a socket.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use bowline_protocol::Close;

use crate::tail::{Opcode, frame_header};

use super::application::Application;
use super::shard::Shard;
use super::slab::Key;
use super::slot::Flag;

/// Who ends a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Ours(Close),
    /// The peer's close frame, with its code; it is answered with the same.
    Peers(Option<u16>),
}

impl<A: Application> Shard<A> {
    /// Begins the closing handshake, or answers the peer's: the application is told that it is over, what it sent before
    /// still goes out, then the close frame, then we shut our side and wait for the peer's end, for `close_timeout` at most.
    pub(super) fn close(&mut self, key: Key, ending: Ending) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.socket.has(Flag::Closing) {
            return;
        }
        slot.socket.set(Flag::Closing);
        if let Ending::Peers(_) = ending {
            slot.socket.set(Flag::Answers);
        }
        slot.socket.forget_unread();
        if let Some(app) = slot.app.take() {
            self.app.closed(app);
        }
        self.unfollow_all(key);
        self.out.add_raw(Opcode::Close, &ending.payload());
        self.send_out(key);
        self.closing.push_back((Instant::now() + self.config.close_timeout, key));
        self.shut_if_done(key);
        self.go_on(key);
    }

    /// Shuts our side once everything has left; all of it, if the peer was the first to close.
    pub(super) fn shut_if_done(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let socket = &mut slot.socket;
        if socket.has(Flag::Closing) && !socket.has(Flag::Blocked) && !socket.has(Flag::Shut) {
            socket.set(Flag::Shut);
            if socket.has(Flag::Answers) || socket.stream.shutdown(Shutdown::Write).is_err() {
                self.remove(key);
            }
        }
    }

    /// Drops a socket: the peer has gone, or has had its time.
    pub(super) fn remove(&mut self, key: Key) {
        self.unfollow_all(key);
        let Some(mut slot) = self.slots.remove(key) else { return };
        self.counts.sockets.dec();
        // Fails if the kernel has dropped it already.
        let _ = self.poll.registry().deregister(&mut slot.socket.stream);
        if let Some(app) = slot.app {
            self.app.closed(app);
        }
    }

    /// Another history: nothing in memory counts, and every socket has to say anew where it stands.
    pub(super) fn change_epoch(&mut self) {
        self.fanouts.forget_entries();
        for index in 0..self.slots.bound() {
            if let Some(key) = self.slots.key_at(index) {
                self.close(key, Ending::Ours(Close::EpochChanged));
            }
        }
    }
}

/// Ends a socket that no shard has taken.
pub(super) fn turn_away(mut stream: TcpStream, close: Close) {
    let mut framed = Vec::new();
    let payload = Ending::Ours(close).payload();
    frame_header(Opcode::Close, payload.len(), &mut framed);
    framed.extend_from_slice(&payload);
    // To drop a socket with bytes unread is a reset, which may overtake the close frame. All of this is of use to a peer
    // that is well, and to nobody else: what fails here is let go.
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write(&framed).and_then(|_| stream.shutdown(Shutdown::Write));
}

impl Ending {
    fn payload(self) -> Vec<u8> {
        match self {
            Ending::Ours(close) => [&close.number().to_be_bytes(), close.reason().as_bytes()].concat(),
            Ending::Peers(code) => code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()),
        }
    }
}
