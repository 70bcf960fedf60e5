//! What a replay came to.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::reader::Readings;
use super::stage::Stage;
use crate::check::{Fault, Seen};
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(crate) struct Summary {
    ok: bool,
    timed_out: bool,
    rooms: usize,
    authors: usize,
    lines: usize,
    lines_acked: u64,
    deliveries_due: u64,
    deliveries: u64,
    readers_compared: usize,
    cuts: u64,
    reconnects: u64,
    send_s: f64,
    total_s: f64,
    lines_per_s: f64,
    deliveries_per_s: f64,
    send_to_ack: Percentiles,
    send_to_deliver: Percentiles,
    cut_to_resumed: Percentiles,
    faults: Faults,
    /// The first faults, in words.
    examples: Vec<String>,
    complaints: Vec<String>,
}

#[derive(Default, Serialize)]
struct Faults {
    lost: u64,
    repeated: u64,
    reordered: u64,
    altered: u64,
    foreign: u64,
    extra: u64,
}

const EXAMPLES: usize = 10;

impl Summary {
    pub(crate) fn new(
        stage: &Stage,
        readings: Vec<Readings>,
        sending: Duration,
        total: Duration,
        timed_out: bool,
    ) -> Self {
        let (mut faults, mut examples, mut complaints) = (Faults::default(), Vec::new(), Vec::new());
        let said: HashSet<&str> =
            stage.transcript.rooms.iter().flat_map(|room| &room.lines).map(|line| line.body.as_str()).collect();
        let readers_compared = readings.iter().map(|reader| reader.rooms.len()).sum();
        for reader in readings {
            let name = stage.transcript.authors[reader.author as usize].clone();
            complaints.extend(reader.complaints.into_iter().map(|text| format!("{name}: {text}")));
            let strays = reader.strays.into_iter().map(|seen| ("no room of his".to_owned(), Fault::Foreign { seen }));
            let rooms = reader.rooms.into_iter().flat_map(|(room, reading)| {
                let script = &stage.transcript.rooms[room];
                let elsewhere = |seen: &Seen| {
                    said.contains(seen.body.as_str()) && !script.lines.iter().any(|line| line.body == seen.body)
                };
                let found = reading.faults(&script.lines, elsewhere);
                found.into_iter().map(|fault| (script.name.clone(), fault))
            });
            for (room, fault) in rooms.chain(strays) {
                faults.count(&fault);
                if examples.len() < EXAMPLES {
                    examples.push(format!("{name} in {room}: {fault:?}"));
                }
            }
        }
        let lines = stage.transcript.lines();
        let deliveries = stage.delivered();
        let readers_due: usize = stage.transcript.rooms.iter().map(|room| room.joins.len()).sum();
        let complete = stage.sent() == lines as u64 && readers_compared == readers_due;
        let ok = !timed_out && faults.none() && complaints.is_empty() && complete;
        Self {
            ok,
            timed_out,
            rooms: stage.transcript.rooms.len(),
            authors: stage.transcript.authors.len(),
            lines,
            lines_acked: stage.sent(),
            deliveries_due: stage.transcript.deliveries(),
            deliveries,
            readers_compared,
            cuts: stage.cuts.load(Ordering::Relaxed),
            reconnects: stage.reconnects.load(Ordering::Relaxed),
            send_s: sending.as_secs_f64(),
            total_s: total.as_secs_f64(),
            lines_per_s: stage.sent() as f64 / sending.as_secs_f64(),
            deliveries_per_s: deliveries as f64 / total.as_secs_f64(),
            send_to_ack: stage.acks.percentiles(),
            send_to_deliver: stage.deliveries.percentiles(),
            cut_to_resumed: stage.comebacks.percentiles(),
            faults,
            examples,
            complaints,
        }
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "chat";
    const MAIN: &'static str = "send_to_deliver";

    fn ok(&self) -> bool {
        self.ok
    }

    fn verdict(&self) -> String {
        match self.ok {
            true => format!("Every body, byte for byte, once, in order, in all {} readings", self.readers_compared),
            false => "Not everybody saw what was said".to_owned(),
        }
    }

    fn lines(&self, lines: &mut Lines) {
        lines.say(
            "rooms, authors",
            format_args!("{}, {}, each author on a socket of his own", self.rooms, self.authors),
        );
        lines.say(
            "lines acked",
            format_args!("{} of {} in {:.1} s ({:.0}/s)", self.lines_acked, self.lines, self.send_s, self.lines_per_s),
        );
        lines.say(
            "deliveries",
            format_args!(
                "{} of {} in {:.1} s ({:.0}/s)",
                self.deliveries, self.deliveries_due, self.total_s, self.deliveries_per_s
            ),
        );
        lines.say("cuts, reconnects", format_args!("{}, {}", self.cuts, self.reconnects));
        lines.say("send to ack", self.send_to_ack.line());
        lines.say("send to deliver", self.send_to_deliver.line());
        lines.say("cut to resumed", self.cut_to_resumed.line());
        let f = &self.faults;
        lines.say("lost, repeated, reordered", format_args!("{}, {}, {}", f.lost, f.repeated, f.reordered));
        lines.say("altered, foreign, extra", format_args!("{}, {}, {}", f.altered, f.foreign, f.extra));
        for text in self.examples.iter().chain(self.complaints.iter().take(EXAMPLES)) {
            lines.say("  fault", text);
        }
        if self.timed_out {
            lines.say("  timed out", "not all lines were sent");
        }
    }
}

impl Faults {
    fn count(&mut self, fault: &Fault) {
        *match fault {
            Fault::Lost { .. } => &mut self.lost,
            Fault::Repeated { .. } => &mut self.repeated,
            Fault::Reordered { .. } => &mut self.reordered,
            Fault::Altered { .. } => &mut self.altered,
            Fault::Foreign { .. } => &mut self.foreign,
            Fault::Extra { .. } => &mut self.extra,
        } += 1;
    }

    fn none(&self) -> bool {
        let all = [self.lost, self.repeated, self.reordered, self.altered, self.foreign, self.extra];
        all.iter().all(|n| *n == 0)
    }
}
