//! How far this user has read, sent at most once in [`EVERY`] a conversation: latest wins. No socket, no clock.

use std::collections::HashMap;
use std::time::Duration;

use bowline_protocol::{LogId, Seq};
use tokio::time::Instant;

pub(crate) const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Reads(HashMap<LogId, Read>);

#[derive(Debug, Default)]
struct Read {
    /// What is still to be sent.
    due: Option<Seq>,
    sent: Option<(Seq, Instant)>,
}

impl Reads {
    pub(crate) fn mark(&mut self, log: LogId, seq: Seq) {
        let read = self.0.entry(log).or_default();
        if read.sent.is_none_or(|(sent, _)| seq > sent) {
            read.due = read.due.max(Some(seq));
        }
    }

    pub(crate) fn next(&mut self, now: Instant) -> Option<(LogId, Seq)> {
        let (log, read) = self.0.iter_mut().find(|(_, read)| read.due.is_some() && read.may_go(now))?;
        let seq = read.due.take()?;
        read.sent = Some((seq, now));
        Some((*log, seq))
    }

    /// What was sent last may not have arrived: it goes again.
    pub(crate) fn disconnected(&mut self) {
        for read in self.0.values_mut() {
            if let Some((seq, _)) = read.sent.take() {
                read.due = read.due.max(Some(seq));
            }
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let due = self.0.values().filter(|read| read.due.is_some());
        due.filter_map(|read| read.sent.map(|(_, at)| at + EVERY)).min()
    }

    /// What has been told and is old enough not to matter is forgotten.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, read| read.due.is_some() || !read.may_go(now));
    }
}

impl Read {
    fn may_go(&self, now: Instant) -> bool {
        self.sent.is_none_or(|(_, at)| now >= at + EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: u128) -> LogId {
        LogId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn the_first_at_once_then_the_latest_every_two_seconds() {
        let (mut reads, start) = (Reads::default(), Instant::now());
        reads.mark(log(1), 5);
        assert_eq!(reads.next(start), Some((log(1), 5)));
        for seq in [6, 9, 8] {
            reads.mark(log(1), seq);
        }
        assert_eq!((reads.next(start), reads.wake_at()), (None, Some(start + EVERY)));
        assert_eq!(reads.next(start + EVERY), Some((log(1), 9)));
        reads.mark(log(1), 9);
        assert_eq!((reads.next(start + 3 * EVERY), reads.wake_at()), (None, None));
    }

    #[test]
    fn conversations_do_not_wait_for_each_other_and_a_cut_sends_again() {
        let (mut reads, start) = (Reads::default(), Instant::now());
        reads.mark(log(1), 5);
        reads.mark(log(2), 6);
        assert!(reads.next(start).is_some() && reads.next(start).is_some());
        reads.disconnected();
        let mut again = [reads.next(start), reads.next(start)];
        again.sort();
        assert_eq!(again, [Some((log(1), 5)), Some((log(2), 6))]);
        reads.forget(start + EVERY);
        assert!(reads.0.is_empty());
    }
}
