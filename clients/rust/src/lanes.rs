//! The sends that wait for their answer: a lane a log, one in flight a lane, so that a log has this client's messages in
//! the order in which they were sent, whatever is refused for a while or lost with a connection. No socket, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bowline_protocol::code::Retry;
use bowline_protocol::{ClientId, Failure, LogId, wire};
use tokio::time::Instant;

use crate::backoff::Backoff;

#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<LogId, Lane>,
    /// Logs whose first send may go, the one that has waited longest first.
    ready: VecDeque<LogId>,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<wire::Send>,
    turn: Turn,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Ready,
    InFlight,
    Waiting(Instant),
}

/// What an answer means for the send that it is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Stored(wire::Stored),
    /// For good: it is not sent again.
    Refused(Failure),
    /// Sent again later with the same client_id; those behind it wait.
    Again,
    /// The access token must be renewed before it is sent again.
    Renew,
}

impl Lanes {
    pub fn push(&mut self, log: LogId, send: wire::Send) {
        let lane = self.lanes.entry(log).or_default();
        lane.queue.push_back(send);
        if lane.queue.len() == 1 {
            self.ready.push_back(log);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The next send to go out; it is in flight from here on.
    pub fn next(&mut self, now: Instant) -> Option<(LogId, &wire::Send)> {
        self.wake(now);
        let log = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&log)?;
        lane.turn = Turn::InFlight;
        lane.queue.front().map(|send| (log, send))
    }

    /// The answer to the send of `log` that is in flight.
    pub fn answered(
        &mut self,
        log: LogId,
        answer: Result<wire::Stored, Failure>,
        now: Instant,
        wait: impl FnOnce(u32, Option<Duration>) -> Duration,
    ) -> Option<(ClientId, Verdict)> {
        let lane = self.lanes.get_mut(&log).filter(|lane| lane.turn == Turn::InFlight)?;
        let client_id = ClientId::from_wire(&lane.queue.front()?.client_id)?;
        let verdict = match answer {
            Ok(stored) => Verdict::Stored(stored),
            Err(failure) => match failure.code.retry() {
                Retry::Never => Verdict::Refused(failure),
                retry => {
                    let asked = failure.retry_after_ms.map(Duration::from_millis);
                    lane.turn = Turn::Waiting(now + wait(lane.attempts, asked));
                    lane.attempts = lane.attempts.saturating_add(1);
                    return Some((client_id, if retry == Retry::Refresh { Verdict::Renew } else { Verdict::Again }));
                }
            },
        };
        lane.queue.pop_front();
        lane.attempts = 0;
        lane.turn = Turn::Ready;
        if lane.queue.is_empty() {
            self.lanes.remove(&log);
        } else {
            self.ready.push_back(log);
        }
        Some((client_id, verdict))
    }

    /// What was in flight goes again, with the same client_id.
    pub fn disconnected(&mut self) {
        for (log, lane) in &mut self.lanes {
            if lane.turn == Turn::InFlight {
                lane.turn = Turn::Ready;
                self.ready.push_back(*log);
            }
        }
    }

    /// When a lane that waits may go on.
    pub fn wake_at(&self) -> Option<Instant> {
        let waiting = self.lanes.values().filter_map(|lane| match lane.turn {
            Turn::Waiting(until) => Some(until),
            _ => None,
        });
        waiting.min()
    }

    fn wake(&mut self, now: Instant) {
        for (log, lane) in &mut self.lanes {
            if matches!(lane.turn, Turn::Waiting(until) if until <= now) {
                lane.turn = Turn::Ready;
                self.ready.push_back(*log);
            }
        }
    }
}

/// The wait of a connection's retries, with its dice.
pub(crate) fn waiting(backoff: Backoff) -> impl FnOnce(u32, Option<Duration>) -> Duration {
    move |attempt, asked| backoff.delay(attempt, asked, rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_protocol::Code;
    use proptest::prelude::*;

    fn log(n: u128) -> LogId {
        LogId(uuid::Uuid::from_u128(n))
    }

    fn send(n: u128) -> wire::Send {
        let client_id = ClientId(uuid::Uuid::from_u128(n)).to_wire();
        wire::Send { client_id, body: n.to_string(), ..Default::default() }
    }

    fn next(lanes: &mut Lanes, now: Instant) -> Option<String> {
        lanes.next(now).map(|(_, send)| send.body.clone())
    }

    fn second(_: u32, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(Duration::from_secs(1))
    }

    #[test]
    fn one_in_flight_a_log_and_the_logs_do_not_wait_for_each_other() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        for (l, n) in [(1, 10), (1, 11), (2, 20)] {
            lanes.push(log(l), send(n));
        }
        assert_eq!(next(&mut lanes, now).as_deref(), Some("10"));
        assert_eq!(next(&mut lanes, now).as_deref(), Some("20"));
        assert_eq!(next(&mut lanes, now), None);
        let (client_id, verdict) = lanes.answered(log(1), Ok(wire::Stored::default()), now, second).expect("in flight");
        assert_eq!((client_id.0.as_u128(), verdict), (10, Verdict::Stored(wire::Stored::default())));
        assert_eq!(next(&mut lanes, now).as_deref(), Some("11"));
    }

    #[test]
    fn what_each_class_of_error_does() {
        for (code, again) in [
            (Code::Overloaded, true),
            (Code::Unavailable, true),
            (Code::OutcomeUnknown, true),
            (Code::RateLimited, true),
            (Code::TokenExpired, true),
            (Code::Forbidden, false),
            (Code::TooLarge, false),
            (Code::IdReused, false),
        ] {
            let (mut lanes, now) = (Lanes::default(), Instant::now());
            lanes.push(log(1), send(1));
            lanes.push(log(1), send(2));
            next(&mut lanes, now);
            let asked = Failure::retry_after(code, 300);
            lanes.answered(log(1), Err(asked), now, second);
            if again {
                assert_eq!(next(&mut lanes, now), None, "{code}: those behind it wait too");
                assert_eq!(lanes.wake_at(), Some(now + Duration::from_millis(300)));
                assert_eq!(next(&mut lanes, now + Duration::from_millis(300)).as_deref(), Some("1"), "{code}");
            } else {
                assert_eq!(next(&mut lanes, now).as_deref(), Some("2"), "{code}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Fate {
        Push(u8),
        Go,
        Stored(u8),
        Later(u8),
        Never(u8),
        Cut,
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            (0u8..3).prop_map(Fate::Push),
            Just(Fate::Go),
            (0u8..3).prop_map(Fate::Stored),
            (0u8..3).prop_map(Fate::Later),
            (0u8..3).prop_map(Fate::Never),
            Just(Fate::Cut),
        ]
    }

    proptest! {
        /// Whatever is refused, retried or cut: each send is settled once, those of a log in their order, and at the
        /// end none is left over.
        #[test]
        fn every_send_is_settled_once_and_in_order(fates in prop::collection::vec(fate(), 0..200)) {
            let (mut lanes, mut now, mut n) = (Lanes::default(), Instant::now(), 0u128);
            let mut pushed: HashMap<LogId, Vec<u128>> = HashMap::new();
            let mut settled: HashMap<LogId, Vec<u128>> = HashMap::new();
            let mut settle = |lanes: &mut Lanes, l: LogId, answer, now| {
                if let Some((id, Verdict::Stored(_) | Verdict::Refused(_))) = lanes.answered(l, answer, now, second) {
                    settled.entry(l).or_default().push(id.0.as_u128());
                }
            };
            for fate in fates {
                now += Duration::from_millis(400);
                match fate {
                    Fate::Push(l) => {
                        n += 1;
                        lanes.push(log(l.into()), send(n));
                        pushed.entry(log(l.into())).or_default().push(n);
                    }
                    Fate::Go => { lanes.next(now); }
                    Fate::Stored(l) => settle(&mut lanes, log(l.into()), Ok(wire::Stored::default()), now),
                    Fate::Later(l) => settle(&mut lanes, log(l.into()), Err(Code::Overloaded.into()), now),
                    Fate::Never(l) => settle(&mut lanes, log(l.into()), Err(Code::Forbidden.into()), now),
                    Fate::Cut => lanes.disconnected(),
                }
            }
            for _ in 0..n {
                now += Duration::from_secs(2);
                while lanes.next(now).is_some() {}
                for l in 0..3 {
                    settle(&mut lanes, log(l), Ok(wire::Stored::default()), now);
                }
            }
            prop_assert!(lanes.is_empty());
            prop_assert_eq!(settled, pushed);
        }
    }
}
