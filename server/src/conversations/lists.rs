//! Lists that are paged by the place of their last item, never by counting.

use std::collections::VecDeque;

use bowline_protocol::{Code, Failure, LogId, Seq, UserId, wire};

use super::store;
use crate::batcher::{Batcher, Job, latest};
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

/// Conversations of one user that somebody asks for.
#[derive(Clone, Copy)]
pub(super) struct AskedHeads {
    pub(super) user: UserId,
    /// Behind this place.
    pub(super) after: Option<(i64, LogId)>,
    pub(super) limit: u64,
}

/// Where those who ask for heads meet: everybody does when all connect for the first time.
#[derive(Clone)]
pub(super) struct Lists(Batcher<AskedHeads, Page>);

struct Page {
    items: Vec<wire::Head>,
    next: Option<(i64, LogId)>,
}

impl Lists {
    pub(super) fn start(pool: Pool) -> Self {
        Self(Batcher::start(|_| 1, move |jobs| run(pool.clone(), jobs)))
    }

    pub(super) async fn heads(
        &self,
        user: UserId,
        place: HeadsPlace,
        deadline: Deadline,
    ) -> Result<HeadsPage, Failure> {
        let asked = AskedHeads { user, after: place.after, limit: HEADS_PAGE };
        let Page { items, next } = self.0.ask(asked, deadline).await?;
        Ok(HeadsPage { items, next: next.map(|after| HeadsPlace { after: Some(after), ..place }) })
    }

    pub(super) async fn conversations(
        &self,
        user: UserId,
        limit: u64,
        after: Option<(i64, LogId)>,
        deadline: Deadline,
    ) -> Result<wire::Conversations, Failure> {
        let Page { items, next } = self.0.ask(AskedHeads { user, after, limit }, deadline).await?;
        Ok(wire::Conversations { items, more: next.is_some() })
    }
}

async fn run(pool: Pool, jobs: Vec<Job<AskedHeads, Page>>) {
    let Some(deadline) = latest(&jobs) else { return };
    let asked: Vec<AskedHeads> = jobs.iter().map(|job| job.asked).collect();
    let mut gathering = Gathering { waiting: jobs.into(), first: 0, rows: Vec::new() };
    let outcome = async {
        let connection = pool.get(deadline).await?;
        let mut each = |of, row| gathering.row(of, row);
        store::heads(&connection, &asked, deadline, &mut each).await.map_err(store::failed("heads"))
    }
    .await;
    match outcome {
        Ok(()) => gathering.answer_before(asked.len()),
        // What the statement gave before it failed has been answered.
        Err(failure) => gathering.waiting.into_iter().for_each(|job| job.answer(Err(failure.clone()))),
    }
}

/// Answers each one as soon as the rows of the next one come, so that no more than one page of a batch is held.
struct Gathering {
    waiting: VecDeque<Job<AskedHeads, Page>>,
    /// Which of those asked for is in front.
    first: usize,
    /// Its rows so far.
    rows: Vec<store::HeadRow>,
}

impl Gathering {
    fn row(&mut self, of: usize, row: store::HeadRow) {
        self.answer_before(of);
        self.rows.push(row);
    }

    fn answer_before(&mut self, of: usize) {
        while self.first < of
            && let Some(job) = self.waiting.pop_front()
        {
            let page = Page::of(std::mem::take(&mut self.rows), job.asked.limit);
            job.answer(Ok(page));
            self.first += 1;
        }
    }
}

impl Page {
    /// Of what was read: one more than is shown tells whether there is a next page.
    fn of(mut rows: Vec<store::HeadRow>, limit: u64) -> Self {
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().filter(|_| more).map(|row| row.place);
        Self { items: rows.into_iter().map(|row| row.head).collect(), next }
    }
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
