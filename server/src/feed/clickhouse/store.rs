//! The statements of the three sources. Each reads a prefix of a sorting key and adds up there; what it sorts is what it adds up.
//!
//! None joins another: a statement of ClickHouse costs milliseconds before it reads anything, and each join and subquery as much
//! again, so what one of them found is joined here.

mod plans;

use bowline_protocol::UserId;
use clickhouse::query::Query;
use serde::Deserialize;
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::feed::candidate::TRENDING_POSTS;
use crate::storage::clickhouse::{ClickHouse, Fault};

/// A post that a source found.
#[derive(clickhouse::Row, Deserialize)]
pub(super) struct Post {
    #[serde(with = "clickhouse::serde::uuid")]
    pub post: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub author: Uuid,
    pub created_at_ms: i64,
    pub likes: u64,
    pub comments: u64,
    pub shares: u64,
}

/// An author with whom a reader engages, and how much.
#[derive(clickhouse::Row, Deserialize)]
pub(super) struct Engaged {
    #[serde(with = "clickhouse::serde::uuid")]
    pub author: Uuid,
    pub weight: f64,
}

/// What posts have been given, those that were not deleted. Sums are below 0 only until an undone like has met the like that it
/// undoes.
const POSTS: &str = "SELECT post, author, toUnixTimestamp64Milli(post_at) AS created_at_ms,
       toUInt64(greatest(sum(p.likes), 0)) AS likes, toUInt64(sum(p.comments)) AS comments, toUInt64(sum(p.shares)) AS shares
    FROM posts_by_author AS p";
const LIVE: &str = "GROUP BY author, post_at, post HAVING sum(live) > 0";

/// The posts that were given most in the last day. More than are wanted: some were deleted.
const MOST_GIVEN: &str = "SELECT most.item.1, most.item.2, most.item.3 FROM (
        SELECT arrayJoin(topKWeightedMerge(300, 2, 'counts')(top)) AS most
        FROM trending WHERE hour > now() - INTERVAL 25 HOUR)";

/// Those with whom a reader has engaged most within a month.
const ENGAGED: &str = "SELECT author, 0.1 * sum(views) + sum(likes) + 2 * sum(comments) + 3 * sum(shares) AS weight
    FROM affinity WHERE reader = {reader:UUID} AND day > today() - 30
    GROUP BY author HAVING weight > 0 ORDER BY weight DESC, author LIMIT 100";

/// The newest of the last month by these authors, at most so many of each and in all.
pub(super) async fn newest_of(
    clickhouse: &ClickHouse,
    authors: impl Iterator<Item = Uuid>,
    apiece: usize,
    most: usize,
    deadline: Deadline,
) -> Result<Vec<Post>, Fault> {
    let authors: Vec<String> = authors.map(|author| author.to_string()).collect();
    clickhouse.read(&newest_of_sql(apiece, most), |query| query.param("authors", authors), deadline).await
}

pub(super) async fn trending(clickhouse: &ClickHouse, deadline: Deadline) -> Result<Vec<Post>, Fault> {
    clickhouse.read(&trending_sql(), |query| query, deadline).await
}

pub(super) async fn engaged(
    clickhouse: &ClickHouse,
    reader: UserId,
    deadline: Deadline,
) -> Result<Vec<Engaged>, Fault> {
    clickhouse.read(ENGAGED, |query| for_reader(query, reader), deadline).await
}

fn for_reader(query: Query, reader: UserId) -> Query {
    query.param("reader", reader.0.to_string())
}

fn newest_of_sql(apiece: usize, most: usize) -> String {
    format!(
        "{POSTS} WHERE author IN {{authors:Array(UUID)}} AND post_at > now64(3) - INTERVAL 30 DAY
         {LIVE} ORDER BY post_at DESC, post DESC LIMIT {apiece} BY author LIMIT {most}"
    )
}

fn trending_sql() -> String {
    format!(
        "{POSTS} WHERE (author, post_at, post) IN ({MOST_GIVEN})
         {LIVE} ORDER BY likes + 2 * comments + 3 * shares DESC, post_at DESC LIMIT {TRENDING_POSTS}"
    )
}
