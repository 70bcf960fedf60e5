use std::pin::pin;
use std::time::SystemTime;

use bowline_protocol::wire::{self, ConversationKind};
use bowline_protocol::{LogId, UserId};
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{int, message, time, time_ms, whole};
use crate::conversations::lists::AskedHeads;
use crate::deadline::Deadline;
use crate::storage::{Connection, Fault};

/// Of `entries e`, as `message` reads them; all NULL where there is no message to show. Activity is compared by the
/// millisecond, as clients know it. A last message that is older than the stay is not shown, unless history is. One row
/// more than the page has tells that there is a next one.
const HEADS: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bigint[])
             WITH ORDINALITY AS a (user_id, after_at, after_log, page, ord)
)
SELECT e.seq, e.message_no, e.version, e.created_at, e.sender_id, e.sender_kind, e.body, e.attrs, e.client_id,
       p.conversation_id, p.last_at_ms, p.last_seq, p.first_seq, p.last_message_no, p.role, p.muted,
       c.kind, c.title, c.direct_key, coalesce(r.seq, 0) AS read_seq,
       coalesce(r.message_no, (
           SELECT j.message_no - (j.kind = 16)::int FROM entries j
           WHERE j.log_id = p.conversation_id AND j.seq >= p.joined_seq ORDER BY j.seq LIMIT 1), p.last_message_no) AS read_no,
       a.ord
FROM asked a
CROSS JOIN LATERAL (
    SELECT m.conversation_id, m.joined_seq, m.role, m.muted, h.*, date_trunc('milliseconds', h.last_at) AS last_at_ms
    FROM membership m
    CROSS JOIN LATERAL (SELECT * FROM heads h WHERE h.log_id = m.conversation_id LIMIT 1) h
    WHERE m.user_id = a.user_id AND m.left_seq IS NULL
      AND (a.after_at IS NULL OR (date_trunc('milliseconds', h.last_at), m.conversation_id) < (a.after_at, a.after_log))
    ORDER BY last_at_ms DESC, m.conversation_id DESC
    LIMIT a.page + 1) p
CROSS JOIN LATERAL (SELECT * FROM conversations c WHERE c.id = p.conversation_id LIMIT 1) c
LEFT JOIN LATERAL (
    SELECT * FROM read_positions r WHERE r.user_id = a.user_id AND r.conversation_id = p.conversation_id LIMIT 1) r ON true
LEFT JOIN LATERAL (
    SELECT * FROM entries e
    WHERE e.log_id = p.conversation_id AND e.seq = p.last_message_seq AND (c.history_visible OR EXISTS (
        SELECT FROM membership m WHERE m.conversation_id = p.conversation_id AND m.user_id = a.user_id
           AND e.seq >= m.joined_seq AND (m.left_seq IS NULL OR e.seq <= m.left_seq)))
    LIMIT 1) e ON true
ORDER BY a.ord, p.last_at_ms DESC, p.conversation_id DESC";

/// A row for a list, and where the next page goes on behind it.
pub(in crate::conversations) struct HeadRow {
    pub(in crate::conversations) head: wire::Head,
    pub(in crate::conversations) place: (i64, LogId),
}

/// The conversations of each who asks, behind his place, newest activity first; those of one after those of the one asked
/// for before. Gives the rows as they come: `of` says which of `asked` they are for.
pub(in crate::conversations) async fn heads(
    connection: &Connection,
    asked: &[AskedHeads],
    deadline: Deadline,
    each: &mut (dyn FnMut(usize, HeadRow) + Send),
) -> Result<(), Fault> {
    let users: Vec<Uuid> = asked.iter().map(|a| a.user.0).collect();
    let after_at: Vec<Option<SystemTime>> = asked.iter().map(|a| a.after.map(|(at_ms, _)| time(at_ms))).collect();
    let after_log: Vec<Option<Uuid>> = asked.iter().map(|a| a.after.map(|(_, log)| log.0)).collect();
    let pages: Vec<i64> = asked.iter().map(|a| int(a.limit)).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&users, Type::UUID_ARRAY),
        (&after_at, Type::TIMESTAMPTZ_ARRAY),
        (&after_log, Type::UUID_ARRAY),
        (&pages, Type::INT8_ARRAY),
    ];
    let rows = async {
        let mut rows = pin!(connection.query_typed_raw(HEADS, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            let ord: i64 = row.try_get("ord")?;
            let of = usize::try_from(ord - 1).unwrap_or(usize::MAX);
            if let Some(asked) = asked.get(of) {
                each(of, head(&row, asked.user)?);
            }
        }
        Ok(())
    };
    connection.within(deadline, rows).await
}

fn head(row: &Row, user: UserId) -> Result<HeadRow, tokio_postgres::Error> {
    let log = LogId(row.try_get("conversation_id")?);
    let last_at_ms = time_ms(row.try_get("last_at_ms")?);
    let (last_no, read_no): (i64, i64) = (row.try_get("last_message_no")?, row.try_get("read_no")?);
    let kind: i16 = row.try_get("kind")?;
    let role: i16 = row.try_get("role")?;
    let direct_key: Option<String> = row.try_get("direct_key")?;
    let last_message = row.try_get::<_, Option<i64>>(0)?.map(|_| message(row)).transpose()?;
    let head = wire::Head {
        log_id: log.to_wire(),
        kind: i32::from(kind),
        title: row.try_get("title")?,
        role: i32::from(role),
        last_seq: whole(row.try_get("last_seq")?),
        first_seq: whole(row.try_get("first_seq")?),
        read_seq: whole(row.try_get("read_seq")?),
        unread: whole(last_no.saturating_sub(read_no)),
        last_at_ms,
        last_message,
        muted: row.try_get("muted")?,
        peer_id: direct_key.filter(|_| kind == ConversationKind::Direct as i16).and_then(|key| peer(&key, user)),
    };
    Ok(HeadRow { head, place: (last_at_ms, log) })
}

/// The other one of a pair; in a conversation with oneself, oneself.
fn peer(direct_key: &str, user: UserId) -> Option<Vec<u8>> {
    let (one, other) = direct_key.split_once(':')?;
    let (one, other): (UserId, UserId) = (one.parse().ok()?, other.parse().ok()?);
    Some(if one == user { other.to_wire() } else { one.to_wire() })
}

/// One row at least, which says whether the user may see the list at all.
const MEMBERS: &str = "
SELECT me.is_member, p.user_id, p.role, p.joined_seq
FROM (SELECT EXISTS (SELECT FROM membership m WHERE m.conversation_id = $1 AND m.user_id = $2 AND m.left_seq IS NULL)) me (is_member)
LEFT JOIN LATERAL (
    SELECT m.user_id, m.role, m.joined_seq FROM membership m
    WHERE m.conversation_id = $1 AND m.left_seq IS NULL AND ($3::uuid IS NULL OR m.user_id > $3) AND me.is_member
    ORDER BY m.user_id
    LIMIT $4) p ON true
ORDER BY p.user_id";

/// Members behind `after`; none at all for one who is not a member himself.
pub(in crate::conversations) type MembersPage = Option<Vec<wire::Member>>;

pub(in crate::conversations) async fn members(
    connection: &Connection,
    user: UserId,
    log: LogId,
    after: Option<UserId>,
    limit: u64,
    deadline: Deadline,
) -> Result<MembersPage, Fault> {
    let after: Option<Uuid> = after.map(|user| user.0);
    let limit = int(limit);
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&log.0, Type::UUID), (&user.0, Type::UUID), (&after, Type::UUID), (&limit, Type::INT8)];
    let rows = connection.query(MEMBERS, &parameters, deadline).await?;
    if !rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let mut members = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(user) = row.try_get::<_, Option<Uuid>>(1)? else { continue };
        let role: i16 = row.try_get(2)?;
        members.push(wire::Member {
            user_id: UserId(user).to_wire(),
            role: i32::from(role),
            joined_seq: whole(row.try_get(3)?),
        });
    }
    Ok(Some(members))
}
