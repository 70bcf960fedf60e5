//! What a fleet counts and times.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::places::Faults;
use crate::times::Percentiles;

/// Since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// To readers.
    pub(crate) deliveries: u64,
    /// To those who publish, of what they have sent themselves.
    pub(crate) echoes: u64,
    pub(crate) faults: Faults,
    /// `gap_too_large`, `trimmed`, `reset`, `not_found`: losses that are said.
    pub(crate) said_losses: u64,
    /// Connections that ended unasked.
    pub(crate) sockets_lost: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.echoes += other.echoes;
        self.faults.add(other.faults);
        self.said_losses += other.said_losses;
        self.sockets_lost += other.sockets_lost;
        self.sent += other.sent;
        self.acked += other.acked;
        self.refused += other.refused;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// From the intended send to the reader.
    Deliver,
    /// The same, to readers beside.
    Beside,
    /// The same, to readers that have stopped reading at some time.
    Slow,
    /// From the intended send to its ack.
    Ack,
    /// From the first attempt to connect to being there.
    Enter,
    /// How late a message was written, after it was meant to be: it is in the other times.
    Late,
}

const KINDS: [Kind; 6] = [Kind::Deliver, Kind::Beside, Kind::Slow, Kind::Ack, Kind::Enter, Kind::Late];

/// A histogram for each kind of time.
#[derive(Clone, Debug)]
pub(crate) struct Times([Histogram<u64>; KINDS.len()]);

/// Times of one kind for a pipe: each value in µs with how often it was.
pub(crate) type Sparse = (Kind, Vec<(u64, u64)>);

/// The longest that is told apart.
const MOST_US: u64 = 600_000_000;

impl Default for Times {
    fn default() -> Self {
        // Bounds and figures are constants that the histogram accepts.
        #[allow(clippy::expect_used)]
        Self(std::array::from_fn(|_| Histogram::new_with_bounds(1, MOST_US, 3).expect("valid bounds")))
    }
}

impl Times {
    pub(crate) fn record(&mut self, kind: Kind, from_ns: u64, to_ns: u64) {
        self.0[kind as usize].saturating_record((to_ns.saturating_sub(from_ns) / 1_000).max(1));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            // Both have the same bounds, so it fits.
            let _ = own.add(other);
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> &Histogram<u64> {
        &self.0[kind as usize]
    }

    pub(crate) fn percentiles(&self, kind: Kind) -> Percentiles {
        Percentiles::of(self.of(kind))
    }

    /// What there is of one kind, which starts anew.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Percentiles> {
        let times = &mut self.0[kind as usize];
        let taken = (!times.is_empty()).then(|| Percentiles::of(times));
        times.reset();
        taken
    }

    /// Everything, and starts anew.
    pub(crate) fn drain(&mut self) -> Vec<Sparse> {
        let mut all = Vec::new();
        for kind in KINDS {
            let times = &mut self.0[kind as usize];
            if !times.is_empty() {
                let values = times.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
                all.push((kind, values));
                times.reset();
            }
        }
        all
    }

    pub(crate) fn add(&mut self, all: &[Sparse]) {
        for (kind, values) in all {
            for (value, count) in values {
                self.0[*kind as usize].saturating_record_n(*value, *count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same_behind_a_pipe() {
        let (mut times, mut got) = (Times::default(), Times::default());
        for n in 1..10_000u64 {
            times.record(Kind::Deliver, 5, n * 7_919);
            times.record(Kind::Ack, 0, n * n * 1_000);
        }
        let before = times.clone();
        got.add(&times.drain());
        assert!(times.of(Kind::Deliver).is_empty());
        for kind in KINDS {
            assert_eq!(got.of(kind), before.of(kind), "{kind:?}");
        }
    }
}
