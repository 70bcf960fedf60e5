//! What a socket is for.

use std::time::{Duration, Instant};

use bowline_protocol::{LogId, Seq, wire};

use super::io::Io;

/// The protocol that a shard's sockets speak: one value a shard, one `Slot` a socket. Every call runs on the shard's
/// thread and must not wait; work that does goes elsewhere, and its outcome comes back through
/// [`super::Shards::complete`].
///
/// After [`Io::close`], or once the peer has gone, `closed` is the only call that follows.
pub trait Application: Send + 'static {
    /// State of one socket.
    type Slot: Send;
    /// What the handshake knows about the socket.
    type Ticket: Send;
    /// An outcome of work that was started for a socket.
    type Done: Send;

    /// A socket was adopted.
    fn open(&mut self, ticket: Self::Ticket, io: &mut Io<'_>) -> Self::Slot;

    /// A whole message came: text (valid UTF-8) or binary.
    fn message(&mut self, slot: &mut Self::Slot, text: bool, payload: &[u8], io: &mut Io<'_>);

    fn done(&mut self, slot: &mut Self::Slot, done: Self::Done, io: &mut Io<'_>);

    /// An entry was delivered: each one of a log that is followed with `watch`, and of any log the entry that removed
    /// this user, after which the log is no longer followed.
    fn passed(&mut self, slot: &mut Self::Slot, log: LogId, entry: &wire::Entry, io: &mut Io<'_>);

    /// A log that is followed with `watch` has this entry, and the socket takes nothing: it will be `passed` if that
    /// changes. Said again whenever there is news in that log.
    fn foreseen(&mut self, slot: &mut Self::Slot, log: LogId, entry: &wire::Entry, io: &mut Io<'_>);

    /// A replay that was to be announced, or that has an end, has covered everything up to `seq`; what is sent here goes
    /// out before anything that follows in this log. `ended`: nothing follows, the log is no longer followed.
    fn level(&mut self, slot: &mut Self::Slot, log: LogId, seq: Seq, ended: bool, io: &mut Io<'_>);

    /// Everything that was sent has been taken by the socket; asked for with [`Io::call_when_taken`].
    fn taken(&mut self, slot: &mut Self::Slot, io: &mut Io<'_>);

    /// Comes about six times a heartbeat: for what is due some time.
    fn sweep(&mut self, slot: &mut Self::Slot, now: Instant, io: &mut Io<'_>);

    /// The server goes away; this socket is closed after `reconnect_after`.
    fn drain(&mut self, slot: &mut Self::Slot, reconnect_after: Duration, io: &mut Io<'_>);

    /// The socket takes no more messages. Called exactly once.
    fn closed(&mut self, slot: Self::Slot);
}
