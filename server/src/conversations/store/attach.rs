use std::pin::pin;
use std::time::SystemTime;

use bowline_protocol::{LogId, Seq};
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{int, time, whole};
use crate::conversations::attach::{Asked, LogRow, Stay, UserRow};
use crate::deadline::Deadline;
use crate::storage::{Connection, Fault};

/// One row: a user, then his conversations, then the next user.
pub(in crate::conversations) enum AttachRow {
    /// `of`: which of those asked for.
    User {
        of: usize,
        user: UserRow,
    },
    Log {
        log: LogRow,
    },
}

/// `named` holds the users' own logs too. `last_joined` and the like are of the newest span.
const ATTACH: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[])
             WITH ORDINALITY AS a (user_id, session_id, issued_at, only_log, ord)
),
named AS MATERIALIZED (
    SELECT n.ord, n.log_id,
           CASE WHEN n.epoch <> (SELECT max(e.epoch) FROM epochs e) THEN 1 + coalesce((
               -- A log without a row for an epoch did not exist when it began: all that it had is unsure.
               SELECT min(coalesce(b.last_seq, 0)) FROM epochs e
               LEFT JOIN epoch_heads b ON b.log_id = n.log_id AND b.epoch = e.epoch
               WHERE e.epoch > n.epoch), 0) END AS first_unsure_seq
    FROM unnest($5::bigint[], $6::uuid[], $7::bigint[]) AS n (ord, log_id, epoch)
)
SELECT a.ord, true AS own, a.user_id AS log_id, h.last_seq, h.first_seq, n.first_unsure_seq, h.last_at,
       -- As at the door (see `accounts`): a session of ours is as old as its row, any other as its token.
       u.id IS NULL OR h.log_id IS NULL
           OR coalesce(s.revoked_at IS NOT NULL OR s.user_id <> a.user_id, false)
           OR coalesce(CASE WHEN s.family_hash IS NOT NULL THEN s.created_at ELSE a.issued_at END
                       <= u.sessions_revoked_before, false) AS flag,
       (SELECT max(e.epoch) FROM epochs e) AS number,
       NULL::bigint[] AS joined, NULL::bigint[] AS lefts, NULL::bigint AS user_seq,
       NULL::bigint AS read_seq, NULL::bigint AS read_no, NULL::bigint AS message_no
FROM asked a
LEFT JOIN LATERAL (SELECT * FROM users u WHERE u.id = a.user_id LIMIT 1) u ON true
LEFT JOIN LATERAL (SELECT * FROM heads h WHERE h.log_id = a.user_id LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT * FROM sessions s WHERE s.id = a.session_id LIMIT 1) s ON true
LEFT JOIN named n ON n.ord = a.ord AND n.log_id = a.user_id
UNION ALL
SELECT a.ord, false, m.conversation_id, h.last_seq, h.first_seq, n.first_unsure_seq, h.last_at,
       c.history_visible, NULL, m.joined, m.lefts, m.user_seq, coalesce(r.seq, 0),
       -- Nothing read: what came since joining is unread.
       coalesce(r.message_no, (
           SELECT e.message_no - (e.kind = 16)::int FROM entries e
           WHERE e.log_id = m.conversation_id AND e.seq >= m.last_joined ORDER BY e.seq LIMIT 1), h.last_message_no),
       CASE WHEN m.is_open THEN h.last_message_no ELSE (
           SELECT e.message_no FROM entries e
           WHERE e.log_id = m.conversation_id AND e.seq <= m.last_left ORDER BY e.seq DESC LIMIT 1) END
FROM asked a
CROSS JOIN LATERAL (
    SELECT m.conversation_id, array_agg(m.joined_seq) AS joined, array_agg(m.left_seq) AS lefts,
           bool_or(m.left_seq IS NULL) AS is_open, max(m.joined_seq) AS last_joined, max(m.left_seq) AS last_left,
           max(m.user_seq) AS user_seq
    FROM membership m
    WHERE m.user_id = a.user_id
      AND m.conversation_id BETWEEN coalesce(a.only_log, '00000000-0000-0000-0000-000000000000')
                                AND coalesce(a.only_log, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    GROUP BY m.conversation_id) m
LEFT JOIN named n ON n.ord = a.ord AND n.log_id = m.conversation_id
CROSS JOIN LATERAL (SELECT * FROM heads h WHERE h.log_id = m.conversation_id LIMIT 1) h
CROSS JOIN LATERAL (SELECT * FROM conversations c WHERE c.id = m.conversation_id LIMIT 1) c
LEFT JOIN LATERAL (
    SELECT * FROM read_positions r WHERE r.user_id = a.user_id AND r.conversation_id = m.conversation_id LIMIT 1) r ON true
WHERE m.is_open OR n.log_id IS NOT NULL OR a.only_log IS NOT NULL
ORDER BY ord, own DESC, last_at DESC, log_id";

/// Gives the rows as they come, so that what a batch holds is never in memory at once.
pub(in crate::conversations) async fn attach(
    connection: &Connection,
    asked: &[Asked],
    deadline: Deadline,
    each: &mut (dyn FnMut(AttachRow) + Send),
) -> Result<(), Fault> {
    let users: Vec<Uuid> = asked.iter().map(|a| a.user.0).collect();
    let sessions: Vec<Option<Uuid>> = asked.iter().map(|a| a.session.map(|s| s.id.0)).collect();
    let issued: Vec<Option<SystemTime>> = asked.iter().map(|a| a.session.map(|s| time(s.issued_at_ms))).collect();
    let only: Vec<Option<Uuid>> = asked.iter().map(|a| a.only.map(|log| log.0)).collect();
    let mut named: (Vec<i64>, Vec<Uuid>, Vec<i64>) = Default::default();
    for (ord, asked) in (1..).zip(asked) {
        for cursor in asked.user_cursor.iter().chain(asked.named.values()) {
            named.0.push(ord);
            named.1.push(cursor.log.0);
            named.2.push(int(cursor.epoch));
        }
    }
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&users, Type::UUID_ARRAY),
        (&sessions, Type::UUID_ARRAY),
        (&issued, Type::TIMESTAMPTZ_ARRAY),
        (&only, Type::UUID_ARRAY),
        (&named.0, Type::INT8_ARRAY),
        (&named.1, Type::UUID_ARRAY),
        (&named.2, Type::INT8_ARRAY),
    ];
    let rows = async {
        let mut rows = pin!(connection.query_typed_raw(ATTACH, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            each(read(&row)?);
        }
        Ok(())
    };
    connection.within(deadline, rows).await
}

fn read(row: &Row) -> Result<AttachRow, tokio_postgres::Error> {
    let ord: i64 = row.try_get("ord")?;
    let of = usize::try_from(ord - 1).unwrap_or(usize::MAX);
    let first_unsure_seq: Option<i64> = row.try_get("first_unsure_seq")?;
    let first_unsure_seq = first_unsure_seq.map(whole);
    let number = |column| Ok::<Seq, tokio_postgres::Error>(whole(row.try_get::<_, Option<i64>>(column)?.unwrap_or(0)));
    let (last_seq, first_seq) = (number("last_seq")?, number("first_seq")?);
    if row.try_get("own")? {
        let (revoked, epoch) = (row.try_get("flag")?, number("number")?);
        return Ok(AttachRow::User { of, user: UserRow { revoked, epoch, last_seq, first_seq, first_unsure_seq } });
    }
    let log = LogRow {
        log: LogId(row.try_get("log_id")?),
        last_seq,
        first_seq,
        first_unsure_seq,
        history_visible: row.try_get("flag")?,
        stays: stays(row)?,
        joined_user_seq: number("user_seq")?,
        read_seq: number("read_seq")?,
        read_no: number("read_no")?,
        message_no: number("message_no")?,
    };
    Ok(AttachRow::Log { log })
}

/// Of the columns `joined` and `lefts`, oldest first.
pub(super) fn stays(row: &Row) -> Result<Vec<Stay>, tokio_postgres::Error> {
    let joined: Vec<i64> = row.try_get("joined")?;
    let lefts: Vec<Option<i64>> = row.try_get("lefts")?;
    let pairs = joined.into_iter().zip(lefts);
    let mut stays: Vec<_> =
        pairs.map(|(joined, left)| Stay { joined_seq: whole(joined), left_seq: left.map(whole) }).collect();
    stays.sort_unstable_by_key(|stay| stay.joined_seq);
    Ok(stays)
}
