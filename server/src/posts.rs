//! Posts: writing and deleting them, what people think of them, and reading them, one by one and by author.
//!
//! May use `log` (every change is an entry of the actor's user log) and `storage` (through `store`, the only place here with
//! SQL). What is allowed is decided by the log's `append`, not here.
//!
//! What always holds:
//! - nobody is given a post of one who blocked him or whom he blocked, nor a comment of such a one;
//! - a list is read by the place of its last item, never by counting;
//! - counts are sums of what is committed;
//! - what this node stored is seen at once by whoever asks it, and what another one stored within 2 s.

mod config;
mod near;
mod store;

use bowline_protocol::command::{Page, PostChange, PostQuery};
use bowline_protocol::wire::{self, SenderKind, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Code, CommentId, Failure, LogId, PostId, Seq, UserId};

use crate::deadline::Deadline;
use crate::log::{Action, Command, Log, Social, Stored};
use crate::storage::Pool;
use crate::telemetry::Metrics;
pub use config::Config;
use near::{Near, Seen};
use store::Sight;

/// The operations on posts. Cheap to clone.
#[derive(Clone)]
pub struct Posts {
    pool: Pool,
    log: Log,
    near: Near,
}

impl Posts {
    pub fn start(pool: Pool, log: Log, config: &Config, metrics: &Metrics) -> Self {
        Self { near: Near::start(&pool, config, metrics), pool, log }
    }

    /// What this node stored in a log. Never waits.
    pub fn committed(&self, log: LogId, entries: &[wire::Entry]) {
        self.near.committed(log, entries);
    }

    /// Logs in which something was stored, here or elsewhere. Never waits.
    pub fn changed(&self, heads: &[(LogId, Seq)]) {
        self.near.changed(heads);
    }

    /// A durable change, under an id of the client's. Never waits; `done` is called exactly once. Changes of one user are
    /// stored in the order of these calls.
    pub fn change(
        &self,
        user: UserId,
        client_id: ClientId,
        change: PostChange,
        deadline: Deadline,
        done: impl FnOnce(Result<Stored, Failure>) + Send + 'static,
    ) {
        let action = Action::Social(social(change));
        let command = Command { log: user.log(), sender: user, sender_kind: SenderKind::User, client_id, action };
        self.log.append(command, deadline, Box::new(done));
    }

    /// What a reader asks for, as the frame that answers it.
    pub async fn read(&self, reader: UserId, query: PostQuery, deadline: Deadline) -> Result<Push, Failure> {
        match query {
            PostQuery::Post(post) => self.get(reader, post, deadline).await.map(Push::Post),
            PostQuery::By { author, page } => self.by(reader, author, page, deadline).await.map(Push::Posts),
            PostQuery::Comments { post, page } => self.comments(reader, post, page, deadline).await.map(Push::Comments),
        }
    }

    /// One post, as this reader sees it.
    ///
    /// # Errors
    /// `not_found`, also where one of the two has blocked the other; `target_gone` when it was deleted.
    pub async fn get(&self, reader: UserId, post: PostId, deadline: Deadline) -> Result<wire::Post, Failure> {
        let seen = self.near.look(Some(reader), &[post.0], deadline).await?.pop().flatten();
        let seen = seen.filter(|seen| !seen.regard.is_some_and(|regard| regard.apart));
        seen.ok_or_else(|| refused(Code::NotFound))?.shown().ok_or_else(gone)
    }

    /// For each of these posts, in order, what this reader may find of it in his feed: nothing where it was deleted, or is of
    /// one whom he muted or with whom he has nothing to do. Without a reader, nothing where it was deleted. It ends before the
    /// first one of which nothing is known by the deadline.
    ///
    /// # Errors
    /// Where that is the first one.
    pub async fn in_feed(
        &self,
        reader: Option<UserId>,
        posts: &[PostId],
        deadline: Deadline,
    ) -> Result<Vec<Option<wire::Post>>, Failure> {
        let ids: Vec<_> = posts.iter().map(|post| post.0).collect();
        let seen = self.near.look(reader, &ids, deadline).await?;
        let wanted = |seen: &Seen| !seen.regard.is_some_and(|regard| regard.apart || regard.muted);
        Ok(seen.into_iter().map(|seen| seen.filter(wanted)?.shown()).collect())
    }

    /// An author's posts, newest first.
    pub async fn by(
        &self,
        reader: UserId,
        author: UserId,
        page: Page<PostId>,
        deadline: Deadline,
    ) -> Result<wire::Posts, Failure> {
        let connection = self.pool.get(deadline).await?;
        // One more than is shown tells whether there is a next page.
        let asked = Page { limit: page.limit + 1, ..page };
        let posts = store::posts_by(&connection, reader, author, asked, deadline).await;
        let posts = posts.map_err(store::failed("posts by"))?;
        let mut items =
            posts.ok_or_else(|| Failure { field: Some("user_id".to_owned()), ..Failure::new(Code::NotFound) })?;
        let more = items.len() as u64 > page.limit;
        items.truncate(page.limit as usize);
        Ok(wire::Posts { items, more })
    }

    /// What was said under a post, newest first.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn comments(
        &self,
        reader: UserId,
        post: PostId,
        page: Page<CommentId>,
        deadline: Deadline,
    ) -> Result<wire::Comments, Failure> {
        let connection = self.pool.get(deadline).await?;
        let asked = Page { limit: page.limit + 1, ..page };
        let found = store::comments(&connection, reader, post, asked, deadline).await;
        let mut items = match found.map_err(store::failed("comments"))? {
            Sight::Seen(items) => items,
            Sight::Gone => return Err(gone()),
            Sight::Nothing => return Err(refused(Code::NotFound)),
        };
        let more = items.len() as u64 > page.limit;
        items.truncate(page.limit as usize);
        Ok(wire::Comments { items, more })
    }
}

impl Seen {
    /// Nothing when it was deleted.
    fn shown(&self) -> Option<wire::Post> {
        let liked = self.regard.is_some_and(|regard| regard.liked);
        Some(wire::Post { liked, ..self.sighted.post.clone()? })
    }
}

fn social(change: PostChange) -> Social {
    match change {
        PostChange::Create(draft) => Social::Post { post: PostId::new(), draft },
        PostChange::Delete(post) => Social::DeletePost(post),
        PostChange::Like(post) => Social::Like(post),
        PostChange::Unlike(post) => Social::Unlike(post),
        PostChange::Share(post) => Social::Share(post),
        PostChange::Comment { post, body } => Social::Comment { comment: CommentId::new(), post, body },
    }
}

fn refused(code: Code) -> Failure {
    Failure { field: Some("post_id".to_owned()), ..Failure::new(code) }
}

fn gone() -> Failure {
    Failure { message: Some("the post was deleted".to_owned()), ..refused(Code::TargetGone) }
}
