//! Posts as everybody sees them, and what a reader has to do with each, kept in this process for a moment.
//!
//! What is kept is used while it is fresh and nobody is known to have changed it: the commits of this node and the change feed
//! mark who did. A read that fails is answered from what is kept, however old, if nothing is known to have changed it.

mod kept;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Failure, LogId, PostId, Seq, UserId};
use uuid::Uuid;

use super::Config;
use super::store::{self, Regard, Sighted};
use crate::deadline::Deadline;
use crate::marks::Marks;
use crate::storage::{Connection, Pool};
use crate::telemetry::Metrics;
use kept::{Counts, Kept, Reading};

/// Counts are no older than this, where they changed on another node.
const POST_FRESH: Duration = Duration::from_secs(1);
/// A change that another node stored is known within 2 s; this bounds what is read anew without one.
const REGARD_FRESH: Duration = Duration::from_secs(10);
/// What an entry costs besides its strings.
const POST_BYTES: usize = 512;
const REGARD_BYTES: u32 = 192;
/// Of the memory for both, the part of regards.
const REGARDS_SHARE: u64 = 4;

/// A reader and a post.
type Pair = (Uuid, Uuid);

#[derive(Clone)]
pub(super) struct Near {
    posts: Kept<Uuid, Arc<Sighted>>,
    regards: Kept<Pair, Regard>,
    marks: Arc<Marks>,
}

/// A post for one reader, both as they were a moment ago.
pub(super) struct Seen {
    pub(super) sighted: Arc<Sighted>,
    /// None without a reader.
    pub(super) regard: Option<Regard>,
}

impl Near {
    pub(super) fn start(pool: &Pool, config: &Config, metrics: &Metrics) -> Self {
        let counts = Counts::new(metrics);
        let for_regards = config.memory_bytes / REGARDS_SHARE;
        let for_posts = config.memory_bytes - for_regards;
        let weight = |sighted: &Arc<Sighted>| {
            let text = sighted.post.as_ref().map_or(0, prost::Message::encoded_len);
            u32::try_from(POST_BYTES + text).unwrap_or(u32::MAX)
        };
        Self {
            posts: Kept::start(pool, POST_FRESH, (for_posts, weight), counts.of("posts"), read_posts),
            regards: Kept::start(
                pool,
                REGARD_FRESH,
                (for_regards, |_| REGARD_BYTES),
                counts.of("regards"),
                read_regards,
            ),
            marks: Arc::default(),
        }
    }

    /// For each of these posts, in order, what there is of it; up to the first one of which nothing is known in time.
    pub(super) async fn look(
        &self,
        reader: Option<UserId>,
        ids: &[Uuid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Seen>>, Failure> {
        let pairs: Vec<Pair> = reader.map_or_else(Vec::new, |reader| ids.iter().map(|id| (reader.0, *id)).collect());
        let sighted = |id: &Uuid, sighted: &Arc<Sighted>, since| self.marks.unchanged([*id, sighted.author], since);
        let regarded = |(reader, post): &Pair, regard: &Regard, since: Instant| {
            self.marks.unchanged([*reader, regard.author, together(*reader, *post)], since)
        };
        let (posts, regards) =
            tokio::join!(self.posts.get(ids, sighted, deadline), self.regards.get(&pairs, regarded, deadline));
        let mut seen = Vec::with_capacity(ids.len());
        for id in ids {
            let sighted = match posts.of(id) {
                Ok(sighted) => sighted.cloned(),
                Err(failure) => return prefix(seen, failure),
            };
            let regard = match reader.map(|reader| regards.of(&(reader.0, *id))).transpose() {
                Ok(regard) => regard.flatten().copied(),
                Err(failure) => return prefix(seen, failure),
            };
            // A post without a regard came into being between the two reads.
            let whole = sighted.filter(|_| reader.is_none() || regard.is_some());
            seen.push(whole.map(|sighted| Seen { sighted, regard }));
        }
        Ok(seen)
    }

    /// What this node stored in a log. Never waits.
    pub(super) fn committed(&self, log: LogId, entries: &[wire::Entry]) {
        for entry in entries {
            match &entry.content {
                Some(
                    Content::PostDeleted(_)
                    | Content::Blocked(_)
                    | Content::Unblocked(_)
                    | Content::UserMuted(_)
                    | Content::UserUnmuted(_)
                    | Content::ProfileChanged(_),
                ) => self.marks.mark(log.0),
                Some(Content::Liked(about) | Content::Unliked(about) | Content::Shared(about)) => {
                    self.engaged(log, &about.post_id);
                }
                Some(Content::Commented(commented)) => self.engaged(log, &commented.post_id),
                _ => {}
            }
        }
    }

    fn engaged(&self, log: LogId, post: &[u8]) {
        if let Some(PostId(post)) = PostId::from_wire(post) {
            self.marks.mark(post);
            self.marks.mark(together(log.0, post));
        }
    }

    /// Logs in which something was stored, here or elsewhere. Never waits.
    pub(super) fn changed(&self, heads: &[(LogId, Seq)]) {
        heads.iter().for_each(|(log, _)| self.marks.mark(log.0));
    }
}

fn read_posts<'a>(connection: &'a Connection, ids: &'a [Uuid], deadline: Deadline) -> Reading<'a, Uuid, Arc<Sighted>> {
    Box::pin(async move {
        let posts = store::posts(connection, ids, deadline).await.map_err(store::failed("posts"))?;
        Ok(posts.into_iter().map(|(id, sighted)| (id, Arc::new(sighted))).collect())
    })
}

fn read_regards<'a>(connection: &'a Connection, pairs: &'a [Pair], deadline: Deadline) -> Reading<'a, Pair, Regard> {
    Box::pin(async move { store::regards(connection, pairs, deadline).await.map_err(store::failed("regards")) })
}

fn prefix(seen: Vec<Option<Seen>>, failure: &Failure) -> Result<Vec<Option<Seen>>, Failure> {
    if seen.is_empty() { Err(failure.clone()) } else { Ok(seen) }
}

/// What a reader thinks of a post, as something that changes.
fn together(reader: Uuid, post: Uuid) -> Uuid {
    Uuid::from_u128(reader.as_u128() ^ post.as_u128())
}
