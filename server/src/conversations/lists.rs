//! Lists that are paged by the place of their last item, never by counting.

use bowline_protocol::{Code, Failure, LogId, Seq, UserId, wire};

use super::store;
use crate::deadline::Deadline;
use crate::storage::Pool;

/// Items of a page of heads.
const HEADS_PAGE: u64 = 100;

/// Where a page of heads starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadsPlace {
    /// The head of the user log when the session attached; the same for all pages.
    pub as_of_seq: Seq,
    /// Last activity (milliseconds since the Unix epoch) and id of the last item of the page before.
    pub after: Option<(i64, LogId)>,
}

impl HeadsPlace {
    pub fn first(as_of_seq: Seq) -> Self {
        Self { as_of_seq, after: None }
    }
}

/// Conversations folded to what a list shows, newest activity first. One that becomes active between two pages is in
/// front of both: its entries tell of it, since the session follows it.
#[derive(Debug, PartialEq)]
pub struct HeadsPage {
    pub items: Vec<wire::Head>,
    /// None after the last page.
    pub next: Option<HeadsPlace>,
}

pub(super) async fn heads(
    pool: &Pool,
    user: UserId,
    place: HeadsPlace,
    deadline: Deadline,
) -> Result<HeadsPage, Failure> {
    let (items, next) = page(pool, user, HEADS_PAGE, place.after, deadline).await?;
    Ok(HeadsPage { items, next: next.map(|after| HeadsPlace { after: Some(after), ..place }) })
}

pub(super) async fn conversations(
    pool: &Pool,
    user: UserId,
    limit: u64,
    after: Option<(i64, LogId)>,
    deadline: Deadline,
) -> Result<wire::Conversations, Failure> {
    let (items, next) = page(pool, user, limit, after, deadline).await?;
    Ok(wire::Conversations { items, more: next.is_some() })
}

async fn page(
    pool: &Pool,
    user: UserId,
    limit: u64,
    after: Option<(i64, LogId)>,
    deadline: Deadline,
) -> Result<(Vec<wire::Head>, Option<(i64, LogId)>), Failure> {
    let connection = pool.get(deadline).await?;
    // One more than is shown tells whether there is a next page.
    let rows = store::heads(&connection, user, after, limit + 1, deadline).await.map_err(store::failed("heads"))?;
    let more = rows.len() as u64 > limit;
    let mut shown = rows;
    shown.truncate(limit as usize);
    let next = shown.last().filter(|_| more).map(|row| row.place);
    Ok((shown.into_iter().map(|row| row.head).collect(), next))
}

pub(super) async fn members(
    pool: &Pool,
    user: UserId,
    log: LogId,
    limit: u64,
    after: Option<UserId>,
    deadline: Deadline,
) -> Result<wire::Members, Failure> {
    let connection = pool.get(deadline).await?;
    let page = store::members(&connection, user, log, after, limit + 1, deadline).await;
    let Some(mut items) = page.map_err(store::failed("members"))? else { return Err(Code::NotFound.into()) };
    let more = items.len() as u64 > limit;
    items.truncate(limit as usize);
    Ok(wire::Members { items, more })
}
