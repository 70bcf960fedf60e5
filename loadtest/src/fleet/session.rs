//! What a socket of a fleet says and hears once it may send frames: it authenticates, names where it stands, and then
//! checks each delivery. Does no I/O.

mod delivery;

use std::time::Duration;

use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{LogId, Seq, wire};

use super::clock;
use super::frame::Frame;
use super::link::{End, Heard, Out};
use super::places::{Missing, Place, UNKNOWN};
use super::shared::{Shared, Who};
use super::tally::Kind;

pub(crate) struct Session {
    pub(crate) who: Who,
    /// Follows all that it is to follow.
    pub(crate) present: bool,
    /// Has everything that is expected.
    pub(crate) whole: bool,
    /// Its deliveries are timed apart, since it stopped reading at some time.
    pub(crate) slow: bool,
    /// When it was first meant to be there; 0 once it is.
    pub(crate) wanted_ns: u64,
    user_seq: Seq,
    places: Box<[Place]>,
    missing: Missing,
}
/// What a server lets one `resume` name.
const CURSORS: usize = 256;

impl Session {
    pub(crate) fn new(who: Who, follows: impl Iterator<Item = u32>) -> Self {
        Self {
            who,
            present: false,
            whole: false,
            slow: false,
            wanted_ns: 0,
            user_seq: UNKNOWN,
            places: follows.map(|target| Place { target, seq: UNKNOWN }).collect(),
            missing: Missing::default(),
        }
    }

    pub(crate) fn hear(&mut self, heard: Heard<'_>, out: &mut Out, shared: &mut Shared) -> Result<(), End> {
        match heard {
            Heard::Upgraded => self.connect(out, shared)?,
            Heard::Frame(Frame::Entries { log, after_seq, to_seq, items }) => {
                self.entries(log, after_seq, to_seq, items, shared)?;
            }
            Heard::Frame(Frame::Topic { topic, seq, body }) => self.topic_message(topic, seq, body, shared),
            Heard::Frame(Frame::Other(id, push)) => return self.other(id, push, out, shared),
        }
        Ok(())
    }

    /// Deliveries that are missing of what is expected.
    pub(crate) fn behind(&self, expected: &[Seq]) -> u64 {
        let behind = |place: &Place| {
            let known = if place.seq == UNKNOWN { 0 } else { place.seq };
            expected.get(place.target as usize).map_or(0, |seq| seq.saturating_sub(known))
        };
        self.places.iter().map(behind).sum()
    }

    /// Its connection is over; what was in it is gone.
    pub(crate) fn leave(&mut self, shared: &mut Shared) {
        if std::mem::take(&mut self.present) {
            shared.present -= 1;
        }
        if shared.plan.topics {
            self.places.iter_mut().for_each(|place| place.seq = UNKNOWN);
        }
    }

    fn connect(&self, out: &mut Out, shared: &Shared) -> anyhow::Result<()> {
        let user = shared.user(self.who);
        let client = wire::ClientInfo { name: "bowline-loadtest".into(), version: env!("CARGO_PKG_VERSION").into() };
        let user_cursor =
            self.known().then(|| wire::Cursor { log_id: user.to_wire(), seq: self.user_seq, epoch: shared.epoch });
        let connect = wire::Connect {
            access_token: shared.minting.token(user)?,
            client: Some(client),
            user_cursor,
            ..Default::default()
        };
        out.ask(shared.codec, Ask::Connect(connect));
        Ok(())
    }

    /// Where it stands in everything is known, so that it can go on from there.
    fn known(&self) -> bool {
        self.user_seq != UNKNOWN && self.places.iter().all(|place| place.seq != UNKNOWN)
    }

    fn resume(&self, out: &mut Out, shared: &Shared) {
        let mut rest = Vec::new();
        if self.known() && !shared.plan.topics {
            rest.extend(self.places.iter().filter_map(|place| {
                let log_id = shared.publishing.logs.get(place.target as usize)?.to_wire();
                Some(wire::Cursor { log_id, seq: place.seq, epoch: shared.epoch })
            }));
        }
        loop {
            let later = rest.split_off(rest.len().min(CURSORS));
            let more = !later.is_empty();
            out.ask(shared.codec, Ask::Resume(wire::Resume { cursors: rest, more }));
            if !more {
                return;
            }
            rest = later;
        }
    }

    fn other(&mut self, id: Option<u64>, push: Push, out: &mut Out, shared: &mut Shared) -> Result<(), End> {
        let now = clock::now_ns();
        match push {
            Push::Connected(connected) => {
                shared.epoch = connected.epoch;
                shared.heartbeat = Duration::from_millis(connected.heartbeat_interval_ms);
                self.resume(out, shared);
            }
            Push::Resumed(_) if shared.plan.topics => {
                for place in &self.places {
                    let topic = shared.topic(place.target);
                    out.ask(shared.codec, Ask::TopicSubscribe(wire::TopicSubscribe { topic }));
                }
                // Without a user cursor a snapshot comes first.
                if self.user_seq != UNKNOWN && self.places.is_empty() {
                    self.enter(now, shared);
                }
            }
            Push::Resumed(_) if self.known() => self.enter(now, shared),
            Push::Heads(heads) => self.heads(&heads, now, shared)?,
            Push::TopicSubscribed(subscribed) => {
                if let Some(place) = self.place_of(&subscribed.topic) {
                    place.seq = subscribed.seq;
                    shared.starts[place.target as usize] = subscribed.seq;
                }
                if self.known() {
                    self.enter(now, shared);
                }
            }
            Push::GapTooLarge(gap) => {
                shared.counts.said_losses += 1;
                let place = self.place(&gap.log_id, shared);
                if let Some(place) = place {
                    self.places[place].cover(gap.head, &mut self.missing, &mut shared.counts.faults);
                }
            }
            Push::Trimmed(_) | Push::Reset(_) | Push::NotFound(_) => {
                shared.counts.said_losses += 1;
                shared.complain(|| format!("{push:?}"));
            }
            Push::Sent(_) | Push::Stored(_) | Push::Done(_) | Push::Error(_) => {
                return self.answered(id, push, now, shared);
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, id: Option<u64>, push: Push, now: u64, shared: &mut Shared) -> Result<(), End> {
        let meant = match (self.who, id) {
            (Who::Publisher(n), Some(id)) => shared.publishing.close(n, id),
            _ => None,
        };
        match (push, meant) {
            (Push::Sent(stored) | Push::Stored(stored), Some((target, meant_ns))) => {
                shared.publishing.acked(target, stored.seq);
                shared.counts.acked += 1;
                shared.times.record(Kind::Ack, meant_ns, now);
            }
            (Push::Done(_), Some((target, meant_ns))) => {
                shared.publishing.acked(target, 0);
                shared.counts.acked += 1;
                shared.times.record(Kind::Ack, meant_ns, now);
            }
            (Push::Error(error), Some((target, _))) => {
                let hold = error.retry_after_ms.map(|ms| now + clock::ns(Duration::from_millis(ms)));
                if hold.is_some_and(|hold| shared.publishing.refused(target, hold)) {
                    shared.counts.sent -= 1;
                } else {
                    shared.counts.refused += 1;
                    shared.complain(|| format!("a message was refused: {}", error.name));
                }
            }
            (Push::Error(error), None) => {
                let retry_after = error.retry_after_ms.map(Duration::from_millis);
                return Err(End { why: format!("{}: {}", error.name, error.message), retry_after });
            }
            _ => {}
        }
        Ok(())
    }

    fn heads(&mut self, heads: &wire::Heads, now: u64, shared: &mut Shared) -> anyhow::Result<()> {
        for head in &heads.items {
            if let Some(place) = self.place(&head.log_id, shared) {
                self.places[place].seq = head.last_seq;
            }
        }
        // A later page may be newer: entries after the first one's position are to come.
        if self.user_seq == UNKNOWN {
            self.user_seq = heads.as_of_seq;
        }
        if !heads.more {
            let missing = self.places.iter().filter(|place| place.seq == UNKNOWN).count();
            if missing == 0 {
                self.enter(now, shared);
            } else if !shared.plan.topics {
                self.user_seq = UNKNOWN;
                anyhow::bail!("{missing} of its conversations are not among the heads");
            }
        }
        Ok(())
    }

    fn enter(&mut self, now: u64, shared: &mut Shared) {
        if !self.present {
            self.present = true;
            shared.present += 1;
            if self.wanted_ns > 0 && matches!(self.who, Who::Reader(_)) {
                shared.times.record(Kind::Enter, self.wanted_ns, now);
            }
            self.wanted_ns = 0;
        }
    }
    fn place(&self, log_id: &[u8], shared: &Shared) -> Option<usize> {
        let target = shared.logs.get(&LogId::from_wire(log_id)?)?;
        self.places.iter().position(|place| place.target == *target)
    }

    /// The number of a topic stands at the end of its name.
    fn place_of(&mut self, topic: &str) -> Option<&mut Place> {
        let (_, target) = topic.rsplit_once('-')?;
        let target: u32 = target.parse().ok()?;
        self.places.iter_mut().find(|place| place.target == target)
    }
}
