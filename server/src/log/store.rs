//! The SQL of the log. Every statement is one round trip in autocommit.

use std::collections::BTreeSet;
use std::time::SystemTime;

use bowline_protocol::{Epoch, LogId, Seq, wire};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::command::Command;
use super::content::{Attrs, content};
use crate::deadline::Deadline;
use crate::storage::columns::time_ms;
use crate::storage::{Connection, Fault};

/// A command as it waits to be stored.
pub(super) struct Input {
    pub command: Command,
    pub crc: i32,
}

/// A row of `append`.
pub(super) struct Answer {
    /// Which command, from 0.
    pub ord: usize,
    pub outcome: i16,
    pub version: Option<Seq>,
    pub seq: Seq,
    pub message_no: u64,
    pub created_at_ms: i64,
    pub attrs: Attrs,
    /// As stored; 0 where the command says it.
    pub kind: i16,
    /// Where the entry is and under which client_id, if the command caused it in another log than its own.
    pub caused: Option<(LogId, Uuid)>,
}

pub(super) const APPEND: &str = "SELECT * FROM append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Stores a batch. Answers are one for each command in any order, and one for each entry that they caused.
pub(super) async fn append(
    connection: &Connection,
    epoch: Epoch,
    batch: &[Input],
    deadline: Deadline,
) -> Result<Vec<Answer>, Fault> {
    let commands = || batch.iter().map(|input| &input.command);
    let mut logs: BTreeSet<Uuid> = commands().map(|command| command.log.0).collect();
    logs.extend(commands().flat_map(Command::named));
    let logs: Vec<Uuid> = logs.into_iter().collect();
    // PostgreSQL counts from 1. Every command's log is among them.
    let log_at: Vec<i32> =
        commands().map(|command| logs.binary_search(&command.log.0).map_or(0, |at| at as i32 + 1)).collect();
    let senders: Vec<Uuid> = commands().map(|command| command.sender.0).collect();
    let sender_kinds: Vec<i16> = commands().map(|command| command.sender_kind as i16).collect();
    let clients: Vec<Uuid> = commands().map(|command| command.client_id.0).collect();
    let crcs: Vec<i32> = batch.iter().map(|input| input.crc).collect();
    let kinds: Vec<i16> = commands().map(|command| command.action.kind()).collect();
    let number = |seq: Option<Seq>| seq.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX));
    let targets: Vec<Option<i64>> = commands().map(|command| number(command.action.target_seq())).collect();
    let versions: Vec<Option<i64>> = commands().map(|command| number(command.action.edited_version())).collect();
    let bodies: Vec<Option<&str>> = commands().map(|command| command.action.body()).collect();
    let details: Vec<Option<Json<Attrs>>> = commands().map(|command| command.attrs().map(Json)).collect();
    let rows = connection
        .query(
            APPEND,
            &[
                (&(epoch as i64), Type::INT8),
                (&logs, Type::UUID_ARRAY),
                (&log_at, Type::INT4_ARRAY),
                (&senders, Type::UUID_ARRAY),
                (&sender_kinds, Type::INT2_ARRAY),
                (&clients, Type::UUID_ARRAY),
                (&crcs, Type::INT4_ARRAY),
                (&kinds, Type::INT2_ARRAY),
                (&targets, Type::INT8_ARRAY),
                (&versions, Type::INT8_ARRAY),
                (&bodies, Type::TEXT_ARRAY),
                (&details, Type::JSONB_ARRAY),
            ],
            deadline,
        )
        .await?;
    rows.iter().map(answer).collect::<Result<_, _>>().map_err(Fault::from)
}

fn answer(row: &Row) -> Result<Answer, tokio_postgres::Error> {
    let caused: bool = row.try_get("caused")?;
    Ok(Answer {
        ord: (row.try_get::<_, i32>("ord")? - 1).max(0) as usize,
        outcome: row.try_get("outcome")?,
        version: row.try_get::<_, Option<i64>>("version")?.map(|version| version as Seq),
        seq: row.try_get::<_, Option<i64>>("seq")?.unwrap_or_default() as Seq,
        message_no: row.try_get::<_, Option<i64>>("message_no")?.unwrap_or_default() as u64,
        created_at_ms: row.try_get::<_, Option<SystemTime>>("created_at")?.map(time_ms).unwrap_or_default(),
        attrs: row.try_get::<_, Option<Json<Attrs>>>("attrs")?.map(|attrs| attrs.0).unwrap_or_default(),
        kind: row.try_get::<_, Option<i16>>("kind")?.unwrap_or_default(),
        caused: if caused { Some((LogId(row.try_get("log_id")?), row.try_get("client_id")?)) } else { None },
    })
}

/// The newest epoch that the database knows.
pub(super) async fn current_epoch(connection: &Connection, deadline: Deadline) -> Result<Epoch, Fault> {
    let rows = connection.query("SELECT coalesce(max(epoch), 0) FROM epochs", &[], deadline).await?;
    match rows.first() {
        Some(row) => Ok(row.try_get::<_, i64>(0)? as Epoch),
        None => Ok(0),
    }
}

/// $1 log, $2 after, $3 to. One row for the head, with the entries beside it.
pub(super) const RANGE: &str = "SELECT h.last_seq, h.first_seq, e.*
    FROM heads h LEFT JOIN LATERAL read_entries($1, $2, $3) e ON true WHERE h.log_id = $1";

/// $1 log, $2 numbers of pages.
pub(super) const PAGES: &str = "SELECT h.last_seq, h.first_seq, e.*
    FROM heads h LEFT JOIN LATERAL (
        SELECT e.* FROM unnest($2::bigint[]) AS p (page)
        CROSS JOIN LATERAL read_entries($1, p.page * 128 - 1, p.page * 128 + 127) e) e ON true WHERE h.log_id = $1";

/// The entries that a statement above found, in seq order, after (last_seq, first_seq); `None` if there is no such log.
pub(super) async fn entries(
    connection: &Connection,
    sql: &str,
    parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)],
    deadline: Deadline,
) -> Result<Option<(Seq, Seq, Vec<wire::Entry>)>, Fault> {
    let rows = connection.query(sql, parameters, deadline).await?;
    let Some(head) = rows.first() else { return Ok(None) };
    let (last, first): (i64, i64) = (head.try_get("last_seq")?, head.try_get("first_seq")?);
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(seq) = row.try_get::<_, Option<i64>>("seq")? {
            entries.push(entry(row, seq as Seq)?);
        }
    }
    // They come in order; SQL does not promise it through a join.
    entries.sort_by_key(|entry| entry.seq);
    Ok(Some((last as Seq, first as Seq, entries)))
}

fn entry(row: &Row, seq: Seq) -> Result<wire::Entry, tokio_postgres::Error> {
    let kind: i16 = row.try_get("kind")?;
    let target = row.try_get::<_, Option<i64>>("target_seq")?.unwrap_or_default() as Seq;
    let attrs = row.try_get::<_, Option<Json<Attrs>>>("attrs")?.map(|attrs| attrs.0).unwrap_or_default();
    Ok(wire::Entry {
        seq,
        message_no: row.try_get::<_, i64>("message_no")? as u64,
        version: row.try_get::<_, i64>("version")? as Seq,
        created_at_ms: time_ms(row.try_get("created_at")?),
        sender_id: row.try_get::<_, Uuid>("sender_id")?.as_bytes().to_vec(),
        sender_kind: row.try_get::<_, i16>("sender_kind")?.into(),
        client_id: row.try_get::<_, Uuid>("client_id")?.as_bytes().to_vec(),
        content: content(kind, target, row.try_get("body")?, attrs),
    })
}

/// $1 the xmax and $2 the xip of the last look's snapshot. One row at least, for the snapshot of this one.
pub(super) const CHANGES: &str = "SELECT pg_current_snapshot()::text, (SELECT max(epoch) FROM epochs), c.log_id, c.seq
    FROM (VALUES (1)) AS one LEFT JOIN LATERAL changed_logs($1, $2) c ON true";

/// A snapshot as text, the newest epoch, and the highest seq of each log that changed since the snapshot given.
pub(super) async fn changes(
    connection: &Connection,
    xmax: i64,
    xip: &[i64],
    deadline: Deadline,
) -> Result<(String, Epoch, Vec<(LogId, Seq)>), Fault> {
    let rows = connection.query(CHANGES, &[(&xmax, Type::INT8), (&xip, Type::INT8_ARRAY)], deadline).await?;
    let mut snapshot = String::new();
    let mut epoch = 0;
    let mut heads = Vec::with_capacity(rows.len());
    for row in &rows {
        snapshot = row.try_get(0)?;
        epoch = row.try_get::<_, Option<i64>>(1)?.unwrap_or_default() as Epoch;
        if let Some(log) = row.try_get::<_, Option<Uuid>>(2)? {
            heads.push((LogId(log), row.try_get::<_, i64>(3)? as Seq));
        }
    }
    Ok((snapshot, epoch, heads))
}

/// A log that has no row for an epoch did not exist when it began: all that it had is unsure.
pub(super) const FIRST_UNSURE: &str = "SELECT 1 + min(coalesce(h.last_seq, 0)) FROM epochs e
    LEFT JOIN epoch_heads h ON h.log_id = $1 AND h.epoch = e.epoch WHERE e.epoch > $2";

pub(super) async fn first_unsure_seq(
    connection: &Connection,
    log: LogId,
    cursor_epoch: Epoch,
    deadline: Deadline,
) -> Result<Option<Seq>, Fault> {
    let epoch = i64::try_from(cursor_epoch).unwrap_or(i64::MAX);
    let rows = connection.query(FIRST_UNSURE, &[(&log.0, Type::UUID), (&epoch, Type::INT8)], deadline).await?;
    match rows.first() {
        Some(row) => Ok(row.try_get::<_, Option<i64>>(0)?.map(|seq| seq as Seq)),
        None => Ok(None),
    }
}
