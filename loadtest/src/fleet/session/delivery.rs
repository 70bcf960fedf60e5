//! Deliveries: each is checked, counted and timed.

use bowline_client::protocol::{LogId, Seq};

use super::Session;
use crate::fleet::clock;
use crate::fleet::frame::Items;
use crate::fleet::places::UNKNOWN;
use crate::fleet::shared::{Shared, Who};
use crate::fleet::stamp::Stamp;
use crate::fleet::tally::Kind;

impl Session {
    pub(super) fn entries(
        &mut self,
        log: LogId,
        after_seq: Seq,
        to_seq: Seq,
        mut items: Items<'_>,
        shared: &mut Shared,
    ) -> anyhow::Result<()> {
        if let Who::Publisher(_) = self.who {
            while let Some(item) = items.next()? {
                shared.counts.echoes += u64::from(item.body.and_then(Stamp::of).is_some());
            }
            return Ok(());
        }
        let target = shared.logs.get(&log).copied();
        let Some(at) = target.and_then(|target| self.places.iter().position(|place| place.target == target)) else {
            if log == shared.user(self.who).log() {
                self.user_seq = to_seq;
            } else {
                shared.counts.faults.foreign += 1;
            }
            return Ok(());
        };
        let place = &mut self.places[at];
        place.cover(after_seq, &mut self.missing, &mut shared.counts.faults);
        while let Some(item) = items.next()? {
            if place.take(item.seq, &mut self.missing, &mut shared.counts.faults) {
                seen(self.who, self.slow, place.target, item.seq, item.body, shared);
            }
        }
        place.cover(to_seq, &mut self.missing, &mut shared.counts.faults);
        Ok(())
    }

    pub(super) fn topic_message(&mut self, topic: &str, seq: Seq, body: &[u8], shared: &mut Shared) {
        let who = (self.who, self.slow);
        let Some(at) = self.place_of(topic).filter(|place| place.seq != UNKNOWN).map(|place| place.target) else {
            shared.counts.faults.foreign += 1;
            return;
        };
        if let Some(place) = self.places.iter_mut().find(|place| place.target == at)
            && place.take(seq, &mut self.missing, &mut shared.counts.faults)
        {
            seen(who.0, who.1, at, seq, Some(body), shared);
        }
    }
}

/// Counts and times a delivery that was to come.
fn seen(who: Who, slow: bool, target: u32, seq: Seq, body: Option<&[u8]>, shared: &mut Shared) {
    let Some(stamp) = body.and_then(Stamp::of) else { return };
    let now = clock::now_ns();
    shared.counts.deliveries += 1;
    let beside = matches!(who, Who::Reader(n) if shared.plan.seats.is_beside(n));
    let kind = match (beside, slow) {
        (true, _) => Kind::Beside,
        (false, true) => Kind::Slow,
        (false, false) => Kind::Deliver,
    };
    shared.times.record(kind, stamp.meant_ns, now);
    if let Some(bodies) = shared.bodies.get_mut(target as usize)
        && !bodies.agree(seq, stamp.number)
    {
        shared.counts.faults.altered += 1;
        shared.complain(|| format!("message {} of target {target} came under seq {seq}", stamp.number));
    }
}
