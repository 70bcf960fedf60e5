//! Messages by their schedules, and what became of each. Does no I/O.

use std::collections::HashMap;

use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::{ClientId, LogId, Seq, wire};

use super::order::{Pace, Published, Stream};
use super::stamp::Stamp;

#[derive(Default)]
pub(crate) struct Publishing {
    /// Of conversations, by number; none for topics.
    pub(crate) logs: Vec<LogId>,
    streams: Vec<Running>,
    /// By publisher: what has no answer, with its target and when it was meant to go.
    open: Vec<HashMap<u64, (u32, u64)>>,
    targets: Vec<Target>,
}

struct Running {
    stream: Stream,
    start_ns: u64,
    next: u64,
    /// Of a window: targets whose message was refused and is sent again, and not before when.
    again: Vec<u32>,
    hold_ns: u64,
}

#[derive(Clone, Copy, Default)]
struct Target {
    sent: u32,
    acked: u64,
    seq: Seq,
}

/// A message whose time has come.
pub(crate) struct Due {
    stream: usize,
    pub(crate) publisher: u32,
    target: u32,
    pub(crate) meant_ns: u64,
}

impl Publishing {
    pub(crate) fn new(publishers: u32, targets: u32) -> Self {
        let open = (0..publishers).map(|_| HashMap::new()).collect();
        Self { open, targets: vec![Target::default(); targets as usize], ..Self::default() }
    }

    pub(crate) fn begin(&mut self, streams: Vec<Stream>, now: u64) {
        self.streams.retain(|running| !running.is_done());
        self.streams.extend(streams.into_iter().map(|stream| Running {
            stream,
            start_ns: now,
            next: 0,
            again: Vec::new(),
            hold_ns: 0,
        }));
    }

    /// The next message of a stream whose time has come, and whose publisher may send.
    pub(crate) fn due(&self, stream: usize, now: u64) -> Option<Due> {
        let running = self.streams.get(stream).filter(|running| !running.is_done())?;
        let Stream { first_target, targets, first_publisher, publishers, neighbours, pace, .. } = &running.stream;
        let in_turn = || first_target + (running.next % u64::from(*targets)) as u32;
        let target = running.again.last().copied().unwrap_or_else(in_turn);
        let publisher = first_publisher + target / neighbours % publishers;
        let meant_ns = match pace {
            Pace::PerSecond(_) => running.due_ns().filter(|due| *due <= now)?,
            Pace::Window(most) => {
                let open = self.open.get(publisher as usize).map_or(0, HashMap::len);
                (open < *most as usize && now >= running.hold_ns).then_some(now)?
            }
        };
        Some(Due { stream, publisher, target, meant_ns })
    }

    /// When the next message is to go that has a time.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.streams.iter().filter(|running| !running.is_done()).filter_map(Running::due_ns).min()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The command that carries a message.
    pub(crate) fn command(&mut self, due: &Due, topic: impl FnOnce(u32) -> String) -> Ask {
        let running = &mut self.streams[due.stream];
        if running.again.pop().is_none() {
            running.next += 1;
        }
        let target = &mut self.targets[due.target as usize];
        let body = Stamp { meant_ns: due.meant_ns, number: target.sent }.body(running.stream.bytes);
        target.sent += 1;
        match self.logs.get(due.target as usize) {
            Some(log) => Ask::Send(wire::Send {
                log_id: log.to_wire(),
                client_id: ClientId::new().to_wire(),
                body,
                ..Default::default()
            }),
            None => Ask::TopicPublish(wire::TopicPublish { topic: topic(due.target), body }),
        }
    }

    pub(crate) fn opened(&mut self, due: &Due, id: u64) {
        self.open[due.publisher as usize].insert(id, (due.target, due.meant_ns));
    }

    /// A command has its answer: its target, and when it was meant to go.
    pub(crate) fn close(&mut self, publisher: u32, id: u64) -> Option<(u32, u64)> {
        self.open.get_mut(publisher as usize)?.remove(&id)
    }

    pub(crate) fn acked(&mut self, target: u32, seq: Seq) {
        let target = &mut self.targets[target as usize];
        target.acked += 1;
        target.seq = target.seq.max(seq);
    }

    /// A message was refused for the time being. Whether it is sent again: in a window, which is no open loop.
    pub(crate) fn refused(&mut self, target: u32, hold_ns: u64) -> bool {
        let of_window = |running: &&mut Running| {
            let Stream { first_target, targets, pace, .. } = &running.stream;
            matches!(pace, Pace::Window(_)) && (*first_target..first_target + targets).contains(&target)
        };
        let Some(running) = self.streams.iter_mut().find(of_window) else { return false };
        running.again.push(target);
        running.hold_ns = running.hold_ns.max(hold_ns);
        true
    }

    /// A publisher's connection is over: what is open gets no answer.
    pub(crate) fn abandon(&mut self, publisher: u32) {
        if let Some(open) = self.open.get_mut(publisher as usize) {
            open.clear();
        }
    }

    /// Once everything was sent and answered.
    pub(crate) fn done(&self) -> Option<Vec<Published>> {
        let done = self.streams.iter().all(Running::is_done) && self.open.iter().all(HashMap::is_empty);
        let target =
            |(n, target): (usize, &Target)| Published { target: n as u32, acked: target.acked, seq: target.seq };
        done.then(|| self.targets.iter().enumerate().filter(|(_, target)| target.sent > 0).map(target).collect())
    }
}

impl Running {
    fn is_done(&self) -> bool {
        self.next >= self.stream.messages && self.again.is_empty()
    }

    fn due_ns(&self) -> Option<u64> {
        let Pace::PerSecond(rate) = self.stream.pace else { return None };
        Some(self.start_ns + (self.next as f64 * 1e9 / rate) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pace: Pace, messages: u64) -> Stream {
        Stream {
            first_target: 0,
            targets: 3,
            first_publisher: 0,
            publishers: 2,
            neighbours: 1,
            pace,
            messages,
            bytes: 32,
        }
    }

    fn send(publishing: &mut Publishing, now: u64) -> Vec<(u32, u32, u64)> {
        let mut sent = Vec::new();
        while let Some(due) = publishing.due(0, now) {
            let Ask::TopicPublish(publish) = publishing.command(&due, |t| t.to_string()) else { panic!("a topic") };
            publishing.opened(&due, sent.len() as u64 + now);
            let stamp = Stamp::of(publish.body.as_bytes()).expect("a stamp");
            assert_eq!((publish.topic, stamp.meant_ns), (due.target.to_string(), due.meant_ns));
            sent.push((due.publisher, due.target, due.meant_ns));
        }
        sent
    }

    #[test]
    fn an_open_loop_keeps_its_times_however_late_it_is_asked() {
        let mut publishing = Publishing::new(2, 3);
        publishing.begin(vec![stream(Pace::PerSecond(1_000.0), 4)], 0);
        assert_eq!(send(&mut publishing, 0), [(0, 0, 0)]);
        assert_eq!(publishing.next_ns(), Some(1_000_000));
        assert_eq!(send(&mut publishing, 9_000_000), [(1, 1, 1_000_000), (0, 2, 2_000_000), (0, 0, 3_000_000)]);
        assert_eq!((publishing.next_ns(), publishing.done()), (None, None));
        for (publisher, id) in [(0, 0), (1, 9_000_000), (0, 9_000_001), (0, 9_000_002)] {
            let (target, _) = publishing.close(publisher, id).expect("open");
            publishing.acked(target, 0);
        }
        let acked = |target, acked| Published { target, acked, seq: 0 };
        assert_eq!(publishing.done(), Some(vec![acked(0, 2), acked(1, 1), acked(2, 1)]));
    }

    #[test]
    fn a_window_waits_for_answers() {
        let mut publishing = Publishing::new(2, 3);
        publishing.begin(vec![stream(Pace::Window(1), 4)], 0);
        assert_eq!(send(&mut publishing, 5), [(0, 0, 5), (1, 1, 5)]);
        assert!(publishing.close(0, 5).is_some());
        assert!(publishing.refused(0, 7));
        assert_eq!(send(&mut publishing, 6), [], "it is not sent again before it may be");
        assert_eq!(send(&mut publishing, 7), [(0, 0, 7)]);
        assert!(publishing.close(0, 7).is_some());
        assert_eq!(send(&mut publishing, 8), [(0, 2, 8)]);
        assert_eq!((send(&mut publishing, 9), publishing.done()), (vec![], None));
        publishing.abandon(0);
        assert_eq!(send(&mut publishing, 10), [(0, 0, 10)]);
        assert!(!publishing.refused(3, 0), "of no stream");
    }
}
