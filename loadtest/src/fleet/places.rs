//! Where a socket stands in what it follows, and what came otherwise than once and in order. Pure.
//!
//! In a fleet's conversations every entry is for every member, so each seq must come: strictly more than the protocol
//! promises in general. One that was jumped over is lost until it comes after all; then it is reordered.

use serde::{Deserialize, Serialize};

/// One socket's place in one target. Compact: a socket has several, and there are many sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number of the conversation or topic.
    pub(crate) target: u32,
    pub(crate) seq: u64,
}

/// Before the server has said where it begins.
pub(crate) const UNKNOWN: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// Another body than was sent under this seq.
    pub(crate) altered: u64,
    /// Of a log that this socket does not follow.
    pub(crate) foreign: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.foreign += other.foreign;
    }
}

/// What one socket has not seen although it has seen later ones: ranges, both ends included. Empty in a run that is good.
/// Beyond [`RANGES`] the last ones are forgotten; if they come after all, they count as lost and as repeated.
#[derive(Debug, Default)]
pub(crate) struct Missing(Vec<(u32, u64, u64)>);

const RANGES: usize = 1_024;

impl Place {
    /// Takes the next entry or message; whether it was to come.
    pub(crate) fn take(&mut self, seq: u64, missing: &mut Missing, faults: &mut Faults) -> bool {
        if seq > self.seq {
            self.cover(seq - 1, missing, faults);
            self.seq = seq;
            return true;
        }
        let late = missing.fill(self.target, seq);
        if late {
            faults.lost -= 1;
            faults.reordered += 1;
        } else {
            faults.repeated += 1;
        }
        late
    }

    /// Everything up to `to` has been covered: what did not come of it does not come any more.
    pub(crate) fn cover(&mut self, to: u64, missing: &mut Missing, faults: &mut Faults) {
        if to > self.seq {
            faults.lost += to - self.seq;
            if missing.0.len() < RANGES {
                missing.0.push((self.target, self.seq + 1, to));
            }
            self.seq = to;
        }
    }
}

impl Missing {
    fn fill(&mut self, target: u32, seq: u64) -> bool {
        let Some(at) = self.0.iter().position(|(t, from, to)| *t == target && (*from..=*to).contains(&seq)) else {
            return false;
        };
        let (_, from, to) = self.0.swap_remove(at);
        let parts = [(target, from, seq - 1), (target, seq + 1, to)];
        self.0.extend(parts.into_iter().filter(|(_, from, to)| from <= to));
        true
    }
}

/// What all sockets of a process must see under one target's seqs: who sees another body has not seen what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bodies {
    highest_seq: u64,
    /// From `since` on, a message's number is its seq and this (wrapping).
    offset: u64,
    since: u64,
}

impl Bodies {
    /// Whether this number may stand under this seq. Numbers that were refused leave gaps, but never go back.
    pub(crate) fn agree(&mut self, seq: u64, number: u32) -> bool {
        let offset = u64::from(number).wrapping_sub(seq);
        if seq > self.highest_seq {
            let back = self.highest_seq > 0 && (offset.wrapping_sub(self.offset) as i64) < 0;
            if self.highest_seq == 0 || offset != self.offset {
                (self.offset, self.since) = (offset, seq);
            }
            self.highest_seq = seq;
            return !back;
        }
        seq < self.since || offset == self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seen: &[u64], covered: u64) -> (u64, u64, u64) {
        let mut place = Place { target: 3, seq: 10 };
        let (mut missing, mut faults) = (Missing::default(), Faults::default());
        for seq in seen {
            place.take(*seq, &mut missing, &mut faults);
        }
        place.cover(covered, &mut missing, &mut faults);
        (faults.lost, faults.repeated, faults.reordered)
    }

    #[test]
    fn each_planted_fault_is_found_and_named() {
        for (seen, covered, found) in [
            (&[11, 12, 13][..], 13, (0, 0, 0)),
            (&[], 10, (0, 0, 0)),
            (&[11, 13], 13, (1, 0, 0)),
            (&[14], 14, (3, 0, 0)),
            (&[11, 12], 13, (1, 0, 0)),
            (&[], 13, (3, 0, 0)),
            (&[11, 12, 12, 13], 13, (0, 1, 0)),
            (&[11, 12, 13, 11], 13, (0, 1, 0)),
            (&[10, 11], 11, (0, 1, 0)),
            (&[12, 11, 13], 13, (0, 0, 1)),
            (&[13, 12, 11], 13, (0, 0, 2)),
            (&[13, 11, 11], 13, (1, 1, 1)),
            (&[15, 13, 12, 14, 11], 15, (0, 0, 4)),
        ] {
            assert_eq!(faults(seen, covered), found, "{seen:?} up to {covered}");
        }
    }

    #[test]
    fn what_is_missing_in_one_target_is_not_filled_by_another() {
        let (mut missing, mut faults) = (Missing::default(), Faults::default());
        let (mut a, mut b) = (Place { target: 1, seq: 0 }, Place { target: 2, seq: 0 });
        a.take(2, &mut missing, &mut faults);
        b.take(1, &mut missing, &mut faults);
        b.take(1, &mut missing, &mut faults);
        assert_eq!((faults.lost, faults.repeated, faults.reordered), (1, 1, 0));
    }

    #[test]
    fn a_body_under_the_wrong_seq_is_found() {
        let check = |seen: &[(u64, u32)], last: bool| {
            let mut bodies = Bodies::default();
            let (end, before) = seen.split_last().expect("some");
            before.iter().for_each(|(seq, number)| assert!(bodies.agree(*seq, *number), "{seen:?}"));
            assert_eq!(bodies.agree(end.0, end.1), last, "{seen:?}");
        };
        check(&[(5, 0), (6, 1), (5, 0), (7, 2)], true);
        check(&[(5, 0), (6, 1), (6, 0)], false);
        check(&[(5, 0), (6, 1), (7, 1)], false);
        // Number 2 was refused.
        check(&[(5, 0), (6, 1), (7, 3), (6, 1), (8, 4)], true);
        check(&[(5, 0), (6, 1), (7, 3), (7, 2)], false);
        check(&[(1, 0), (2, 1)], true);
    }
}
