//! The position of the export, and the engagement after it. Every statement is one round trip in autocommit; all that
//! change the position do so for the holder of the lease alone, and renew it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline_protocol::Failure;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::event::{Event, made_at_ms};
use crate::deadline::Deadline;
use crate::storage::{Fault, Pool, clickhouse};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no connection to PostgreSQL: {0:?}")]
    NoConnection(Failure),
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] Fault),
    #[error("PostgreSQL: {0}")]
    Row(#[from] tokio_postgres::Error),
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] clickhouse::Fault),
    #[error("a snapshot that can't be read: {0}")]
    Snapshot(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::NoConnection(failure)
    }
}

/// An entry's place in the order of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    txid: i64,
    log: Uuid,
    seq: i64,
}

/// What is being exported: what is visible in one snapshot and not in another, after a place.
#[derive(Debug)]
pub(super) struct Round {
    done: Snapshot,
    upto: Snapshot,
    pub after: Place,
    /// Where a batch ends that may be stored.
    pub in_flight: Option<Place>,
}

#[derive(Debug)]
struct Snapshot {
    text: String,
    xmax: i64,
    /// In progress, below xmax.
    open: Vec<i64>,
}

pub(super) struct Batch {
    pub events: Vec<Event>,
    /// Entries that it was made of.
    pub entries: usize,
    pub end: Option<Place>,
    pub oldest_ms: Option<i64>,
}

const HOLD: &str =
    "SELECT done::text AS done, upto::text AS upto, after_txid, after_log, after_seq, to_txid, to_log, to_seq
    FROM hold_feed_export($1, $2)";

/// Takes or renews the lease, and begins a round if none is under way. `None`: another node holds it.
pub(super) async fn hold(pool: &Pool, node: Uuid, lease: Duration, deadline: Deadline) -> Result<Option<Round>, Error> {
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&node, Type::UUID), (&lease_ms(lease), Type::FLOAT8)];
    let rows = pool.get(deadline).await?.query(HOLD, &parameters, deadline).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let in_flight = match row.try_get("to_txid")? {
        Some(txid) => Some(Place { txid, log: row.try_get("to_log")?, seq: row.try_get("to_seq")? }),
        None => None,
    };
    Ok(Some(Round {
        done: Snapshot::read(row.try_get("done")?)?,
        upto: Snapshot::read(row.try_get("upto")?)?,
        after: Place {
            txid: row.try_get("after_txid")?,
            log: row.try_get("after_log")?,
            seq: row.try_get("after_seq")?,
        },
        in_flight,
    }))
}

const BATCH: &str = "SELECT * FROM engagement($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// The batch in flight as it was, or the next one.
pub(super) async fn batch(pool: &Pool, round: &Round, rows: usize, deadline: Deadline) -> Result<Batch, Error> {
    let last = Place { txid: i64::MAX, log: Uuid::max(), seq: i64::MAX };
    let (after, to) = (round.after, round.in_flight.unwrap_or(last));
    // One that is in flight has the size that it had.
    let at_most = if round.in_flight.is_some() { i32::MAX } else { i32::try_from(rows).unwrap_or(i32::MAX) };
    let found = pool
        .get(deadline)
        .await?
        .query(
            BATCH,
            &[
                (&round.done.xmax, Type::INT8),
                (&round.done.open, Type::INT8_ARRAY),
                (&round.upto.xmax, Type::INT8),
                (&round.upto.open, Type::INT8_ARRAY),
                (&after.txid, Type::INT8),
                (&after.log, Type::UUID),
                (&after.seq, Type::INT8),
                (&to.txid, Type::INT8),
                (&to.log, Type::UUID),
                (&to.seq, Type::INT8),
                (&at_most, Type::INT4),
            ],
            deadline,
        )
        .await?;
    let mut events = Vec::with_capacity(found.len());
    let mut oldest_ms: Option<i64> = None;
    for row in &found {
        let at = ms(row.try_get("created_at")?);
        oldest_ms = Some(oldest_ms.map_or(at, |oldest| oldest.min(at)));
        match event(row, at)? {
            Some(event) => events.push(event),
            None => tracing::error!("an entry of engagement names no post or author; it is not exported"),
        }
    }
    let read = match found.last() {
        Some(row) => Some(Place { txid: row.try_get("txid")?, log: row.try_get("log_id")?, seq: row.try_get("seq")? }),
        None => None,
    };
    Ok(Batch { events, entries: found.len(), end: round.in_flight.or(read), oldest_ms })
}

const PIN: &str = "UPDATE feed_export SET to_txid = $2, to_log = $3, to_seq = $4,
           lease_until = clock_timestamp() + $5 * interval '1 ms'
    WHERE holder = $1 AND upto IS NOT NULL AND to_txid IS NULL RETURNING 1";

/// Before a batch is sent: it is from `after` to here, whoever sends it. Whether the lease was still held.
pub(super) async fn pin(
    pool: &Pool,
    node: Uuid,
    end: Place,
    lease: Duration,
    deadline: Deadline,
) -> Result<bool, Error> {
    at_end(pool, PIN, node, end, lease, deadline).await
}

const ADVANCE: &str = "UPDATE feed_export SET after_txid = $2, after_log = $3, after_seq = $4,
           to_txid = NULL, to_log = NULL, to_seq = NULL, lease_until = clock_timestamp() + $5 * interval '1 ms'
    WHERE holder = $1 AND (to_txid, to_log, to_seq) = ($2, $3, $4) RETURNING 1";

/// The batch that ends here is stored. Whether the lease was still held.
pub(super) async fn advance(
    pool: &Pool,
    node: Uuid,
    end: Place,
    lease: Duration,
    deadline: Deadline,
) -> Result<bool, Error> {
    at_end(pool, ADVANCE, node, end, lease, deadline).await
}

async fn at_end(
    pool: &Pool,
    sql: &str,
    node: Uuid,
    end: Place,
    lease: Duration,
    deadline: Deadline,
) -> Result<bool, Error> {
    let rows = pool
        .get(deadline)
        .await?
        .query(
            sql,
            &[
                (&node, Type::UUID),
                (&end.txid, Type::INT8),
                (&end.log, Type::UUID),
                (&end.seq, Type::INT8),
                (&lease_ms(lease), Type::FLOAT8),
            ],
            deadline,
        )
        .await?;
    Ok(!rows.is_empty())
}

const FINISH: &str = "UPDATE feed_export SET done = upto, upto = NULL
    WHERE holder = $1 AND upto::text = $2 AND to_txid IS NULL RETURNING 1";

/// All of the round is stored. Whether the lease was still held.
pub(super) async fn finish(pool: &Pool, node: Uuid, round: &Round, deadline: Deadline) -> Result<bool, Error> {
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&node, Type::UUID), (&round.upto.text, Type::TEXT)];
    let rows = pool.get(deadline).await?.query(FINISH, &parameters, deadline).await?;
    Ok(!rows.is_empty())
}

const RELEASE: &str = "UPDATE feed_export SET lease_until = '-infinity' WHERE holder = $1";

/// Another node need not wait for the end of the lease.
pub(super) async fn release(pool: &Pool, node: Uuid, deadline: Deadline) -> Result<(), Error> {
    pool.get(deadline).await?.query(RELEASE, &[(&node, Type::UUID)], deadline).await?;
    Ok(())
}

fn event(row: &Row, at: i64) -> Result<Option<Event>, Error> {
    let id = |column: &str| -> Result<Option<Uuid>, Error> {
        Ok(row.try_get::<_, Option<&str>>(column)?.and_then(|text| Uuid::parse_str(text).ok()))
    };
    let (Some(post), Some(author)) = (id("post")?, id("author")?) else { return Ok(None) };
    let kind = i8::try_from(row.try_get::<_, i16>("kind")?).unwrap_or_default();
    let made_at = made_at_ms(post);
    Ok(made_at.map(|post_at| Event { at, kind, actor: row.get("actor"), post, author, post_at }))
}

fn lease_ms(lease: Duration) -> f64 {
    lease.as_secs_f64() * 1_000.0
}

/// Milliseconds since the Unix epoch.
fn ms(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.txid, self.log.simple(), self.seq)
    }
}

impl Snapshot {
    /// `xmin:xmax:xip,xip,…`
    fn read(text: String) -> Result<Self, Error> {
        let mut parts = text.split(':').skip(1);
        let xmax = parts.next().and_then(|xmax| xmax.parse().ok());
        let open = parts.next().unwrap_or_default();
        let open = open.split(',').filter(|id| !id.is_empty()).map(str::parse).collect::<Result<_, _>>();
        match (xmax, open) {
            (Some(xmax), Ok(open)) => Ok(Self { xmax, open, text }),
            _ => Err(Error::Snapshot(text)),
        }
    }
}
