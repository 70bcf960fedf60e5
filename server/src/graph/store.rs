//! The SQL of this room. What is read of large tables is read by functions of the schema, which carry the planner's
//! settings.

mod plans;

use std::time::SystemTime;

use bowline_protocol::command::Page;
use bowline_protocol::wire::{self, PeopleKind};
use bowline_protocol::{Failure, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::deadline::Deadline;
use crate::storage::columns::{int, time, time_ms, whole};
use crate::storage::{Connection, Fault};

/// What a reader is told of a fault, which is logged here.
pub(super) fn failed(what: &'static str) -> impl Fn(Fault) -> Failure {
    move |fault| {
        tracing::warn!(what, %fault, "a statement failed");
        fault.read()
    }
}

/// $1 reader, $2 user.
const PROFILE: &str = "
SELECT u.id, u.display_name, u.avatar_url, u.bio, c.followers, c.followees, c.posts,
       EXISTS (SELECT FROM follows f WHERE f.follower_id = $1 AND f.followee_id = $2) AS followed,
       EXISTS (SELECT FROM follows f WHERE f.follower_id = $2 AND f.followee_id = $1) AS follows_you,
       EXISTS (SELECT FROM blocks b WHERE b.user_id = $1 AND b.target_id = $2) AS blocked,
       EXISTS (SELECT FROM mutes m WHERE m.user_id = $1 AND m.target_id = $2) AS muted
FROM users u
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.followers), 0)::bigint AS followers, coalesce(sum(c.followees), 0)::bigint AS followees,
           coalesce(sum(c.posts), 0)::bigint AS posts
    FROM user_counts c WHERE c.user_id = $2) c
WHERE u.id = $2 AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = $2 AND b.target_id = $1)";

/// None: there is no such user for this reader.
pub(super) async fn profile(
    connection: &Connection,
    reader: UserId,
    user: UserId,
    deadline: Deadline,
) -> Result<Option<wire::Profile>, Fault> {
    let rows = connection.query(PROFILE, &[(&reader.0, Type::UUID), (&user.0, Type::UUID)], deadline).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(wire::Profile {
        person: Some(person(row)?),
        bio: row.try_get("bio")?,
        followers: whole(row.try_get("followers")?),
        followees: whole(row.try_get("followees")?),
        posts: whole(row.try_get("posts")?),
        followed: row.try_get("followed")?,
        follows_you: row.try_get("follows_you")?,
        blocked: row.try_get("blocked")?,
        muted: row.try_get("muted")?,
    }))
}

/// $1 reader, $2 user, $3 which list, $4 and $5 the place, $6 how many. One row at least, which says whether there is such a
/// user for this reader. The rows come in the order of an index, kept through joins with one row each.
const PEOPLE: &str = "
SELECT me.sees, p.* FROM (
    SELECT EXISTS (SELECT FROM users u WHERE u.id = $2)
       AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = $2 AND b.target_id = $1)) me (sees)
LEFT JOIN LATERAL read_people($3, $2, coalesce($4, 'infinity'::timestamptz), $5, $6) p ON me.sees";

/// None: there is no such user for this reader.
pub(super) async fn people(
    connection: &Connection,
    reader: UserId,
    kind: PeopleKind,
    of: UserId,
    page: Page<UserId>,
    deadline: Deadline,
) -> Result<Option<Vec<wire::Listed>>, Fault> {
    let before_at: Option<SystemTime> = page.after.map(|(at_ms, _)| time(at_ms));
    let before_id: Uuid = page.after.map_or(Uuid::max(), |(_, user)| user.0);
    let (limit, kind) = (int(page.limit), kind as i16);
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&reader.0, Type::UUID),
        (&of.0, Type::UUID),
        (&kind, Type::INT2),
        (&before_at, Type::TIMESTAMPTZ),
        (&before_id, Type::UUID),
        (&limit, Type::INT8),
    ];
    let rows = connection.query(PEOPLE, &parameters, deadline).await?;
    if !rows.first().map(|row| row.try_get("sees")).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let mut people = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<_, Option<Uuid>>("id")?.is_some() {
            people.push(wire::Listed { person: Some(person(row)?), since_ms: time_ms(row.try_get("since")?) });
        }
    }
    Ok(Some(people))
}

fn person(row: &Row) -> Result<wire::Person, tokio_postgres::Error> {
    Ok(wire::Person {
        user_id: UserId(row.try_get("id")?).to_wire(),
        display_name: row.try_get("display_name")?,
        avatar_url: row.try_get("avatar_url")?,
    })
}
