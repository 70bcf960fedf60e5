//! The statements of the sources, each one bounded: functions of the schema, which carry the planner's settings.

mod plans;

use bowline_protocol::UserId;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::feed::candidate::{AFFINITY_POSTS, Candidate, FOLLOWEE_POSTS, Sources, TRENDING_POSTS};
use crate::storage::columns::{int, time_ms, whole};
use crate::storage::{Connection, Fault};

/// People whose posts are looked for, and how many posts are looked at for all of them.
const AUTHORS: usize = 500;
const AUTHORS_POSTS: usize = 5_000;
/// Posts of one author, of few authors and of many.
const APIECE: std::ops::RangeInclusive<usize> = 10..=50;
/// What people did last, and what a reader did last, that is looked at.
const DEEDS: i64 = 5_000;
const OWN_DEEDS: i64 = 1_000;
/// People with whom a reader engages, and posts of each.
const ENGAGED: i64 = 50;
const ENGAGED_POSTS: i64 = 20;

/// $1 reader, $2 how many.
const FOLLOWS: &str = "SELECT followee_id FROM feed_follows($1, $2)";
/// $1 authors, $2 posts of each, $3 how many.
const FOLLOWEES: &str = "SELECT *, 0::float8 AS weight FROM feed_followees($1, $2, $3)";
/// $1 deeds looked at, $2 how many.
const TRENDING: &str = "SELECT *, 0::float8 AS weight FROM feed_trending($1, $2)";
/// $1 reader, $2 deeds looked at, $3 authors, $4 posts of each, $5 how many.
const AFFINITY: &str = "SELECT * FROM feed_affinity($1, $2, $3, $4, $5)";
/// $1 reader, $2 how many.
const NEWEST: &str = "SELECT post FROM feed_newest($1, $2)";
const SECRET: &str = "SELECT secret FROM feed_secret";

/// Whom a reader follows and has not muted, those whom he began to follow last first.
pub(in crate::feed) async fn follows(
    connection: &Connection,
    reader: UserId,
    most: usize,
    deadline: Deadline,
) -> Result<Vec<UserId>, Fault> {
    let rows = connection.query(FOLLOWS, &for_reader(&reader.0, &int(most as u64)), deadline).await?;
    Ok(rows.iter().map(|row| row.try_get(0).map(UserId)).collect::<Result<_, _>>()?)
}

/// The newest posts of those whom the reader follows, at most [`FOLLOWEE_POSTS`].
pub(in crate::feed) async fn followees(
    connection: &Connection,
    follows: &[UserId],
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    let authors = &follows[..follows.len().min(AUTHORS)];
    if authors.is_empty() {
        return Ok(Vec::new());
    }
    let apiece = (AUTHORS_POSTS / authors.len()).clamp(*APIECE.start(), *APIECE.end());
    let rows = newest_of(connection, authors, apiece, deadline).await?;
    candidates(&rows, Sources { followee: true, ..Sources::default() })
}

/// The newest posts of each of these authors, in no order.
pub(in crate::feed) async fn newest_posts_of(
    connection: &Connection,
    authors: &[UserId],
    apiece: usize,
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    candidates(&newest_of(connection, authors, apiece, deadline).await?, Sources::default())
}

async fn newest_of(
    connection: &Connection,
    authors: &[UserId],
    apiece: usize,
    deadline: Deadline,
) -> Result<Vec<Row>, Fault> {
    let authors: Vec<Uuid> = authors.iter().map(|user| user.0).collect();
    let (apiece, most) = (int(apiece as u64), int(FOLLOWEE_POSTS as u64));
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&authors, Type::UUID_ARRAY), (&apiece, Type::INT8), (&most, Type::INT8)];
    connection.query(FOLLOWEES, &parameters, deadline).await
}

/// What was given most lately, at most [`TRENDING_POSTS`]. The same for all readers.
pub(in crate::feed) async fn trending(connection: &Connection, deadline: Deadline) -> Result<Vec<Candidate>, Fault> {
    let most = int(TRENDING_POSTS as u64);
    let rows = connection.query(TRENDING, &[(&DEEDS, Type::INT8), (&most, Type::INT8)], deadline).await?;
    candidates(&rows, Sources { trending: true, ..Sources::default() })
}

/// The newest posts of those with whom the reader engages most, at most [`AFFINITY_POSTS`].
pub(in crate::feed) async fn affinity(
    connection: &Connection,
    reader: UserId,
    deadline: Deadline,
) -> Result<Vec<Candidate>, Fault> {
    let most = int(AFFINITY_POSTS as u64);
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&reader.0, Type::UUID),
        (&OWN_DEEDS, Type::INT8),
        (&ENGAGED, Type::INT8),
        (&ENGAGED_POSTS, Type::INT8),
        (&most, Type::INT8),
    ];
    let rows = connection.query(AFFINITY, &parameters, deadline).await?;
    candidates(&rows, Sources { affinity: true, ..Sources::default() })
}

/// The newest posts that the reader may see, his own too.
pub(in crate::feed) async fn newest(
    connection: &Connection,
    reader: UserId,
    most: usize,
    deadline: Deadline,
) -> Result<Vec<Uuid>, Fault> {
    let rows = connection.query(NEWEST, &for_reader(&reader.0, &int(most as u64)), deadline).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// What all nodes sign cursors with.
pub(in crate::feed) async fn secret(connection: &Connection, deadline: Deadline) -> Result<Vec<u8>, Fault> {
    let rows = connection.query(SECRET, &[], deadline).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

fn for_reader<'a>(reader: &'a Uuid, most: &'a i64) -> [(&'a (dyn ToSql + Sync), Type); 2] {
    [(reader, Type::UUID), (most, Type::INT8)]
}

fn candidates(rows: &[Row], sources: Sources) -> Result<Vec<Candidate>, Fault> {
    let candidate = |row: &Row| {
        Ok(Candidate {
            post: row.try_get("post")?,
            author: UserId(row.try_get("author")?),
            created_at_ms: time_ms(row.try_get("created_at")?),
            likes: whole(row.try_get("likes")?),
            comments: whole(row.try_get("comments")?),
            shares: whole(row.try_get("shares")?),
            affinity_weight: row.try_get("weight")?,
            followed: false,
            sources,
        })
    };
    Ok(rows.iter().map(candidate).collect::<Result<_, tokio_postgres::Error>>()?)
}
