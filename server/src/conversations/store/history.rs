use std::time::SystemTime;

use bowline_protocol::{LogId, Seq, UserId, wire};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::attach::stays;
use super::{int, message, time, whole};
use crate::conversations::attach::Stay;
use crate::conversations::history::Side;
use crate::deadline::Deadline;
use crate::storage::{Connection, Fault};
use crate::tail::Span;

/// A log as a user finds it.
pub(in crate::conversations) struct Found {
    pub(in crate::conversations) stays: Vec<Stay>,
    pub(in crate::conversations) history_visible: bool,
    pub(in crate::conversations) first_seq: Seq,
    pub(in crate::conversations) last_seq: Seq,
    /// The first entry of the time that was asked for or later; behind the last one if there is none.
    pub(in crate::conversations) at_seq: Option<Seq>,
}

/// The time is found by halving: created_at never falls within a log. Each step is one probe of the key.
const PLACE: &str = "
WITH RECURSIVE head AS MATERIALIZED (
    SELECT h.first_seq, h.last_seq, c.history_visible
    FROM heads h JOIN conversations c ON c.id = h.log_id WHERE h.log_id = $2
),
search (low, high) AS (
    SELECT h.first_seq, h.last_seq + 1 FROM head h WHERE $3::timestamptz IS NOT NULL
    UNION ALL
    SELECT CASE WHEN p.created_at < $3 THEN p.seq + 1 ELSE s.low END,
           CASE WHEN p.created_at < $3 THEN s.high ELSE (s.low + s.high) / 2 END
    FROM search s
    CROSS JOIN LATERAL (
        SELECT e.seq, e.created_at FROM entries e
        WHERE e.log_id = $2 AND e.seq >= (s.low + s.high) / 2 ORDER BY e.seq LIMIT 1) p
    WHERE s.low < s.high
)
SELECT h.first_seq, h.last_seq, h.history_visible, m.joined, m.lefts, (SELECT max(s.low) FROM search s) AS at_seq
FROM head h
CROSS JOIN (
    SELECT array_agg(m.joined_seq) AS joined, array_agg(m.left_seq) AS lefts
    FROM membership m WHERE m.user_id = $1 AND m.conversation_id = $2) m
WHERE m.joined IS NOT NULL";

/// None if there is no such log or the user never was a member.
pub(in crate::conversations) async fn place(
    connection: &Connection,
    user: UserId,
    log: LogId,
    at_ms: Option<i64>,
    deadline: Deadline,
) -> Result<Option<Found>, Fault> {
    let at: Option<SystemTime> = at_ms.map(time);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&user.0, Type::UUID), (&log.0, Type::UUID), (&at, Type::TIMESTAMPTZ)];
    let rows = connection.query(PLACE, &parameters, deadline).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let at_seq: Option<i64> = row.try_get("at_seq")?;
    Ok(Some(Found {
        stays: stays(row)?,
        history_visible: row.try_get("history_visible")?,
        first_seq: whole(row.try_get("first_seq")?),
        last_seq: whole(row.try_get("last_seq")?),
        at_seq: at_seq.map(whole),
    }))
}

/// Which rows are read.
pub(in crate::conversations) struct Scan<'a> {
    pub(in crate::conversations) spans: &'a [Span],
    pub(in crate::conversations) middle: Seq,
    pub(in crate::conversations) older: Side,
    pub(in crate::conversations) newer: Side,
    pub(in crate::conversations) most_bytes: i64,
    pub(in crate::conversations) most_reactions: u64,
}

pub(in crate::conversations) struct Scanned {
    /// Nearest to the middle first.
    pub(in crate::conversations) messages: Vec<Message>,
    /// Message by message in the same order, newest first.
    pub(in crate::conversations) reactions: Vec<Reaction>,
    /// The user is no longer a member: where his last stay ended.
    pub(in crate::conversations) left_seq: Option<Seq>,
}

pub(in crate::conversations) struct Message {
    pub(in crate::conversations) entry: wire::Entry,
    /// Over the bytes of a page: it came without its text.
    pub(in crate::conversations) over: bool,
}

pub(in crate::conversations) struct Reaction {
    pub(in crate::conversations) target_seq: Seq,
    pub(in crate::conversations) seq: Seq,
    pub(in crate::conversations) user: UserId,
    pub(in crate::conversations) emoji: String,
    /// Or taken back.
    pub(in crate::conversations) added: bool,
}

/// Three kinds of row in one answer, told apart by `what`: 0 the user's last stay, 1 messages, 2 reactions. The length of a
/// text is known without reading it, so one over the page's bytes costs nothing.
const SCAN: &str = "
WITH found AS MATERIALIZED (
    SELECT m.*, abs(m.seq - $10) AS distance,
           sum(m.bytes) OVER nearer > $11 AND row_number() OVER nearer > 1 AS over
    FROM (
        (SELECT e.seq, coalesce(octet_length(e.body), 0) AS bytes FROM entries e
         WHERE e.log_id = $1 AND e.seq > $4 AND e.seq <= $5 AND e.kind = 16
           AND EXISTS (SELECT FROM unnest($2::bigint[], $3::bigint[]) AS s (a, b) WHERE e.seq BETWEEN s.a AND s.b)
         ORDER BY e.seq DESC LIMIT $6)
        UNION ALL
        (SELECT e.seq, coalesce(octet_length(e.body), 0) FROM entries e
         WHERE e.log_id = $1 AND e.seq > $7 AND e.seq <= $8 AND e.kind = 16
           AND EXISTS (SELECT FROM unnest($2::bigint[], $3::bigint[]) AS s (a, b) WHERE e.seq BETWEEN s.a AND s.b)
         ORDER BY e.seq LIMIT $9)
    ) m
    WINDOW nearer AS (ORDER BY abs(m.seq - $10), m.seq DESC ROWS UNBOUNDED PRECEDING)
),
reactions AS MATERIALIZED (
    SELECT f.distance, r.* FROM (SELECT * FROM found ORDER BY distance, seq DESC) f
    CROSS JOIN LATERAL (
        SELECT r.target_seq, r.seq, r.kind, r.sender_id, r.attrs ->> 'emoji' AS emoji FROM entries r
        WHERE r.log_id = $1 AND r.target_seq = f.seq AND r.kind IN (19, 20) ORDER BY r.target_seq DESC, r.seq DESC) r
    LIMIT $12
)
SELECT e.seq, e.message_no, e.version, e.created_at, e.sender_id, e.sender_kind,
       CASE WHEN NOT f.over THEN e.body END, CASE WHEN NOT f.over THEN e.attrs END, e.client_id,
       1 AS what, f.distance, f.over, NULL::bigint AS target_seq, NULL::text AS emoji
FROM found f CROSS JOIN LATERAL (SELECT * FROM entries e WHERE e.log_id = $1 AND e.seq = f.seq LIMIT 1) e
UNION ALL
SELECT r.seq, NULL, NULL, NULL, r.sender_id, r.kind, NULL, NULL, NULL, 2, r.distance, NULL, r.target_seq, r.emoji
FROM reactions r
UNION ALL
(SELECT m.left_seq, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL
 FROM membership m WHERE m.user_id = $13 AND m.conversation_id = $1 ORDER BY m.joined_seq DESC LIMIT 1)
ORDER BY what, distance, target_seq DESC, seq DESC";

pub(in crate::conversations) async fn scan(
    connection: &Connection,
    user: UserId,
    log: LogId,
    scan: &Scan<'_>,
    deadline: Deadline,
) -> Result<Scanned, Fault> {
    let from: Vec<i64> = scan.spans.iter().map(|span| int(span.visible_from)).collect();
    let to: Vec<i64> = scan.spans.iter().map(|span| span.left_seq.map_or(i64::MAX, int)).collect();
    let side = |side: Side| [int(side.after), int(side.to), int(side.most)];
    let (older, newer) = (side(scan.older), side(scan.newer));
    let (middle, most_reactions) = (int(scan.middle), int(scan.most_reactions));
    let parameters: [(&(dyn ToSql + Sync), Type); 13] = [
        (&log.0, Type::UUID),
        (&from, Type::INT8_ARRAY),
        (&to, Type::INT8_ARRAY),
        (&older[0], Type::INT8),
        (&older[1], Type::INT8),
        (&older[2], Type::INT8),
        (&newer[0], Type::INT8),
        (&newer[1], Type::INT8),
        (&newer[2], Type::INT8),
        (&middle, Type::INT8),
        (&scan.most_bytes, Type::INT8),
        (&most_reactions, Type::INT8),
        (&user.0, Type::UUID),
    ];
    let rows = connection.query(SCAN, &parameters, deadline).await?;
    let mut scanned = Scanned { messages: Vec::new(), reactions: Vec::new(), left_seq: None };
    for row in &rows {
        match row.try_get("what")? {
            0 => scanned.left_seq = row.try_get::<_, Option<i64>>(0)?.map(whole),
            1 => scanned.messages.push(Message { entry: message(row)?, over: row.try_get("over")? }),
            _ => scanned.reactions.push(Reaction {
                target_seq: whole(row.try_get("target_seq")?),
                seq: whole(row.try_get(0)?),
                user: UserId(row.try_get::<_, Uuid>(4)?),
                emoji: row.try_get::<_, Option<String>>("emoji")?.unwrap_or_default(),
                added: row.try_get::<_, i16>(5)? == 19,
            }),
        }
    }
    Ok(scanned)
}
