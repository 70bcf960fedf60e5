//! Which shards follow a log, and which logs have moved of late. Topics have a part of their own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_protocol::{LogId, Seq};
use dashmap::DashMap;

use super::named::Named;

/// What a publisher asks before it encodes anything.
///
/// A reader's place is read from the database before its shard follows the log, and entries may be published in between.
/// So every publish leaves its seq here for a while, followed or not. A publisher leaves its seq and then looks who
/// follows; a follower enters itself and then looks for seqs: one of them sees the other.
#[derive(Debug)]
pub(super) struct Registry {
    /// A bit a shard.
    followers: DashMap<LogId, u16>,
    recent: Mutex<Recent>,
    pub named: Named,
}

#[derive(Debug)]
struct Recent {
    newer: HashMap<LogId, Seq>,
    older: HashMap<LogId, Seq>,
    newer_since: Instant,
    older_since: Instant,
}

/// A bit each in the sixteen of a log.
pub(super) const MAX_SHARDS: usize = 16;
/// Longer than any read of a reader's place takes.
const KEPT: Duration = Duration::from_secs(15);
const MAX_RECENT: usize = 65_536;

impl Registry {
    pub(super) fn new(now: Instant) -> Self {
        let recent = Recent { newer: HashMap::new(), older: HashMap::new(), newer_since: now, older_since: now };
        Self { followers: DashMap::new(), recent: Mutex::new(recent), named: Named::default() }
    }

    /// The log has reached `seq`; returns the shards that follow it.
    pub(super) fn reached(&self, log: LogId, seq: Seq, now: Instant) -> Shards {
        self.recent(|recent| recent.note(log, seq, now));
        self.shards(log)
    }

    /// The shards that follow a log.
    pub(super) fn shards(&self, log: LogId) -> Shards {
        Shards(self.followers.get(&log).map_or(0, |bits| *bits))
    }

    /// From here on the shard gets what is published in this log. Returns the highest seq that was published since
    /// `read_at`, or 0; nothing if that is too long ago to say.
    pub(super) fn follow(&self, log: LogId, shard: u16, read_at: Instant) -> Option<Seq> {
        *self.followers.entry(log).or_default() |= 1 << shard;
        self.recent(|recent| recent.since(log, read_at))
    }

    pub(super) fn unfollow(&self, log: LogId, shard: u16) {
        self.followers.remove_if_mut(&log, |_, bits| {
            *bits &= !(1 << shard);
            *bits == 0
        });
    }

    fn recent<R>(&self, f: impl FnOnce(&mut Recent) -> R) -> R {
        f(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recent {
    fn note(&mut self, log: LogId, seq: Seq, now: Instant) {
        if now.saturating_duration_since(self.newer_since) > KEPT || self.newer.len() >= MAX_RECENT {
            self.older = std::mem::take(&mut self.newer);
            self.older_since = std::mem::replace(&mut self.newer_since, now);
        }
        let known = self.newer.entry(log).or_default();
        *known = seq.max(*known);
    }

    fn since(&self, log: LogId, read_at: Instant) -> Option<Seq> {
        let seqs = [&self.newer, &self.older].map(|seqs| seqs.get(&log).copied().unwrap_or(0));
        (read_at >= self.older_since).then(|| seqs[0].max(seqs[1]))
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shards(u16);

impl Shards {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_SHARDS).filter(move |shard| self.0 & 1 << shard != 0)
    }
}

impl FromIterator<usize> for Shards {
    fn from_iter<I: IntoIterator<Item = usize>>(shards: I) -> Self {
        Self(shards.into_iter().fold(0, |bits, shard| bits | 1 << shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_before_the_follower_came_is_known_for_a_while() {
        let start = Instant::now();
        let registry = Registry::new(start);
        let log = LogId::new();
        let at = |seconds| start + Duration::from_secs(seconds);

        assert!(registry.reached(log, 7, at(1)).is_empty());
        assert_eq!(registry.follow(log, 3, at(0)), Some(7));
        assert_eq!(registry.reached(log, 8, at(20)).iter().collect::<Vec<_>>(), [3]);
        assert_eq!(registry.follow(log, 4, at(15)), Some(8));
        registry.reached(LogId::new(), 1, at(40));
        assert_eq!(registry.follow(log, 4, at(10)), None, "older than what is kept");
        assert_eq!(registry.follow(log, 4, at(39)), Some(8));

        registry.unfollow(log, 3);
        assert_eq!(registry.shards(log).iter().collect::<Vec<_>>(), [4]);
        registry.unfollow(log, 4);
        assert!(registry.shards(log).is_empty());
    }
}
