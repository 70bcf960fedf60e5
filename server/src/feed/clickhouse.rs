//! The three sources of candidates that ClickHouse serves. Each is one read, and ends on its own by the deadline given: the
//! others do not wait for it, and it never gives a part of its answer.

mod store;

use std::collections::HashSet;

use bowline_protocol::UserId;
use uuid::Uuid;

use super::candidate::{Candidate, FOLLOWEES, Reader, Sources};
use crate::deadline::Deadline;
use crate::storage::clickhouse::{ClickHouse, Fault};

/// The newest posts of those whom the reader follows, at most [`FOLLOWEE_POSTS`](super::candidate::FOLLOWEE_POSTS), and 50 of each.
pub async fn followees(
    clickhouse: &ClickHouse,
    reader: Reader<'_>,
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    if reader.follows.is_empty() {
        return Ok(Vec::new());
    }
    let rows =
        store::followees(clickhouse, reader.id, &reader.follows[..reader.follows.len().min(FOLLOWEES)], deadline)
            .await?;
    Ok(candidates(rows, reader, Sources { followee: true, ..Sources::default() }))
}

/// What others were given most for in the last day (found by a sketch), at most [`TRENDING_POSTS`](super::candidate::TRENDING_POSTS).
pub async fn trending(
    clickhouse: &ClickHouse,
    reader: Reader<'_>,
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    let rows = store::trending(clickhouse, reader.id, deadline).await?;
    Ok(candidates(rows, reader, Sources { trending: true, ..Sources::default() }))
}

/// The newest posts of those with whom the reader engages most, at most [`AFFINITY_POSTS`](super::candidate::AFFINITY_POSTS), and 20 of each.
pub async fn affinity(
    clickhouse: &ClickHouse,
    reader: Reader<'_>,
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    let rows = store::affinity(clickhouse, reader.id, deadline).await?;
    Ok(candidates(rows, reader, Sources { affinity: true, ..Sources::default() }))
}

fn candidates(rows: Vec<store::Row>, reader: Reader<'_>, sources: Sources) -> Vec<Candidate> {
    let follows: HashSet<Uuid> = reader.follows.iter().map(|user| user.0).collect();
    let candidate = |row: store::Row| Candidate {
        post: row.post,
        author: UserId(row.author),
        created_at_ms: row.created_at_ms,
        likes: row.likes,
        comments: row.comments,
        shares: row.shares,
        affinity_weight: row.affinity_weight,
        followed: follows.contains(&row.author),
        sources,
    };
    rows.into_iter().map(candidate).collect()
}
