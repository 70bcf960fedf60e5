//! What all pages came to: in all, and between the moments at which something was done to the servers.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_client::protocol::wire::FeedSource;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::judge::{Wrong, too_late};
use crate::times::{Percentiles, Times};

/// A page that was answered.
pub(super) struct Page<'a> {
    pub(super) meant: Instant,
    pub(super) took: Duration,
    /// The most that the machine was late in the same time.
    pub(super) machine_late: Duration,
    /// Its reader has had one before in this run.
    pub(super) warm: bool,
    /// It goes on in a ranking.
    pub(super) further: bool,
    pub(super) wrong: Wrong,
    pub(super) degraded: &'a [i32],
}

pub(super) struct Tally {
    start: Instant,
    pub(super) all: Times,
    pub(super) warm: Times,
    pub(super) cold: Times,
    pub(super) further: Times,
    phases: Vec<Phase>,
    /// By how much the worst of the late ones was too late.
    pub(super) worst_late: Duration,
}

/// From one moment until the next.
struct Phase {
    from: Duration,
    times: Histogram<u64>,
    counts: Counts,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) pages: u64,
    /// First pages without a post, for one who follows somebody who wrote something.
    pub(super) empty: u64,
    /// For others.
    pub(super) empty_of_strangers: u64,
    pub(super) late: u64,
    /// Pages beyond 450 ms by less than the machine itself was late.
    pub(super) late_with_the_machine: u64,
    pub(super) repeated: u64,
    pub(super) degraded: Degraded,
    /// Rankings that were gone when their reader wanted to go on.
    pub(super) cursor_expired: u64,
    /// Not asked at all, since too many were under way.
    pub(super) not_asked: u64,
    pub(super) unanswered: u64,
    pub(super) refused: BTreeMap<String, u64>,
}

/// Pages that lacked a part, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Degraded {
    pub(super) pages: u64,
    pub(super) followee: u64,
    pub(super) trending: u64,
    pub(super) affinity: u64,
}

/// A phase as it is told.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    pub(super) from_s: f64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) page: Percentiles,
}

const CURSOR_EXPIRED: &str = "cursor_expired";

impl Tally {
    /// `moments` count from the start and rise.
    pub(super) fn new(start: Instant, moments: &[Duration]) -> Self {
        let phase = |from: Duration| Phase { from, times: Times::histogram(), counts: Counts::default() };
        let phases = std::iter::once(Duration::ZERO).chain(moments.iter().copied()).map(phase).collect();
        let [all, warm, cold, further] = std::array::from_fn(|_| Times::new());
        Self { start, all, warm, cold, further, phases, worst_late: Duration::ZERO }
    }

    pub(super) fn page(&mut self, page: Page<'_>) {
        let late = too_late(page.took, page.machine_late);
        let over = !too_late(page.took, Duration::ZERO).is_zero();
        self.worst_late = self.worst_late.max(late);
        self.all.record(page.took);
        match (page.further, page.warm) {
            (true, _) => self.further.record(page.took),
            (false, true) => self.warm.record(page.took),
            (false, false) => self.cold.record(page.took),
        }
        let Phase { times, counts, .. } = self.phase(page.meant);
        Times::record_in(times, page.took);
        counts.pages += 1;
        counts.empty += u64::from(page.wrong.empty);
        counts.empty_of_strangers += u64::from(page.wrong.empty_of_stranger);
        counts.repeated += page.wrong.repeated;
        counts.late += u64::from(!late.is_zero());
        counts.late_with_the_machine += u64::from(over && late.is_zero());
        counts.degraded.add(page.degraded);
    }

    pub(super) fn refused(&mut self, meant: Instant, name: &str, further: bool) {
        let counts = &mut self.phase(meant).counts;
        if further && name == CURSOR_EXPIRED {
            counts.cursor_expired += 1;
        } else {
            *counts.refused.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn unanswered(&mut self, meant: Instant) {
        self.phase(meant).counts.unanswered += 1;
    }

    pub(super) fn not_asked(&mut self, meant: Instant) {
        self.phase(meant).counts.not_asked += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.phases.iter().fold(Counts::default(), |sum, phase| sum.plus(&phase.counts))
    }

    pub(super) fn phases(&self) -> Vec<Told> {
        let told = |phase: &Phase| Told {
            from_s: phase.from.as_secs_f64(),
            counts: phase.counts.clone(),
            page: Percentiles::of(&phase.times),
        };
        self.phases.iter().map(told).collect()
    }

    /// Each page is asked once, and belongs to the phase in which it was meant to be.
    fn phase(&mut self, meant: Instant) -> &mut Phase {
        let at = meant.saturating_duration_since(self.start);
        let n = self.phases.partition_point(|phase| phase.from <= at).max(1) - 1;
        self.phases[n].counts.asked += 1;
        &mut self.phases[n]
    }
}

impl Counts {
    pub(super) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    fn plus(mut self, other: &Self) -> Self {
        self.asked += other.asked;
        self.pages += other.pages;
        self.empty += other.empty;
        self.empty_of_strangers += other.empty_of_strangers;
        self.late += other.late;
        self.late_with_the_machine += other.late_with_the_machine;
        self.repeated += other.repeated;
        self.degraded.pages += other.degraded.pages;
        self.degraded.followee += other.degraded.followee;
        self.degraded.trending += other.degraded.trending;
        self.degraded.affinity += other.degraded.affinity;
        self.cursor_expired += other.cursor_expired;
        self.not_asked += other.not_asked;
        self.unanswered += other.unanswered;
        for (name, count) in &other.refused {
            *self.refused.entry(name.clone()).or_default() += count;
        }
        self
    }
}

impl Degraded {
    fn add(&mut self, sources: &[i32]) {
        self.pages += u64::from(!sources.is_empty());
        for source in sources.iter().filter_map(|source| FeedSource::try_from(*source).ok()) {
            match source {
                FeedSource::Followee => self.followee += 1,
                FeedSource::Trending => self.trending += 1,
                FeedSource::Affinity => self.affinity += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn page(meant: Instant, took_ms: u32, machine_ms: u32, wrong: Wrong) -> Page<'static> {
        let (took, machine_late) = (MS * took_ms, MS * machine_ms);
        Page { meant, took, machine_late, warm: false, further: false, wrong, degraded: &[] }
    }

    #[test]
    fn what_is_planted_is_found_in_its_phase() {
        let start = Instant::now();
        let mut tally = Tally::new(start, &[MS * 1_000, MS * 2_000]);
        let at = |ms: u32| start + MS * ms;
        let good = Wrong::default();
        tally.page(page(at(0), 10, 0, good));
        tally.page(page(at(999), 700, 0, good));
        tally.page(page(at(1_000), 500, 60, good));
        tally.page(page(at(1_001), 10, 0, Wrong { empty: true, ..good }));
        tally.page(page(at(2_500), 10, 0, Wrong { repeated: 3, ..good }));
        tally.page(Page { degraded: &[FeedSource::Followee as i32, 2], ..page(at(2_500), 10, 0, good) });
        tally.refused(at(1_500), CURSOR_EXPIRED, true);
        tally.refused(at(1_500), CURSOR_EXPIRED, false);
        tally.unanswered(at(5_000));
        let phases = tally.phases();
        let told: Vec<_> =
            phases.iter().map(|p| (p.counts.asked, p.counts.pages, p.counts.late, p.counts.empty)).collect();
        assert_eq!(told, [(2, 2, 1, 0), (4, 2, 0, 1), (3, 2, 0, 0)]);
        let [_, middle, last] = &phases[..] else { panic!("three") };
        assert_eq!(
            (middle.counts.late_with_the_machine, middle.counts.cursor_expired, middle.counts.refusals()),
            (1, 1, 1)
        );
        assert_eq!((last.counts.repeated, last.counts.unanswered), (3, 1));
        assert_eq!(last.counts.degraded, Degraded { pages: 1, followee: 1, trending: 0, affinity: 1 });
        assert!((phases[0].page.max_ms - 700.0).abs() < 1.0 && phases[0].page.count == 2);
        let all = tally.counts();
        assert_eq!((all.asked, all.pages, all.late, all.empty, all.repeated), (9, 6, 1, 1, 3));
        assert_eq!((tally.worst_late, tally.all.percentiles().count), (MS * 250, 6));
    }
}
