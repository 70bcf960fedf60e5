//! Reads pages for all shards: each one once, a log's missing ones in one statement, a bounded number at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::LogId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::tail::{Page, PageRead, PageSource};

use super::inbox::{Arrived, Inbox};

/// A shard asks for a page; all asks of one of its turns come together, so that those of one log meet in a statement. It
/// has asked for a bounded number, so the channel has no bound of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub log: LogId,
    pub page: u64,
    pub shard: u16,
}

/// Pages of one statement.
const MAX_PAGES: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Logs that have something to read. A log is read by one statement at a time.
#[derive(Debug, Default)]
struct Wanted {
    logs: HashMap<LogId, Pages>,
    ready: VecDeque<LogId>,
}

#[derive(Debug, Default)]
struct Pages {
    /// Pages, each with the shards that wait for it.
    next: Vec<(u64, Vec<u16>)>,
    running: Vec<(u64, Vec<u16>)>,
}

/// Serves asks until all shards are gone. A read that fails is tried again until it succeeds: nobody could go on without.
pub(super) async fn serve<S: PageSource, T, D>(
    source: S,
    mut asks: UnboundedReceiver<Vec<Ask>>,
    inboxes: Vec<Arc<Inbox<T, D>>>,
    reads_at_once: usize,
) {
    let source = Arc::new(source);
    let permits = Arc::new(Semaphore::new(reads_at_once));
    let mut wanted = Wanted::default();
    let mut reads = JoinSet::new();
    loop {
        tokio::select! {
            turn = asks.recv() => match turn {
                Some(asks) => asks.into_iter().for_each(|ask| wanted.add(ask)),
                None => return,
            },
            Ok(permit) = Arc::clone(&permits).acquire_owned(), if !wanted.ready.is_empty() => {
                if let Some((log, pages)) = wanted.begin() {
                    reads.spawn(read(Arc::clone(&source), log, pages, permit));
                }
            }
            Some(read) = reads.join_next() => match read {
                Ok((log, read, permit)) => deliver(&mut wanted, log, &read, permit, &inboxes),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}

async fn read<S: PageSource>(
    source: Arc<S>,
    log: LogId,
    pages: Vec<u64>,
    permit: OwnedSemaphorePermit,
) -> (LogId, PageRead, OwnedSemaphorePermit) {
    let mut pause = FIRST_RETRY;
    loop {
        match source.read_pages(log, &pages).await {
            Ok(read) => return (log, read, permit),
            Err(failure) => {
                tracing::warn!(%failure, %log, "pages could not be read; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}

fn deliver<T, D>(
    wanted: &mut Wanted,
    log: LogId,
    read: &PageRead,
    permit: OwnedSemaphorePermit,
    inboxes: &[Arc<Inbox<T, D>>],
) {
    let permit = Arc::new(permit);
    for (number, shards) in wanted.end(log) {
        let page = Arc::new(Page::new(number, read));
        for shard in shards {
            let arrived = Arrived { log, page: Arc::clone(&page), _permit: Arc::clone(&permit) };
            inboxes[usize::from(shard)].arrived(arrived);
        }
    }
}

impl Wanted {
    fn add(&mut self, Ask { log, page, shard }: Ask) {
        let pages = self.logs.entry(log).or_default();
        // Who asks again for a page that it has just got needs a younger read; one that began before is no help, but
        // it can't be told apart here, and the shard will ask once more.
        if let Some((_, shards)) = pages.running.iter_mut().chain(&mut pages.next).find(|(number, _)| *number == page) {
            shards.push(shard);
            return;
        }
        if pages.next.is_empty() && pages.running.is_empty() {
            self.ready.push_back(log);
        }
        pages.next.push((page, vec![shard]));
    }

    fn begin(&mut self) -> Option<(LogId, Vec<u64>)> {
        let log = self.ready.pop_front()?;
        let pages = self.logs.get_mut(&log)?;
        let n = pages.next.len().min(MAX_PAGES);
        pages.running = pages.next.drain(..n).collect();
        Some((log, pages.running.iter().map(|(number, _)| *number).collect()))
    }

    fn end(&mut self, log: LogId) -> Vec<(u64, Vec<u16>)> {
        let Some(pages) = self.logs.get_mut(&log) else { return Vec::new() };
        let read = std::mem::take(&mut pages.running);
        if pages.next.is_empty() {
            self.logs.remove(&log);
        } else {
            self.ready.push_back(log);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_by_one_statement_and_a_page_once() {
        let (a, b) = (LogId::new(), LogId::new());
        let mut wanted = Wanted::default();
        for (log, page, shard) in [(a, 1, 0), (a, 2, 0), (b, 1, 0), (a, 1, 1)] {
            wanted.add(Ask { log, page, shard });
        }
        assert_eq!(wanted.begin(), Some((a, vec![1, 2])));
        wanted.add(Ask { log: a, page: 2, shard: 1 });
        wanted.add(Ask { log: a, page: 3, shard: 0 });
        assert_eq!(wanted.begin(), Some((b, vec![1])));
        assert_eq!(wanted.begin(), None, "a is being read");
        assert_eq!(wanted.end(a), [(1, vec![0, 1]), (2, vec![0, 1])]);
        assert_eq!(wanted.begin(), Some((a, vec![3])));
        wanted.end(a);
        wanted.end(b);
        assert!(wanted.logs.is_empty() && wanted.ready.is_empty());
    }
}
