//! The SQL of this room. One statement for a batch, unnamed, with types that PostgreSQL has built in.
//!
//! Tables that grow are reached by an index, one probe for each row that is asked for: `LATERAL (… LIMIT 1)` leaves the
//! planner nothing else to choose, on a table that was never analysed too.

mod attach;
mod history;
mod lists;
mod reads;

pub(super) use attach::{AttachRow, attach};
pub(super) use history::{Found, Message, Reaction, Scan, Scanned, place, scan};
pub(super) use lists::{HeadRow, heads, members};
pub(super) use reads::{Mark, write_reads};

use bowline_protocol::{Failure, UserId, wire};
use tokio_postgres::Row;

use crate::log;
use crate::storage::Fault;
use crate::storage::columns::{int, time, time_ms, whole};

/// What a reader is told of a fault, which is logged here.
pub(super) fn failed(what: &'static str) -> impl Fn(Fault) -> Failure {
    move |fault| {
        tracing::warn!(what, %fault, "a statement failed");
        fault.read()
    }
}

/// A message's columns as they stand in `entries`, at the front of a row: seq, message_no, version, created_at, sender_id,
/// sender_kind, body, attrs, client_id.
fn message(row: &Row) -> Result<wire::Entry, tokio_postgres::Error> {
    let content = log::message(row.try_get(6)?, row.try_get(7)?);
    Ok(wire::Entry {
        seq: whole(row.try_get(0)?),
        message_no: whole(row.try_get(1)?),
        version: whole(row.try_get(2)?),
        created_at_ms: time_ms(row.try_get(3)?),
        sender_id: UserId(row.try_get(4)?).to_wire(),
        sender_kind: i32::from(row.try_get::<_, i16>(5)?),
        client_id: row.try_get::<_, uuid::Uuid>(8)?.into_bytes().to_vec(),
        content: Some(wire::entry::Content::Message(content)),
    })
}
