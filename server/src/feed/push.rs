//! New posts, on their way to the sessions of this node that subscribed to the feed.
//!
//! An author with a million followers costs one event: each node looks at its own subscribers alone. What a subscriber has
//! not yet been told is bounded, and so is how often he is told; what is beyond becomes "there is more". Nothing here is
//! the truth: what is lost is in the next page.

mod index;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{LogId, PostId, Seq, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::candidate::Sources;
use super::compose::{now_ms, sources};
use super::{Feed, postgres};
use crate::deadline::Deadline;
use crate::wire::Address;
use index::{Due, Index};

/// Whom one subscriber hears of: those whom he began to follow last.
const FOLLOWEES: usize = 500;
/// Between two pushes to one session.
const EVERY: Duration = Duration::from_secs(1);
/// Posts that come together go together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often those are looked at who were told of something less than [`EVERY`] ago.
const LOOK: Duration = Duration::from_millis(50);
/// The same where the database did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// For one read of what is pushed, and of whom a subscriber follows.
const READ_TIME: Duration = Duration::from_secs(2);
/// Posts read at once.
const POSTS: usize = 100;
/// Of what another node stored, posts of one author that are looked at, and how old one may be.
const APIECE: usize = 10;
const RECENT_MS: i64 = 10_000;

/// The subscriptions of a node. Cheap to clone.
#[derive(Clone)]
pub struct Pushes {
    inner: Arc<Inner>,
}

struct Inner {
    feed: Feed,
    /// Held for the length of one call of it.
    index: Mutex<Index>,
    /// There may be something to push, or to read.
    news: Notify,
}

/// A session hears of new posts until this is dropped.
#[must_use = "a subscription that is dropped is over"]
pub struct Subscription {
    pushes: Pushes,
    address: Address,
}

impl Pushes {
    pub fn new(feed: Feed) -> Self {
        Self { inner: Arc::new(Inner { feed, index: Mutex::default(), news: Notify::new() }) }
    }

    /// From soon after this on, what those write whom this user follows is pushed to the session at this address.
    pub fn subscribe(&self, user: UserId, address: Address) -> Subscription {
        self.index(|index| index.add(address, user));
        self.inner.news.notify_one();
        Subscription { pushes: self.clone(), address }
    }

    /// What this node stored in a log. Never waits.
    pub fn committed(&self, log: LogId, entries: &[wire::Entry]) {
        let user = UserId(log.0);
        let news = self.index(|index| {
            if index.is_empty() {
                return false;
            }
            let mut news = false;
            for entry in entries {
                news |= match &entry.content {
                    Some(Content::Posted(posted)) => {
                        PostId::from_wire(&posted.post_id).is_some_and(|post| index.posted(user, post.0))
                    }
                    Some(
                        Content::Followed(_) | Content::Unfollowed(_) | Content::UserMuted(_) | Content::UserUnmuted(_),
                    ) => index.follows_changed(user),
                    _ => false,
                };
                index.reached(user, entry.seq);
            }
            news
        });
        if news {
            self.inner.news.notify_one();
        }
    }

    /// Logs that have entries which this node may not have heard of. Never waits.
    pub fn changed(&self, heads: &[(LogId, Seq)]) {
        let news = self.index(|index| {
            let news = |(log, seq): &(LogId, Seq)| index.head(UserId(log.0), *seq);
            heads.iter().map(news).fold(false, |any, news| any | news)
        });
        if news {
            self.inner.news.notify_one();
        }
    }

    /// What this session is given with a page is not pushed to it any more.
    pub fn given(&self, address: Address, page: &wire::FeedPage) {
        let posts = page.items.iter().filter_map(|item| PostId::from_wire(&item.post.as_ref()?.post_id));
        self.index(|index| index.given(address, posts.map(|post| post.0)));
    }

    /// Reads what is to be known and hands updates to `deliver`, until stopped.
    pub async fn run(self, deliver: impl Fn(Address, wire::FeedUpdate) + Send, stop: CancellationToken) {
        while stop.run_until_cancelled(self.inner.news.notified()).await.is_some() {
            tokio::time::sleep(TOGETHER).await;
            while !stop.is_cancelled() {
                let read = self.read_follows().await & self.read_authors().await;
                let due = self.index(|index| index.due(Instant::now(), EVERY));
                self.push(due, &deliver).await;
                if !self.index(|index| index.waits()) {
                    break;
                }
                tokio::time::sleep(if read { LOOK } else { AGAIN }).await;
            }
        }
    }

    /// Whom those follow who subscribed, or followed somebody, since the last time. Whether it could be read of all; those of
    /// whom it could not are read the next time.
    async fn read_follows(&self) -> bool {
        let users = self.index(Index::take_unread);
        for (read, user) in users.iter().enumerate() {
            let deadline = Deadline::after(READ_TIME);
            let follows = async {
                let connection = self.inner.feed.pool().get(deadline).await.ok()?;
                postgres::follows(&connection, *user, FOLLOWEES, deadline).await.ok()
            };
            let Some(follows) = follows.await else {
                self.index(|index| users[read..].iter().for_each(|user| _ = index.follows_changed(*user)));
                return false;
            };
            self.index(|index| index.set_follows(*user, &follows));
        }
        true
    }

    /// What authors wrote on other nodes. Whether it could be read; if not, it is the next time.
    async fn read_authors(&self) -> bool {
        let authors = self.index(Index::take_heard);
        for (chunk, asked) in authors.chunks(POSTS).enumerate() {
            let deadline = Deadline::after(READ_TIME);
            let found = async {
                let connection = self.inner.feed.pool().get(deadline).await.ok()?;
                postgres::newest_posts_of(&connection, asked, APIECE, deadline).await.ok()
            };
            let Some(mut found) = found.await else {
                self.index(|index| index.hear_again(&authors[chunk * POSTS..]));
                return false;
            };
            found.sort_by_key(|candidate| candidate.created_at_ms);
            let newest = found.last().map_or(0, |candidate| candidate.created_at_ms).max(now_ms());
            self.index(|index| {
                let recent = found.iter().filter(|candidate| candidate.created_at_ms >= newest - RECENT_MS);
                recent.for_each(|candidate| _ = index.posted(candidate.author, candidate.post));
            });
        }
        true
    }

    async fn push(&self, due: Vec<Due>, deliver: &impl Fn(Address, wire::FeedUpdate)) {
        let mut wanted: Vec<PostId> = due.iter().flat_map(|due| due.posts.iter().copied().map(PostId)).collect();
        wanted.sort_unstable_by_key(|post| post.0);
        wanted.dedup();
        let mut posts: HashMap<Uuid, wire::Post> = HashMap::new();
        for ids in wanted.chunks(POSTS) {
            let read = self.inner.feed.posts().in_feed(None, ids, Deadline::after(READ_TIME)).await.unwrap_or_default();
            posts.extend(ids.iter().zip(read).filter_map(|(id, post)| Some((id.0, post?))));
        }
        for Due { address, user, posts: wanted, more } in due {
            let place = self.inner.feed.places(user).await;
            let item = |post: &wire::Post| wire::FeedItem {
                place: place(post.created_at_ms),
                post: Some(post.clone()),
                reasons: sources(Sources { followee: true, ..Sources::default() }),
            };
            let items: Vec<_> = wanted.iter().filter_map(|id| Some((*id, item(posts.get(id)?)))).collect();
            // Under the lock, so that a page which has one of them is on its way after this, or is known.
            self.index(|index| {
                let untold = items.into_iter().filter(|(id, _)| !index.was_given(address, *id));
                let items: Vec<_> = untold.map(|(_, item)| item).collect();
                if more || !items.is_empty() {
                    deliver(address, wire::FeedUpdate { items, more });
                }
            });
        }
    }

    fn index<T>(&self, act: impl FnOnce(&mut Index) -> T) -> T {
        act(&mut self.inner.index.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pushes.index(|index| index.remove(self.address));
    }
}
