//! The statements of the three sources. Each reads a prefix of a sorting key and adds up there; what it sorts is the
//! reader's own candidates.

mod plans;

use bowline_protocol::UserId;
use clickhouse::query::Query;
use serde::Deserialize;
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::feed::candidate::{AFFINITY_POSTS, FOLLOWEE_POSTS, TRENDING_POSTS};
use crate::storage::clickhouse::{ClickHouse, Fault};

#[derive(clickhouse::Row, Deserialize)]
pub(super) struct Row {
    #[serde(with = "clickhouse::serde::uuid")]
    pub post: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub author: Uuid,
    pub created_at_ms: i64,
    pub likes: u64,
    pub comments: u64,
    pub shares: u64,
    pub affinity_weight: f64,
}

/// Of the posts that a source found. Sums are below 0 only until an undone like has met the like that it undoes.
const COLUMNS: &str = "SELECT post, author, toUnixTimestamp64Milli(post_at) AS created_at_ms,
       toUInt64(greatest(likes, 0)) AS likes, toUInt64(comments) AS comments, toUInt64(shares) AS shares,
       w AS affinity_weight";

/// What a post has been given, and that it was not deleted.
const POSTS: &str =
    "SELECT author, post_at, post, sum(p.likes) AS likes, sum(p.comments) AS comments, sum(p.shares) AS shares
    FROM posts_by_author AS p";
const LIVE: &str = "GROUP BY author, post_at, post HAVING sum(live) > 0";

/// The posts that were given most in the last day, the reader's own too. More than are wanted: some were deleted.
const MOST_GIVEN: &str = "SELECT most.item.1, most.item.2, most.item.3 FROM (
        SELECT arrayJoin(topKWeightedMerge(300, 2, 'counts')(top)) AS most
        FROM trending WHERE hour > now() - INTERVAL 25 HOUR)";

/// w of the authors with whom the reader has engaged within a month.
const ENGAGED: &str = "SELECT author, 0.1 * sum(views) + sum(likes) + 2 * sum(comments) + 3 * sum(shares) AS w
    FROM affinity WHERE reader = {reader:UUID} AND day > today() - 30 GROUP BY author";

pub(super) async fn followees(
    clickhouse: &ClickHouse,
    reader: UserId,
    follows: &[UserId],
    deadline: Deadline,
) -> Result<Vec<Row>, Fault> {
    let authors: Vec<String> = follows.iter().map(|user| user.0.to_string()).collect();
    let bind = |query| for_reader(query, reader).param("authors", authors);
    clickhouse.read(&followees_sql(), bind, deadline).await
}

pub(super) async fn trending(clickhouse: &ClickHouse, reader: UserId, deadline: Deadline) -> Result<Vec<Row>, Fault> {
    clickhouse.read(&trending_sql(), |query| for_reader(query, reader), deadline).await
}

pub(super) async fn affinity(clickhouse: &ClickHouse, reader: UserId, deadline: Deadline) -> Result<Vec<Row>, Fault> {
    clickhouse.read(&affinity_sql(), |query| for_reader(query, reader), deadline).await
}

pub(super) fn for_reader(query: Query, reader: UserId) -> Query {
    query.param("reader", reader.0.to_string())
}

pub(super) fn followees_sql() -> String {
    format!(
        "{COLUMNS}
         FROM (
             {POSTS} WHERE author IN {{authors:Array(UUID)}} AND post_at > now64(3) - INTERVAL 30 DAY
             {LIVE} ORDER BY post_at DESC, post DESC LIMIT 50 BY author LIMIT {FOLLOWEE_POSTS}
         ) AS posts
         LEFT JOIN ({ENGAGED}) AS engaged USING author"
    )
}

pub(super) fn trending_sql() -> String {
    format!(
        "{COLUMNS}
         FROM (
             {POSTS} WHERE (author, post_at, post) IN ({MOST_GIVEN}) AND author != {{reader:UUID}}
             {LIVE} ORDER BY likes + 2 * comments + 3 * shares DESC, post_at DESC LIMIT {TRENDING_POSTS}
         ) AS posts
         LEFT JOIN ({ENGAGED}) AS engaged USING author"
    )
}

pub(super) fn affinity_sql() -> String {
    format!(
        "WITH engaged AS ({ENGAGED} HAVING w > 0 ORDER BY w DESC, author LIMIT 100)
         {COLUMNS}
         FROM (
             {POSTS} WHERE author IN (SELECT author FROM engaged) AND post_at > now64(3) - INTERVAL 30 DAY
             {LIVE} ORDER BY post_at DESC, post DESC LIMIT 20 BY author LIMIT {AFFINITY_POSTS}
         ) AS posts
         JOIN engaged USING author"
    )
}
