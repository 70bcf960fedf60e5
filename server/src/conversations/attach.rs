//! What a session follows, and from where.

use bowline_protocol::{Epoch, LogId, Seq, wire};

use crate::tail::Span;

/// All that a session needs to follow its logs, read in one statement.
#[derive(Debug, PartialEq)]
pub struct Attachment {
    /// The head of the user log when it was read.
    pub user_as_of_seq: Seq,
    /// How the user log is replayed; none if the client's cursor is of no use, so that it gets `heads`.
    pub user_replay: Option<AttachedLog>,
    /// Conversations, newest activity first: every one that the user is a member of, and those that the client named
    /// and the user was a member of.
    pub logs: Vec<AttachedLog>,
    /// Named by the client, but not there for this user.
    pub unknown: Vec<LogId>,
}

/// One log as its user may read it.
#[derive(Debug, PartialEq)]
pub struct AttachedLog {
    pub log: LogId,
    /// The client gave a cursor for it: its end of replay is announced.
    pub named: bool,
    /// Where the client stands; never above `as_of_seq`.
    pub after_seq: Seq,
    /// The head when it was read.
    pub as_of_seq: Seq,
    /// The oldest entry that is kept.
    pub first_seq: Seq,
    /// Oldest first; empty for the user's own log, which is his alone.
    pub spans: Vec<Span>,
    /// The client's cursor is of an older history of the database: the first seq that it can't trust, and the epoch
    /// that is in force.
    pub reset: Option<(Seq, Epoch)>,
    pub read_seq: Seq,
    pub unread: u64,
}

/// Where a page of heads starts.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadsPlace {
    /// The head of the user log when the session attached; the same for all pages.
    pub as_of_seq: Seq,
    /// Activity (microseconds since the Unix epoch) and id of the last item of the page before.
    pub after: Option<(i64, LogId)>,
}

impl HeadsPlace {
    pub fn first(as_of_seq: Seq) -> Self {
        Self { as_of_seq, after: None }
    }
}

/// Conversations folded to what a list shows, newest activity first.
#[derive(Debug, PartialEq)]
pub struct HeadsPage {
    pub items: Vec<wire::Head>,
    /// None after the last page.
    pub next: Option<HeadsPlace>,
}
