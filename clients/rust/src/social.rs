//! Posts and people.

use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Reply;
use bowline_protocol::{ClientId, CommentId, PostId, UserId, wire};

use crate::{Client, Error};

/// A post to be written: words, or something attached, or both.
#[derive(Clone, Debug, Default)]
pub struct NewPost {
    pub body: String,
    pub attachments: Vec<wire::Attachment>,
    /// A JSON object.
    pub attrs: Option<String>,
}

impl From<&str> for NewPost {
    fn from(body: &str) -> Self {
        Self { body: body.to_owned(), ..Self::default() }
    }
}

/// What one sets of one's own profile; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    pub display_name: Option<String>,
    pub avatar_url: Option<String>,
    pub bio: Option<String>,
}

/// Every change is tried again under the same client_id until its deadline, over any number of connections: it is stored
/// once.
impl Client {
    pub async fn post(&self, post: impl Into<NewPost>) -> Result<PostId, Error> {
        let NewPost { body, attachments, attrs } = post.into();
        let client_id = ClientId::new().to_wire();
        let made = self.make(Ask::PostCreate(wire::PostCreate { client_id, body, attachments, attrs })).await?;
        PostId::from_wire(&made).ok_or(Error::Unexpected)
    }

    pub async fn delete_post(&self, post: PostId) -> Result<wire::Stored, Error> {
        self.store(Ask::PostDelete(wire::PostDelete { client_id: ClientId::new().to_wire(), post_id: post.to_wire() }))
            .await
    }

    pub async fn like(&self, post: PostId) -> Result<wire::Stored, Error> {
        self.store(Ask::PostLike(like(post))).await
    }

    pub async fn unlike(&self, post: PostId) -> Result<wire::Stored, Error> {
        self.store(Ask::PostUnlike(like(post))).await
    }

    pub async fn share(&self, post: PostId) -> Result<wire::Stored, Error> {
        self.store(Ask::PostShare(wire::PostShare { client_id: ClientId::new().to_wire(), post_id: post.to_wire() }))
            .await
    }

    pub async fn comment(&self, post: PostId, body: &str) -> Result<CommentId, Error> {
        let (client_id, post_id) = (ClientId::new().to_wire(), post.to_wire());
        let made = self.make(Ask::CommentCreate(wire::CommentCreate { client_id, post_id, body: body.into() })).await?;
        CommentId::from_wire(&made).ok_or(Error::Unexpected)
    }

    pub async fn get_post(&self, post: PostId) -> Result<wire::Post, Error> {
        match self.ask(Ask::PostGet(wire::PostGet { post_id: post.to_wire() })).await? {
            Reply::Post(post) => Ok(post),
            _ => Err(Error::Unexpected),
        }
    }

    /// Someone's posts, newest first, after the last one of the page before.
    pub async fn posts_by(&self, user: UserId, limit: u64, after: Option<&wire::Post>) -> Result<wire::Posts, Error> {
        let list = wire::PostList {
            user_id: user.to_wire(),
            limit,
            after_at_ms: after.map(|post| post.created_at_ms),
            after_post_id: after.map(|post| post.post_id.clone()),
        };
        match self.ask(Ask::PostList(list)).await? {
            Reply::Posts(posts) => Ok(posts),
            _ => Err(Error::Unexpected),
        }
    }

    /// What was said under a post, newest first, after the last one of the page before.
    pub async fn comments(
        &self,
        post: PostId,
        limit: u64,
        after: Option<&wire::Comment>,
    ) -> Result<wire::Comments, Error> {
        let list = wire::CommentList {
            post_id: post.to_wire(),
            limit,
            after_at_ms: after.map(|comment| comment.created_at_ms),
            after_comment_id: after.map(|comment| comment.comment_id.clone()),
        };
        match self.ask(Ask::CommentList(list)).await? {
            Reply::Comments(comments) => Ok(comments),
            _ => Err(Error::Unexpected),
        }
    }

    pub async fn follow(&self, user: UserId) -> Result<wire::Stored, Error> {
        self.store(Ask::Follow(about(user))).await
    }

    pub async fn unfollow(&self, user: UserId) -> Result<wire::Stored, Error> {
        self.store(Ask::Unfollow(about(user))).await
    }

    /// Ends what the two follow of each other, and what they may say to each other.
    pub async fn block(&self, user: UserId) -> Result<wire::Stored, Error> {
        self.store(Ask::Block(about(user))).await
    }

    pub async fn unblock(&self, user: UserId) -> Result<wire::Stored, Error> {
        self.store(Ask::Unblock(about(user))).await
    }

    /// Keeps someone's posts out of this user's feed, or lets them in again.
    pub async fn mute_user(&self, user: UserId, muted: bool) -> Result<wire::Stored, Error> {
        let (client_id, user_id) = (ClientId::new().to_wire(), user.to_wire());
        self.store(Ask::UserMute(wire::UserMute { client_id, user_id, muted })).await
    }

    pub async fn set_profile(&self, change: ProfileChange) -> Result<wire::Stored, Error> {
        let ProfileChange { display_name, avatar_url, bio } = change;
        let client_id = ClientId::new().to_wire();
        self.store(Ask::ProfileSet(wire::ProfileSet { client_id, display_name, avatar_url, bio })).await
    }

    pub async fn profile(&self, user: UserId) -> Result<wire::Profile, Error> {
        match self.ask(Ask::ProfileGet(wire::ProfileGet { user_id: user.to_wire() })).await? {
            Reply::Profile(profile) => Ok(profile),
            _ => Err(Error::Unexpected),
        }
    }

    /// Followers or followees of someone, or whom this user blocks or mutes; the newest first, after the last one of the
    /// page before.
    pub async fn people(
        &self,
        kind: wire::PeopleKind,
        of: UserId,
        limit: u64,
        after: Option<&wire::Listed>,
    ) -> Result<wire::People, Error> {
        let after_user_id = after.and_then(|listed| listed.person.as_ref()).map(|person| person.user_id.clone());
        let after_at_ms = after.map(|listed| listed.since_ms);
        let user_id = of.to_wire();
        let list = wire::PeopleList { kind: kind.into(), user_id, limit, after_at_ms, after_user_id };
        match self.ask(Ask::PeopleList(list)).await? {
            Reply::People(people) => Ok(people),
            _ => Err(Error::Unexpected),
        }
    }

    /// A page of this user's feed; from the beginning, or behind the `next` of the page before.
    pub async fn feed(&self, limit: u64, cursor: Option<String>) -> Result<wire::FeedPage, Error> {
        match self.ask(Ask::FeedPage(wire::FeedRead { cursor, limit })).await? {
            Reply::FeedPage(page) => Ok(page),
            _ => Err(Error::Unexpected),
        }
    }

    /// New posts of those whom this user follows come as [`Event::Feed`](crate::Event::Feed), as long as this connection
    /// lasts: to be said again after each [`Event::Connected`](crate::Event::Connected).
    pub async fn watch_feed(&self, watched: bool) -> Result<(), Error> {
        let ask = match watched {
            true => Ask::FeedSubscribe(wire::FeedSubscribe {}),
            false => Ask::FeedUnsubscribe(wire::FeedUnsubscribe {}),
        };
        match self.ask(ask).await? {
            Reply::Done(_) => Ok(()),
            _ => Err(Error::Unexpected),
        }
    }

    async fn make(&self, kind: Ask) -> Result<Vec<u8>, Error> {
        self.store(kind).await?.made_id.ok_or(Error::Unexpected)
    }
}

fn like(post: PostId) -> wire::PostLike {
    wire::PostLike { client_id: ClientId::new().to_wire(), post_id: post.to_wire() }
}

fn about(user: UserId) -> wire::UserChange {
    wire::UserChange { client_id: ClientId::new().to_wire(), user_id: user.to_wire() }
}
