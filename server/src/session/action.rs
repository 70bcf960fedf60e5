//! What a session wants done, and what it hears back.

use std::sync::Arc;

use bowline_protocol::command::{
    Change, Create, Cursor, FeedQuery, PeopleChange, PeopleQuery, Place, PostChange, PostQuery,
};
use bowline_protocol::wire::{FeedUpdate, ServerFrame, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Close, Epoch, Failure, LogId, Seq, SessionId, UserId};

use crate::accounts::Identity;
use crate::conversations::{AttachedLog, Attachment, HeadsPage, HeadsPlace, Named};
use crate::wire::Follow;

/// Carried out by the connection's shard, in this order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// A frame for this connection alone.
    Send(ServerFrame),
    /// One call of the domain that reads; its [`Outcome`] comes back later.
    Ask(Ask),
    /// One durable command; its [`Outcome::Reply`] comes back later.
    Write(Write),
    /// How far the user has read; latest wins, nothing comes back.
    MarkRead {
        user: UserId,
        log: LogId,
        seq: Seq,
    },
    /// Read a log from a cursor on, then follow it; one that is followed already goes on from there.
    Follow(LogId, Follow),
    /// Tell all who follow a log, best effort.
    Signal {
        log: LogId,
        frame: ServerFrame,
    },
    /// Follow a topic; the shard knows where it stands and answers the command `id`.
    Subscribe {
        id: u64,
        topic: String,
    },
    Unsubscribe {
        topic: String,
    },
    /// Tell all who follow a topic.
    Publish {
        topic: String,
        sender: UserId,
        body: String,
    },
    /// Push new posts of those whom this user follows, or no longer.
    WatchFeed {
        user: UserId,
    },
    LeaveFeed,
    /// The peer is known: its frames may have the full length, and entries that remove this user concern it.
    Authenticated(UserId),
    /// Tell [`super::Session::drained`] when all of this connection's private frames were taken.
    WhenDrained,
    Close(Close),
}

/// How a connection says who it is.
#[derive(Debug, PartialEq)]
pub enum Credential {
    Token(String),
    /// Verified at the upgrade; revocation is still to be checked.
    Verified(Identity),
}

/// A durable command, to be put into its log's queue at once, so that the order of commands is the order of seqs.
#[derive(Debug, PartialEq)]
pub struct Write {
    pub id: u64,
    pub user: UserId,
    pub kind: WriteKind,
}

#[derive(Debug, PartialEq)]
pub enum WriteKind {
    Change { log: LogId, client_id: ClientId, change: Change },
    Create(Create),
    Mute { log: LogId, client_id: ClientId, muted: bool },
    Revoke { client_id: ClientId, session: Option<SessionId> },
    Post { client_id: ClientId, change: PostChange },
    People { client_id: ClientId, change: PeopleChange },
}

/// One call of the domain that reads.
#[derive(Debug, PartialEq)]
pub enum Ask {
    Connect {
        id: u64,
        credential: Credential,
        client_name: String,
    },
    Refresh {
        id: u64,
        access_token: String,
    },
    Attach {
        id: u64,
        identity: Identity,
        user_cursor: Option<Cursor>,
        named: Arc<Named>,
    },
    /// One log: joined while connected, or opened by the command `id`.
    AttachOne {
        id: Option<u64>,
        user: UserId,
        log: LogId,
        after_seq: Seq,
    },
    Heads {
        user: UserId,
        place: HeadsPlace,
    },
    Sessions {
        id: u64,
        identity: Identity,
    },
    List {
        id: u64,
        user: UserId,
        limit: u64,
        after: Option<(i64, LogId)>,
    },
    Members {
        id: u64,
        user: UserId,
        log: LogId,
        limit: u64,
        after: Option<UserId>,
    },
    History {
        id: u64,
        user: UserId,
        log: LogId,
        limit: u64,
        place: Place,
    },
    Posts {
        id: u64,
        user: UserId,
        query: PostQuery,
    },
    People {
        id: u64,
        user: UserId,
        query: PeopleQuery,
    },
    Feed {
        id: u64,
        user: UserId,
        query: FeedQuery,
    },
}

/// A connection that was let in.
#[derive(Debug, PartialEq)]
pub struct Welcome {
    pub identity: Identity,
    pub epoch: Epoch,
}

/// What came of an [`Ask`] or a [`Write`].
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Connected {
        id: u64,
        result: Result<Welcome, Failure>,
    },
    Refreshed {
        id: u64,
        result: Result<Identity, Failure>,
    },
    Attached {
        id: u64,
        result: Result<Attachment, Failure>,
    },
    AttachedOne {
        id: Option<u64>,
        log: LogId,
        result: Result<Option<AttachedLog>, Failure>,
    },
    Heads {
        result: Result<HeadsPage, Failure>,
    },
    Reply {
        id: u64,
        result: Result<Push, Failure>,
    },
    /// Comes unasked, after [`Action::WatchFeed`].
    FeedUpdate(FeedUpdate),
}
