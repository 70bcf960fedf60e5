//! Runs what a session asks of the domain: one call each, its outcome back to the shard that the session lives on.
//!
//! May use the domain rooms, `session`'s types and `wire`'s inboxes. Has no rules of its own. What always holds: every
//! [`Ask`] and every [`Write`] has exactly one outcome, and writes are put into their log's queue on the shard's own
//! thread, in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{Code, Failure, LogId, Seq, UserId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::accounts::{Accounts, Identity, SessionInfo};
use crate::conversations::Conversations;
use crate::deadline::Deadline;
use crate::feed::{Feed, Pushes};
use crate::graph::Graph;
use crate::log::{Log, Stored};
use crate::posts::Posts;
use crate::session::{Ask, Credential, Outcome, Welcome, Write, WriteKind};
use crate::wire::{Address, Application, Shards};

/// How long a command may take before its client is told that it took too long.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// Reads under way in one process; beyond it a command is answered `overloaded` at once. Room for every socket of a full
/// process to attach at the same time.
const MAX_READS: usize = 20_000;
const RETRY_AFTER_MS: u64 = 1_000;

/// The domain rooms that commands reach.
#[derive(Clone)]
pub struct Domain {
    pub accounts: Accounts,
    pub conversations: Conversations,
    pub posts: Posts,
    pub graph: Graph,
    pub feed: Feed,
    pub pushes: Pushes,
    pub log: Log,
}

/// The domain, as the sessions of a shard reach it.
pub struct Dispatch<A: Application<Done = Outcome>> {
    runtime: Handle,
    domain: Domain,
    shards: Shards<A>,
    reads: Arc<Semaphore>,
}

impl<A: Application<Done = Outcome>> Dispatch<A> {
    pub fn new(runtime: Handle, domain: Domain, shards: Shards<A>) -> Self {
        Self { runtime, domain, shards, reads: Arc::new(Semaphore::new(MAX_READS)) }
    }

    /// Puts a durable command into its log's queue. Never waits.
    pub fn write(&self, write: Write, from: Address) {
        let Write { id, user, kind } = write;
        let deadline = Deadline::after(COMMAND_TIME);
        let shards = self.shards.clone();
        let done = move |result| shards.complete(from, Outcome::Reply { id, result });
        let Domain { accounts, conversations, posts, graph, .. } = &self.domain;
        match kind {
            WriteKind::Change { log, client_id, change } => {
                conversations.change(user, log, client_id, change, deadline, done);
            }
            WriteKind::Create(create) => conversations.create(user, create, deadline, done),
            WriteKind::Mute { log, client_id, muted } => {
                conversations.mute(user, log, client_id, muted, deadline, done);
            }
            WriteKind::Revoke { client_id, session } => {
                accounts.revoke(user, client_id, session, deadline, stored(done));
            }
            WriteKind::Post { client_id, change } => posts.change(user, client_id, change, deadline, stored(done)),
            WriteKind::People { client_id, change } => graph.change(user, client_id, change, deadline, stored(done)),
        }
    }

    pub fn mark_read(&self, user: UserId, log: LogId, seq: Seq) {
        self.domain.conversations.mark_read(user, log, seq);
    }

    /// Starts a call that reads, as a task of its own. Never waits.
    pub fn ask(&self, ask: Ask, from: Address) {
        let Ok(permit) = self.reads.clone().try_acquire_owned() else {
            return self.shards.complete(from, refused(ask));
        };
        let (domain, shards) = (self.domain.clone(), self.shards.clone());
        self.runtime.spawn(async move {
            let outcome = domain.outcome(ask, from, Deadline::after(COMMAND_TIME)).await;
            shards.complete(from, outcome);
            drop(permit);
        });
    }
}

impl Domain {
    /// In their thousands wait only those who connect and attach, when everybody comes back: the other calls are boxed, so
    /// that a task of those two holds no more than they need.
    async fn outcome(&self, ask: Ask, from: Address, deadline: Deadline) -> Outcome {
        let conversations = &self.conversations;
        match ask {
            Ask::Connect { id, credential, client_name } => {
                Outcome::Connected { id, result: self.connect(credential, client_name, deadline).await }
            }
            Ask::Refresh { id, access_token } => {
                let welcome = self.connect(Credential::Token(access_token), String::new(), deadline).await;
                Outcome::Refreshed { id, result: welcome.map(|w| w.identity) }
            }
            Ask::Attach { id, identity, user_cursor, named } => {
                Outcome::Attached { id, result: conversations.attach(&identity, user_cursor, named, deadline).await }
            }
            Ask::AttachOne { id, user, log, after_seq } => {
                let result = Box::pin(conversations.attach_one(user, log, after_seq, deadline)).await;
                Outcome::AttachedOne { id, log, result }
            }
            Ask::Heads { user, place } => {
                Outcome::Heads { result: Box::pin(conversations.heads(user, place, deadline)).await }
            }
            Ask::Sessions { id, identity } => {
                let sessions = Box::pin(self.accounts.sessions(identity.user, deadline)).await;
                Outcome::Reply { id, result: sessions.map(|list| Push::Sessions(listed(&list, &identity))) }
            }
            Ask::List { id, user, limit, after } => {
                let result = Box::pin(conversations.list(user, limit, after, deadline)).await.map(Push::Conversations);
                Outcome::Reply { id, result }
            }
            Ask::Members { id, user, log, limit, after } => {
                let result =
                    Box::pin(conversations.members(user, log, limit, after, deadline)).await.map(Push::Members);
                Outcome::Reply { id, result }
            }
            Ask::History { id, user, log, limit, place } => {
                let result =
                    Box::pin(conversations.history(user, log, place, limit, deadline)).await.map(Push::Messages);
                Outcome::Reply { id, result }
            }
            Ask::Posts { id, user, query } => {
                Outcome::Reply { id, result: Box::pin(self.posts.read(user, query, deadline)).await }
            }
            Ask::People { id, user, query } => {
                Outcome::Reply { id, result: Box::pin(self.graph.read(user, query, deadline)).await }
            }
            Ask::Feed { id, user, query } => {
                let page = Box::pin(self.feed.page(user, &query, deadline)).await;
                // Before the page is on its way, so that nothing of it is pushed after it.
                page.iter().for_each(|page| self.pushes.given(from, page));
                Outcome::Reply { id, result: page.map(Push::FeedPage) }
            }
        }
    }

    async fn connect(
        &self,
        credential: Credential,
        client_name: String,
        deadline: Deadline,
    ) -> Result<Welcome, Failure> {
        let identity = match credential {
            Credential::Token(token) => self.accounts.verify(&token)?,
            Credential::Verified(identity) => identity,
        };
        self.accounts.admit(&identity, &client_name, deadline).await?;
        let epoch = self.log.epoch();
        Ok(Welcome { identity, epoch })
    }
}

/// The reply to what is stored, from what the log says of it.
fn stored(done: impl FnOnce(Result<Push, Failure>) + Send + 'static) -> impl FnOnce(Result<Stored, Failure>) + Send {
    move |result| done(result.map(|stored| Push::Stored(stored.to_wire())))
}

fn listed(sessions: &[SessionInfo], own: &Identity) -> wire::Sessions {
    let sessions = sessions.iter().map(|info| wire::SessionInfo {
        session_id: info.session.to_wire(),
        client_name: info.client_name.clone(),
        created_at_ms: info.created_at_ms,
        last_used_at_ms: info.last_used_at_ms,
        current: info.session == own.session,
    });
    wire::Sessions { sessions: sessions.collect() }
}

/// The outcome of a call that was not started.
fn refused(ask: Ask) -> Outcome {
    let failure = Failure::retry_after(Code::Overloaded, RETRY_AFTER_MS);
    match ask {
        Ask::Connect { id, .. } => Outcome::Connected { id, result: Err(failure) },
        Ask::Refresh { id, .. } => Outcome::Refreshed { id, result: Err(failure) },
        Ask::Attach { id, .. } => Outcome::Attached { id, result: Err(failure) },
        Ask::AttachOne { id, log, .. } => Outcome::AttachedOne { id, log, result: Err(failure) },
        Ask::Heads { .. } => Outcome::Heads { result: Err(failure) },
        Ask::Sessions { id, .. }
        | Ask::List { id, .. }
        | Ask::Members { id, .. }
        | Ask::History { id, .. }
        | Ask::Posts { id, .. }
        | Ask::People { id, .. }
        | Ask::Feed { id, .. } => Outcome::Reply { id, result: Err(failure) },
    }
}
