use bowline_protocol::{LogId, Seq, UserId};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{int, whole};
use crate::conversations::reads::{RECEIPT_MEMBERS, Receipt};
use crate::deadline::Deadline;
use crate::storage::{Connection, Fault};

/// How far a user has read.
pub(in crate::conversations) struct Mark {
    pub(in crate::conversations) user: UserId,
    pub(in crate::conversations) log: LogId,
    pub(in crate::conversations) seq: Seq,
    /// Where it is known already.
    pub(in crate::conversations) message_no: Option<u64>,
}

/// Members only, existing entries only, forward only; rows that would not move are not locked either. Sorted, so that two
/// nodes never wait for each other.
const WRITE_READS: &str = "
WITH asked AS MATERIALIZED (
    SELECT a.user_id, a.log_id, a.seq, coalesce(a.message_no, e.message_no) AS message_no, a.message_no IS NULL AS is_receipt
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) AS a (user_id, log_id, seq, message_no)
    LEFT JOIN LATERAL (
        SELECT e.message_no FROM entries e
        WHERE a.message_no IS NULL AND e.log_id = a.log_id AND e.seq = a.seq LIMIT 1) e ON true
    CROSS JOIN LATERAL (
        SELECT FROM membership m
        WHERE m.conversation_id = a.log_id AND m.user_id = a.user_id AND m.left_seq IS NULL LIMIT 1) m
    LEFT JOIN LATERAL (
        SELECT r.seq FROM read_positions r WHERE r.user_id = a.user_id AND r.conversation_id = a.log_id LIMIT 1) r ON true
    WHERE coalesce(a.message_no, e.message_no) IS NOT NULL AND (r.seq IS NULL OR r.seq < a.seq)
),
moved AS (
    INSERT INTO read_positions AS r (user_id, conversation_id, seq, message_no)
    SELECT a.user_id, a.log_id, a.seq, a.message_no FROM asked a ORDER BY a.user_id, a.log_id
    ON CONFLICT (user_id, conversation_id)
    DO UPDATE SET seq = greatest(r.seq, excluded.seq), message_no = greatest(r.message_no, excluded.message_no)
    RETURNING r.user_id, r.conversation_id
),
few AS MATERIALIZED (
    SELECT l.log_id, (SELECT count(*) FROM (
               SELECT FROM membership m WHERE m.conversation_id = l.log_id AND m.left_seq IS NULL LIMIT $5 + 1) m) <= $5 AS few
    FROM (SELECT DISTINCT a.log_id FROM asked a WHERE a.is_receipt) l
)
SELECT a.user_id, a.log_id, a.seq, a.message_no, f.few
FROM asked a
JOIN moved m ON m.user_id = a.user_id AND m.conversation_id = a.log_id
JOIN few f ON f.log_id = a.log_id
WHERE a.is_receipt";

/// Returns those that moved forward, without those that came of the user's own message.
pub(in crate::conversations) async fn write_reads(
    connection: &Connection,
    marks: &[Mark],
    deadline: Deadline,
) -> Result<Vec<Receipt>, Fault> {
    let users: Vec<Uuid> = marks.iter().map(|m| m.user.0).collect();
    let logs: Vec<Uuid> = marks.iter().map(|m| m.log.0).collect();
    let seqs: Vec<i64> = marks.iter().map(|m| int(m.seq)).collect();
    let numbers: Vec<Option<i64>> = marks.iter().map(|m| m.message_no.map(int)).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&users, Type::UUID_ARRAY),
        (&logs, Type::UUID_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&RECEIPT_MEMBERS, Type::INT8),
    ];
    let rows = connection.query(WRITE_READS, &parameters, deadline).await?;
    let receipts = rows.iter().map(|row| {
        Ok(Receipt {
            user: UserId(row.try_get(0)?),
            log: LogId(row.try_get(1)?),
            seq: whole(row.try_get(2)?),
            message_no: whole(row.try_get(3)?),
            to_all: row.try_get(4)?,
        })
    });
    receipts.collect()
}
