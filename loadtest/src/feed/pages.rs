//! Asking for pages, and judging what comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_client::protocol::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::choice::Choice;
use super::doors::Doors;
use super::judge::Walk;
use super::people::Who;
use super::tally::{Page, Tally};
use crate::lateness::Watch;

/// All pages of a run.
pub(super) struct Pages {
    pub(super) doors: Arc<Doors>,
    pub(super) limit: u64,
    pub(super) lateness: Watch,
    readers: Vec<Reader>,
    tally: Mutex<Tally>,
    answered: AtomicU64,
    seen: Mutex<Seen>,
}

/// One who asks.
pub(super) struct Reader {
    who: Who,
    /// He follows somebody who wrote something.
    owed: bool,
    place: Mutex<Place>,
}

/// Where a reader is.
#[derive(Default)]
struct Place {
    /// He has had a page in this run.
    warm: bool,
    /// What he could go on with. Nothing while a page of it is under way.
    walk: Option<Walk>,
}

/// Posts that somebody was shown lately: what people like and comment on.
#[derive(Default)]
struct Seen {
    posts: Vec<Uuid>,
    next: usize,
}

const SEEN: usize = 1_024;
/// A page that has not come by then never does.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages under way at once; who would be one more gets none, and that is counted.
const OPEN: usize = 20_000;

impl Reader {
    pub(super) fn new(who: Who, owed: bool) -> Self {
        Self { who, owed, place: Mutex::default() }
    }
}

impl Pages {
    pub(super) fn new(doors: Arc<Doors>, readers: Vec<Reader>, limit: u64, lateness: Watch, tally: Tally) -> Self {
        let (tally, answered, seen) = (Mutex::new(tally), AtomicU64::new(0), Mutex::default());
        Self { doors, limit, lateness, readers, tally, answered, seen }
    }

    /// A page at each turn, until there are no more or everybody had his; then what is under way. `deeper` is the share of those
    /// that go on in a ranking.
    pub(super) async fn run(self: Arc<Self>, mut turns: mpsc::Receiver<Instant>, mut choice: Choice, deeper: f64) {
        let mut open = JoinSet::new();
        while let Some(meant) = turns.recv().await {
            let Some(n) = choice.next() else { break };
            while open.try_join_next().is_some() {}
            if open.len() >= OPEN {
                self.tally().not_asked(meant);
                continue;
            }
            open.spawn(Arc::clone(&self).turn(n, meant, choice.happens(deeper)));
        }
        while open.join_next().await.is_some() {}
    }

    /// One page, timed from when it was meant to be asked for.
    pub(super) async fn turn(self: Arc<Self>, n: usize, meant: Instant, deeper: bool) {
        let reader = &self.readers[n];
        let (mut walk, warm) = reader.begin(deeper);
        let cursor = walk.cursor().cloned();
        let further = cursor.is_some();
        let asked = self.doors.page(n, &reader.who, self.limit, cursor);
        match timeout_at(meant + PATIENCE, asked).await {
            Err(_) => self.tally().unanswered(meant),
            Ok(Err(refused)) => self.tally().refused(meant, &refused.name, further),
            Ok(Ok((page, at))) => {
                self.remember(&page);
                let wrong = walk.take(&page, reader.owed);
                let took = at.saturating_duration_since(meant);
                self.tally().page(Page {
                    meant,
                    took,
                    machine_late: self.lateness.since(meant),
                    warm,
                    further,
                    wrong,
                    degraded: &page.degraded,
                });
                self.answered.fetch_add(1, Ordering::Relaxed);
                reader.end(walk);
            }
        }
    }

    /// How many ask.
    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the posts that were shown lately.
    pub(super) fn some_post(&self, dice: usize) -> Option<Uuid> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (!seen.posts.is_empty()).then(|| seen.posts[dice % seen.posts.len()])
    }

    fn remember(&self, page: &wire::FeedPage) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for post in page.items.iter().filter_map(|item| Uuid::from_slice(&item.post.as_ref()?.post_id).ok()) {
            if seen.posts.len() < SEEN {
                seen.posts.push(post);
            } else {
                let next = seen.next;
                seen.posts[next] = post;
                seen.next = (next + 1) % SEEN;
            }
        }
    }
}

impl Reader {
    /// What he goes on with, or a reading that begins; and whether he has had a page before.
    fn begin(&self, deeper: bool) -> (Walk, bool) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let walk = if deeper { place.walk.take() } else { None };
        (walk.unwrap_or_default(), place.warm)
    }

    fn end(&self, walk: Walk) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.warm = true;
        place.walk = Some(walk).filter(Walk::goes_on);
    }
}
