//! Conversations: who may read what from where, lists, members, history, how far each has read, and every change of one.
//!
//! May use `log` (writing and reading entries), `storage` (through `store`, the only place here with SQL) and the types
//! of `tail`. Knows no sockets and no sessions. Rights to write are decided by the log's `append`, not here.
//!
//! What always holds:
//! - nobody is given an entry outside of his spans, nor a text that is newer than his membership;
//! - attaching is one statement for one user as for 256 of them, and so are a page of the conversations of each;
//! - every wait ends at its caller's deadline, and a full queue answers `overloaded` at once.

mod attach;
mod change;
mod history;
mod lists;
mod named;
mod reads;
mod store;

pub use attach::{AttachedLog, Attachment};
pub use lists::{HeadsPage, HeadsPlace};
pub use named::Named;
pub use reads::Receipt;

use std::sync::Arc;

use bowline_protocol::command::{Change, Create, Cursor, Place};
use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Failure, LogId, Seq, UserId};

use crate::accounts::Identity;
use crate::batcher::Batcher;
use crate::deadline::Deadline;
use crate::log::Log;
use crate::storage::Pool;
use crate::telemetry::Metrics;
use attach::Attach;
use lists::Lists;
use reads::Reads;

/// The operations on conversations, one function each. Cheap to clone; all clones share their batches.
#[derive(Clone)]
pub struct Conversations {
    pool: Pool,
    log: Log,
    limits: Limits,
    attachments: Batcher<Attach, Attachment>,
    lists: Lists,
    reads: Reads,
}

impl Conversations {
    /// Starts the batches on the runtime that this is called in. `receipts` is given what was written of how far users
    /// have read, at most once a second a user and conversation; it must not block.
    pub fn start(
        pool: Pool,
        log: Log,
        limits: Limits,
        metrics: &Metrics,
        receipts: impl Fn(&[Receipt]) + Send + Sync + 'static,
    ) -> Self {
        Self {
            attachments: attach::start(pool.clone(), limits.conversations),
            lists: Lists::start(pool.clone()),
            reads: Reads::start(pool.clone(), metrics, receipts),
            pool,
            log,
            limits,
        }
    }

    /// What a session follows and from where, all of one snapshot; see [`Attachment`]. `revoked` if the session was ended.
    ///
    /// A cursor of another epoch, or above its log's head, comes back with a `reset`. One on the user's own log counts as
    /// `user_cursor` only.
    pub async fn attach(
        &self,
        identity: &Identity,
        user_cursor: Option<Cursor>,
        named: Arc<Named>,
        deadline: Deadline,
    ) -> Result<Attachment, Failure> {
        self.attachments.ask(Attach::all(identity, user_cursor, named), deadline).await
    }

    /// One log from `after_seq` on, for a session that is attached: a conversation, or the user's own. None if the user
    /// never was a member; one who has left is given what was for him.
    pub async fn attach_one(
        &self,
        user: UserId,
        log: LogId,
        after_seq: Seq,
        deadline: Deadline,
    ) -> Result<Option<AttachedLog>, Failure> {
        let mut attachment = self.attachments.ask(Attach::one(user, log), deadline).await?;
        Ok(attachment.logs.pop().map(|attached| attached.from(after_seq)))
    }

    /// A page of the user's conversations, folded; 100 at most.
    pub async fn heads(&self, user: UserId, place: HeadsPlace, deadline: Deadline) -> Result<HeadsPage, Failure> {
        self.lists.heads(user, place, deadline).await
    }

    /// The same list, by the page that a client asks for: after the item `after`, which had its last activity then.
    pub async fn list(
        &self,
        user: UserId,
        limit: u64,
        after: Option<(i64, LogId)>,
        deadline: Deadline,
    ) -> Result<wire::Conversations, Failure> {
        self.lists.conversations(user, limit, after, deadline).await
    }

    /// Who is in a conversation, by id. `not_found` for who is not in it himself.
    pub async fn members(
        &self,
        user: UserId,
        log: LogId,
        limit: u64,
        after: Option<UserId>,
        deadline: Deadline,
    ) -> Result<wire::Members, Failure> {
        lists::members(&self.pool, user, log, limit, after, deadline).await
    }

    /// Messages as they are now around a place, of the time that the user was a member (or all, where the conversation
    /// shows its history). `not_found` for who never was. Reads at most `limits.history_entries` entries, as many
    /// reactions, and 256 KiB of text; the page says how far it reaches.
    pub async fn history(
        &self,
        user: UserId,
        log: LogId,
        place: Place,
        limit: u64,
        deadline: Deadline,
    ) -> Result<wire::Messages, Failure> {
        history::read(&self.pool, history::Asked { user, log, place, limit }, self.limits.history_entries, deadline)
            .await
    }

    /// A durable change of a conversation. `done` is called exactly once, with the frame that answers it; changes of one
    /// log are stored in the order of these calls.
    pub fn change(
        &self,
        user: UserId,
        log: LogId,
        client_id: ClientId,
        change: Change,
        deadline: Deadline,
        done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
    ) {
        change::change(&self.log, &self.reads, change::Order { user, log, client_id }, change, deadline, done);
    }

    /// Makes a conversation, or finds the direct one that is there. `done` as with [`Self::change`].
    pub fn create(
        &self,
        user: UserId,
        create: Create,
        deadline: Deadline,
        done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
    ) {
        change::create(&self.log, user, create, deadline, done);
    }

    /// Turns notification of a conversation off or on, for this user. `done` as with [`Self::change`].
    pub fn mute(
        &self,
        user: UserId,
        log: LogId,
        client_id: ClientId,
        muted: bool,
        deadline: Deadline,
        done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
    ) {
        change::mute(&self.log, change::Order { user, log, client_id }, muted, deadline, done);
    }

    /// The user has read up to `seq`. Latest wins; written within 2 s, and lost if the process dies before, or if too
    /// many wait because the database is away. Ignored if there is no such entry or he is not a member.
    pub fn mark_read(&self, user: UserId, log: LogId, seq: Seq) {
        self.reads.mark(user, log, seq);
    }

    /// Writes what is still to be written of how far users have read. Nothing may be marked after it.
    pub async fn close(&self, deadline: Deadline) {
        self.reads.flush(deadline).await;
    }
}
