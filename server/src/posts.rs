//! Posts: writing and deleting them, what people think of them, and reading them, one by one and by author.
//!
//! May use `log` (every change is an entry of the actor's user log) and `storage` (through `store`, the only place here with
//! SQL). What is allowed is decided by the log's `append`, not here.
//!
//! What always holds:
//! - nobody is given a post of one who blocked him or whom he blocked, nor a comment of such a one;
//! - a list is read by the place of its last item, never by counting;
//! - counts are sums of what is committed.

mod store;

use bowline_protocol::command::{Page, PostChange, PostQuery};
use bowline_protocol::wire::{self, SenderKind, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Code, CommentId, Failure, PostId, UserId};

use crate::deadline::Deadline;
use crate::log::{Action, Command, Log, Social, Stored};
use crate::storage::Pool;
use store::Sight;

/// The operations on posts. Cheap to clone.
#[derive(Clone)]
pub struct Posts {
    pool: Pool,
    log: Log,
}

impl Posts {
    pub fn new(pool: Pool, log: Log) -> Self {
        Self { pool, log }
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
        let connection = self.pool.get(deadline).await?;
        // Both at once on the one connection.
        let shown = tokio::try_join!(
            store::post(&connection, post, deadline),
            store::regard(&connection, reader, post, deadline),
        );
        let (post, regard) = shown.map_err(store::failed("post"))?;
        let post = post.filter(|_| !regard.apart).ok_or_else(|| refused(Code::NotFound))?;
        let post = post.ok_or_else(gone)?;
        Ok(wire::Post { liked: regard.liked, ..post })
    }

    /// Those of these posts that this reader may find in his feed: not deleted, nor of one whom he muted, or with whom he has
    /// nothing to do. Without a reader, those that are not deleted. In any order.
    pub async fn in_feed(
        &self,
        reader: Option<UserId>,
        posts: &[PostId],
        deadline: Deadline,
    ) -> Result<Vec<wire::Post>, Failure> {
        if posts.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.pool.get(deadline).await?;
        store::in_feed(&connection, reader, posts, deadline).await.map_err(store::failed("posts of a feed"))
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
