//! The SQL of this room. What is read of large tables is read by functions of the schema, which carry the planner's
//! settings.

mod plans;

use std::time::SystemTime;

use bowline_protocol::command::Page;
use bowline_protocol::{CommentId, Failure, PostId, UserId, wire};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::log;
use crate::storage::columns::{int, time, time_ms, whole};
use crate::storage::{Connection, Fault};

/// What a reader is told of a fault, which is logged here.
pub(super) fn failed(what: &'static str) -> impl Fn(Fault) -> Failure {
    move |fault| {
        tracing::warn!(what, %fault, "a statement failed");
        fault.read()
    }
}

/// $1 ids.
const POSTS: &str = "SELECT * FROM read_posts($1)";

/// Posts as everybody sees them; without their text where they were deleted. None for what is no post.
pub(super) async fn posts(
    connection: &Connection,
    ids: &[Uuid],
    deadline: Deadline,
) -> Result<Vec<(Uuid, Sighted)>, Fault> {
    let rows = connection.query(POSTS, &[(&ids, Type::UUID_ARRAY)], deadline).await?;
    let sighted = |row: &Row| {
        let deleted: bool = row.try_get("deleted")?;
        let post = if deleted { None } else { Some(shown(row)?) };
        Ok((row.try_get("id")?, Sighted { author: row.try_get("author_id")?, post }))
    };
    Ok(rows.iter().map(sighted).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// A post as everybody sees it.
#[derive(Debug)]
pub(super) struct Sighted {
    pub(super) author: Uuid,
    /// None: it was deleted.
    pub(super) post: Option<wire::Post>,
}

/// What a post has to do with one reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regard {
    pub(super) author: Uuid,
    /// He and the author have nothing to do with each other.
    pub(super) apart: bool,
    /// He wants none of the author's in his feed.
    pub(super) muted: bool,
    pub(super) liked: bool,
}

/// $1 readers, $2 the post of each.
const REGARDS: &str = "SELECT * FROM read_regards($1, $2)";

/// By reader and post; none for what is no post.
pub(super) async fn regards(
    connection: &Connection,
    pairs: &[(Uuid, Uuid)],
    deadline: Deadline,
) -> Result<Vec<((Uuid, Uuid), Regard)>, Fault> {
    let (readers, posts): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    let rows = connection.query(REGARDS, &[(&readers, Type::UUID_ARRAY), (&posts, Type::UUID_ARRAY)], deadline).await?;
    let regard = |row: &Row| {
        let place: i64 = row.try_get("place")?;
        let pair = usize::try_from(place - 1).ok().and_then(|place| pairs.get(place)).copied().unwrap_or_default();
        let (apart, muted, liked) = (row.try_get("apart")?, row.try_get("muted")?, row.try_get("liked")?);
        Ok((pair, Regard { author: row.try_get("author_id")?, apart, muted, liked }))
    };
    Ok(rows.iter().map(regard).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// $1 reader, $2 author, $3 and $4 the place, $5 how many. One row at least, which says whether there is such a user for
/// this reader.
const POSTS_BY: &str = "
SELECT me.sees, p.* FROM (SELECT EXISTS (SELECT FROM users u WHERE u.id = $2) AND NOT apart($1, $2)) me (sees)
LEFT JOIN LATERAL read_posts_by($1, $2, coalesce($3, 'infinity'::timestamptz), $4, $5) p ON me.sees";

/// None: there is no such user for this reader.
pub(super) async fn posts_by(
    connection: &Connection,
    reader: UserId,
    author: UserId,
    page: Page<PostId>,
    deadline: Deadline,
) -> Result<Option<Vec<wire::Post>>, Fault> {
    let place = page.after.map(|(at_ms, post)| (at_ms, post.0));
    let rows = listed(connection, POSTS_BY, [reader.0, author.0], page.limit, place, deadline).await?;
    if !rows.first().map(|row| row.try_get("sees")).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let mut posts = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<_, Option<Uuid>>("id")?.is_some() {
            posts.push(wire::Post { liked: row.try_get("liked")?, ..shown(row)? });
        }
    }
    Ok(Some(posts))
}

/// What there is of a post for one reader.
pub(super) enum Sight<T> {
    Seen(T),
    Gone,
    Nothing,
}

/// As `POSTS_BY`, $2 a post.
const COMMENTS: &str = "
SELECT post.deleted, c.* FROM (
    SELECT p.id, p.deleted_at IS NOT NULL AS deleted FROM posts p WHERE p.id = $2 AND NOT apart($1, p.author_id)) post
LEFT JOIN LATERAL read_comments($1, $2, coalesce($3, 'infinity'::timestamptz), $4, $5) c ON NOT post.deleted";

pub(super) async fn comments(
    connection: &Connection,
    reader: UserId,
    post: PostId,
    page: Page<CommentId>,
    deadline: Deadline,
) -> Result<Sight<Vec<wire::Comment>>, Fault> {
    let place = page.after.map(|(at_ms, comment)| (at_ms, comment.0));
    let rows = listed(connection, COMMENTS, [reader.0, post.0], page.limit, place, deadline).await?;
    let Some(first) = rows.first() else { return Ok(Sight::Nothing) };
    if first.try_get("deleted")? {
        return Ok(Sight::Gone);
    }
    let mut comments = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(id) = row.try_get::<_, Option<Uuid>>("id")? {
            comments.push(wire::Comment {
                comment_id: CommentId(id).to_wire(),
                author: Some(person(row)?),
                body: row.try_get("body")?,
                created_at_ms: time_ms(row.try_get("created_at")?),
            });
        }
    }
    Ok(Sight::Seen(comments))
}

/// Rows behind a place, in the order of the list: it is the order of an index, kept through joins with one row each.
async fn listed(
    connection: &Connection,
    sql: &str,
    whose: [Uuid; 2],
    limit: u64,
    place: Option<(i64, Uuid)>,
    deadline: Deadline,
) -> Result<Vec<Row>, Fault> {
    let before_at: Option<SystemTime> = place.map(|(at_ms, _)| time(at_ms));
    let before_id: Uuid = place.map_or(Uuid::max(), |(_, id)| id);
    let limit = int(limit);
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&whose[0], Type::UUID),
        (&whose[1], Type::UUID),
        (&before_at, Type::TIMESTAMPTZ),
        (&before_id, Type::UUID),
        (&limit, Type::INT8),
    ];
    connection.query(sql, &parameters, deadline).await
}

/// A post by its columns, as everybody sees it.
fn shown(row: &Row) -> Result<wire::Post, tokio_postgres::Error> {
    let (attachments, attrs) = log::attached(row.try_get("attrs")?);
    Ok(wire::Post {
        post_id: PostId(row.try_get("id")?).to_wire(),
        author: Some(person(row)?),
        body: row.try_get("body")?,
        attachments,
        attrs,
        created_at_ms: time_ms(row.try_get("created_at")?),
        likes: whole(row.try_get("likes")?),
        comments: whole(row.try_get("comments")?),
        shares: whole(row.try_get("shares")?),
        liked: false,
    })
}

fn person(row: &Row) -> Result<wire::Person, tokio_postgres::Error> {
    Ok(wire::Person {
        user_id: UserId(row.try_get("author_id")?).to_wire(),
        display_name: row.try_get("display_name")?,
        avatar_url: row.try_get("avatar_url")?,
    })
}
