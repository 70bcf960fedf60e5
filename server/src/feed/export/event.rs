use serde::Serialize;
use uuid::Uuid;

/// A row of the table `events`.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, Serialize)]
pub(super) struct Event {
    /// Milliseconds since the Unix epoch, as `post_at`.
    pub at: i64,
    pub kind: i8,
    #[serde(with = "clickhouse::serde::uuid")]
    pub actor: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub post: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub author: Uuid,
    pub post_at: i64,
}

/// One who saw a post in a feed. The other kinds are those of the entries.
pub(super) const VIEW: i8 = 1;

/// When a post was made: its id says so. `None` for an id that no server has made.
pub(super) fn made_at_ms(post: Uuid) -> Option<i64> {
    let (seconds, nanos) = post.get_timestamp()?.to_unix();
    Some(i64::try_from(seconds).ok()? * 1_000 + i64::from(nanos / 1_000_000))
}
