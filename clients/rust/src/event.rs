//! What a client is told, in the order in which it happened.

use std::fmt;
use std::time::Duration;

use bowline_protocol::wire;
use bowline_protocol::{ClientId, Epoch, Failure, LogId, Seq, SessionId, UserId};

/// One thing that happened. Entries of a log come once and in order; everything about positions that is not plain
/// progress has an event of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// On the socket, and every log's position is named: what was missed comes next.
    Connected { session: SessionId, user: UserId, epoch: Epoch },
    /// The conversations of this user, newest activity first, page by page; `more` is false on the last.
    Heads { items: Vec<wire::Head>, more: bool },
    /// An entry of a conversation or of the user's own log (whose id is the user's).
    Entry { log: LogId, entry: wire::Entry },
    /// Nothing up to `seq` is missing; what follows in this log is live.
    CaughtUp { log: LogId, seq: Seq, read_seq: Seq, unread: u64 },
    /// The position was moved by [`Client::open`](crate::Client::open): the next entry of the log follows `after_seq`.
    Moved { log: LogId, after_seq: Seq },
    /// `user` has read up to `seq`.
    Receipt { log: LogId, user: UserId, seq: Seq, message_no: u64 },
    /// Ends by itself after 3 s.
    Typing { log: LogId, user: UserId },
    /// This client is subscribed to a topic: at first, or again on a new connection. Seqs count from here, and may have
    /// begun anew; what was published in between is lost.
    Subscribed { topic: String, seq: Seq },
    /// A message of a topic. `missed` were dropped right before it, because this client did not take them in time.
    Published { topic: String, seq: Seq, missed: u64, sender: UserId, body: String },
    /// The server refused to subscribe this client to the topic again after a reconnect.
    Unsubscribed { topic: String, failure: Failure },
    /// New posts for the feed; `more`: there were others besides, which a page has.
    Feed { items: Vec<wire::FeedItem>, more: bool },
    /// Too much was missed to be replayed: (after_seq, head] was skipped. `open` or `history` brings it.
    Gap { log: LogId, after_seq: Seq, head: Seq },
    /// Entries before `first_seq` are no longer kept.
    Trimmed { log: LogId, first_seq: Seq },
    /// The server was restored: drop what has seq or version from `first_unsure_seq` on.
    Reset { log: LogId, first_unsure_seq: Seq, epoch: Epoch },
    /// There is no such log, or no longer for this user. The client has stopped following it.
    NotFound { log: LogId },
    /// A message from the outbox is stored.
    Sent { log: LogId, client_id: ClientId, stored: wire::Stored },
    /// A message from the outbox was refused for good, and is no longer in it.
    Refused { log: LogId, client_id: ClientId, failure: Failure },
    /// A text of the server for people.
    Notice(String),
    /// The connection is gone. With `retry_in` the client comes back by itself; without, it has ended for good.
    Disconnected { why: Why, retry_in: Option<Duration> },
}

/// Why a connection ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server closed it, with this code.
    Closed { code: u16, reason: String },
    /// The server refused the connection.
    Refused(Failure),
    /// The server answered the upgrade with this HTTP status.
    Http(u16),
    /// The network failed, or never answered.
    Network(String),
    /// Nothing came for longer than the server's heartbeat allows.
    Silent,
    /// The server went away as it had announced.
    Drained,
    /// A part of a log was missing: resumed from the position before it.
    Hole { log: LogId, cursor: Seq, after_seq: Seq },
    /// What came was not the protocol.
    Protocol(String),
    /// No access token could be had.
    Token(String),
    /// Asked for by [`Client::cut`](crate::Client::cut).
    Cut,
    /// Asked for by [`Client::close`](crate::Client::close), or the last handle was dropped.
    ByUs,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Closed { code, reason } => write!(f, "closed by the server ({code} {reason})"),
            Why::Refused(failure) => write!(f, "refused by the server: {failure}"),
            Why::Http(status) => write!(f, "the server answered with HTTP {status}"),
            Why::Network(text) => write!(f, "network: {text}"),
            Why::Silent => f.write_str("the server fell silent"),
            Why::Drained => f.write_str("the server is going away"),
            Why::Hole { log, cursor, after_seq } => {
                write!(f, "a hole in {log}: at {cursor}, next was after {after_seq}")
            }
            Why::Protocol(text) => write!(f, "not the protocol: {text}"),
            Why::Token(text) => write!(f, "no access token: {text}"),
            Why::Cut => f.write_str("cut"),
            Why::ByUs => f.write_str("closed by this client"),
        }
    }
}
