//! One author as a reader: what his client gives him, compared line by line as it comes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_client::protocol::wire::entry::Content;
use bowline_client::protocol::{LogId, UserId, wire};
use bowline_client::{Event, Events, Why};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::plant::Planted;
use super::stage::Stage;
use crate::check::{Reading, Seen};

pub(crate) struct Reader {
    stage: Arc<Stage>,
    author: u32,
    events: Events,
    ready: Option<oneshot::Sender<()>>,
    away_since: Option<Instant>,
    up: bool,
    planted: Option<Planted>,
    readings: Readings,
}

/// All that one author saw.
#[derive(Default)]
pub(crate) struct Readings {
    pub(crate) author: u32,
    pub(crate) rooms: HashMap<usize, Reading>,
    /// Messages from conversations in which he has no part.
    pub(crate) strays: Vec<Seen>,
    /// What the client had to say about missing parts: gaps, trims, resets. None of it has a place in a run.
    pub(crate) complaints: Vec<String>,
}

impl Reader {
    pub(crate) fn new(stage: Arc<Stage>, author: u32, events: Events, ready: oneshot::Sender<()>) -> Self {
        let planted = stage.args.plant.and_then(|plant| Planted::new(plant, author, &stage.transcript));
        let rooms = stage.transcript.rooms.iter().enumerate();
        let his = rooms.filter(|(_, room)| room.joins.iter().any(|(joined, _)| *joined == author));
        let rooms = his.map(|(n, _)| (n, Reading::default())).collect();
        let readings = Readings { author, rooms, ..Readings::default() };
        Self { stage, author, events, ready: Some(ready), away_since: None, up: false, planted, readings }
    }

    pub(crate) async fn run(mut self, mut end: watch::Receiver<bool>) -> Readings {
        loop {
            let event = tokio::select! {
                event = self.events.next() => event,
                _ = end.wait_for(|end| *end) => None,
            };
            match event {
                Some(event) => self.take(event),
                None => break,
            }
        }
        for (room, seen) in self.planted.take().into_iter().flat_map(Planted::rest) {
            self.see(room, &seen);
        }
        self.readings
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => self.connected(),
            Event::Disconnected { why, retry_in } => self.disconnected(&why, retry_in.is_some()),
            Event::Entry { log, entry } => self.entry(log, entry),
            Event::Gap { .. } | Event::Trimmed { .. } | Event::Reset { .. } | Event::NotFound { .. } => {
                self.readings.complaints.push(format!("{event:?}"));
            }
            Event::Refused { failure, .. } => self.readings.complaints.push(format!("a line was refused: {failure}")),
            _ => {}
        }
    }

    fn connected(&mut self) {
        self.up = true;
        self.stage.connected.fetch_add(1, Ordering::Relaxed);
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
        if let Some(since) = self.away_since.take() {
            self.stage.reconnects.fetch_add(1, Ordering::Relaxed);
            self.stage.comebacks.record(since.elapsed());
        }
    }

    fn disconnected(&mut self, why: &Why, comes_back: bool) {
        if std::mem::take(&mut self.up) {
            self.stage.connected.fetch_sub(1, Ordering::Relaxed);
            self.away_since = Some(Instant::now());
        }
        match why {
            Why::Cut => _ = self.stage.cuts.fetch_add(1, Ordering::Relaxed),
            Why::Hole { .. } => self.readings.complaints.push(why.to_string()),
            Why::ByUs => {}
            _ => self.stage.note_trouble(why),
        }
        if !comes_back && *why != Why::ByUs {
            self.readings.complaints.push(format!("ended: {why}"));
            self.ready = None;
        }
    }

    fn entry(&mut self, log: LogId, entry: wire::Entry) {
        let Some(Content::Message(message)) = entry.content else { return };
        let author = UserId::from_wire(&entry.sender_id).and_then(|user| self.stage.author(user));
        let seen = Seen { author, body: message.body.unwrap_or_default() };
        let Some(room) = self.stage.room(log).filter(|room| self.readings.rooms.contains_key(room)) else {
            self.readings.strays.push(seen);
            return;
        };
        self.stage.count_delivery();
        match self.planted.as_mut().filter(|planted| planted.room() == room) {
            None => self.see(room, &seen),
            Some(planted) => {
                for seen in planted.spoil(seen) {
                    self.see(room, &seen);
                }
            }
        }
    }

    fn see(&mut self, room: usize, seen: &Seen) {
        let script = &self.stage.transcript.rooms[room];
        let Some(reading) = self.readings.rooms.get_mut(&room) else { return };
        if let Some(n) = reading.see(&script.lines, seen.author, &seen.body) {
            let joined = script.joins.iter().find(|(joined, _)| *joined == self.author);
            self.stage.saw(room, n, joined.is_some_and(|(_, first)| *first <= n));
        }
    }
}
