//! The three sources of candidates that ClickHouse serves. Each ends on its own by the deadline given: the others do not wait
//! for it, and it never gives a part of its answer.

mod store;

use std::collections::HashMap;

use bowline_protocol::UserId;
use uuid::Uuid;

use super::candidate::{AFFINITY_POSTS, Candidate, FOLLOWEE_POSTS, FOLLOWEES, Sources};
use crate::deadline::Deadline;
use crate::storage::clickhouse::{ClickHouse, Fault};

/// Posts of one author among those of followees, and among those of authors with whom the reader engages.
const OF_FOLLOWEE: usize = 50;
const OF_ENGAGED: usize = 20;

/// The newest posts of the last month by those whom the reader follows, at most [`FOLLOWEE_POSTS`], and 50 of each.
pub async fn followees(
    clickhouse: &ClickHouse,
    follows: &[UserId],
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    if follows.is_empty() {
        return Ok(Vec::new());
    }
    let authors = follows.iter().take(FOLLOWEES).map(|user| user.0);
    let posts = store::newest_of(clickhouse, authors, OF_FOLLOWEE, FOLLOWEE_POSTS, deadline).await?;
    let sources = Sources { followee: true, ..Sources::default() };
    Ok(posts.into_iter().map(|post| Candidate { followed: true, ..candidate(post, sources) }).collect())
}

/// What was given most in the last day (found by a sketch), at most [`TRENDING_POSTS`](super::candidate::TRENDING_POSTS). The same
/// for all readers.
pub async fn trending(clickhouse: &ClickHouse, deadline: Deadline) -> Result<Vec<Candidate>, Fault> {
    let sources = Sources { trending: true, ..Sources::default() };
    let posts = store::trending(clickhouse, deadline).await?;
    Ok(posts.into_iter().map(|post| candidate(post, sources)).collect())
}

/// The newest posts of the last month by those with whom the reader engages most, at most [`AFFINITY_POSTS`], and 20 of each.
pub async fn affinity(clickhouse: &ClickHouse, reader: UserId, deadline: Deadline) -> Result<Vec<Candidate>, Fault> {
    let engaged = store::engaged(clickhouse, reader, deadline).await?;
    if engaged.is_empty() {
        return Ok(Vec::new());
    }
    let weights: HashMap<Uuid, f64> = engaged.iter().map(|engaged| (engaged.author, engaged.weight)).collect();
    let authors = engaged.iter().map(|engaged| engaged.author);
    let posts = store::newest_of(clickhouse, authors, OF_ENGAGED, AFFINITY_POSTS, deadline).await?;
    let sources = Sources { affinity: true, ..Sources::default() };
    let weigh = |post: store::Post| {
        let affinity_weight = weights.get(&post.author).copied().unwrap_or_default();
        Candidate { affinity_weight, ..candidate(post, sources) }
    };
    Ok(posts.into_iter().map(weigh).collect())
}

fn candidate(post: store::Post, sources: Sources) -> Candidate {
    Candidate {
        post: post.post,
        author: UserId(post.author),
        created_at_ms: post.created_at_ms,
        likes: post.likes,
        comments: post.comments,
        shares: post.shares,
        affinity_weight: 0.0,
        followed: false,
        sources,
    }
}
