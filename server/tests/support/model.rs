//! A log with readers, simulated, and what the readers are owed.

mod history;
mod owed;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bowline::tail::{
    Arrival, Budget, Covered, Cursor, Entry, MemoryLog, Page, Plan, Span, Spans, Tail, entries_end, entries_head, plan,
};
use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::wire::{self, Message, Reacted};
use bowline_protocol::{Codec, LogId, Seq, UserId};

pub use owed::Fault;

/// Something that happens. Numbers pick one of what there is.
#[derive(Clone, Debug)]
pub enum Op {
    Messages(usize),
    Edit(usize),
    Delete(usize),
    React(usize),
    Join(usize),
    Leave(usize),
    /// Publishes in order, out of order, again, never.
    PublishNext(usize),
    PublishAny(usize),
    Repeat(usize),
    Lose(usize),
    /// The change feed looks.
    Announce,
    /// A page read sees the log; it arrives.
    Read(usize),
    Arrive(usize),
    /// A reader's spans and place are read; he enters with them.
    Attach {
        user: usize,
        from: usize,
    },
    Enter(usize),
    Step(usize),
    StepAll,
    /// A reader goes; with the last one goes what is in memory, but not what is being read.
    Quit(usize),
}

const USERS: usize = 3;
const MAX_READERS: usize = 6;

pub struct World {
    log: LogId,
    users: [UserId; USERS],
    codec: Codec,
    stored: MemoryLog,
    /// As they were when they were committed.
    committed: Vec<wire::Entry>,
    /// What was said at each version of each message; `None`: deleted.
    texts: BTreeMap<Seq, BTreeMap<Seq, Option<String>>>,
    spans: [Vec<Span>; USERS],
    unpublished: VecDeque<wire::Entry>,
    /// The highest seq that was published or announced.
    known: Seq,
    /// Facts that were published, and the head that was announced: nothing older may be shown.
    published_facts: BTreeMap<Seq, Seq>,
    announced: Seq,
    tail: Option<Tail>,
    budget: Budget,
    asked: Vec<u64>,
    read: Vec<Page>,
    attached: Vec<Reader>,
    readers: Vec<Reader>,
    problems: Vec<String>,
}

#[derive(Clone)]
struct Reader {
    user: usize,
    from: Seq,
    as_of_seq: Seq,
    spans: Vec<Span>,
    cursor: Option<Arc<std::sync::Mutex<Cursor>>>,
    received: Vec<wire::Entries>,
    level: usize,
    gone: bool,
    quit: bool,
}

impl World {
    pub fn new(codec: Codec, memory_bytes: usize) -> Self {
        Self {
            log: LogId::new(),
            users: std::array::from_fn(|_| UserId::new()),
            codec,
            stored: MemoryLog::default(),
            committed: Vec::new(),
            texts: BTreeMap::new(),
            spans: Default::default(),
            unpublished: VecDeque::new(),
            known: 0,
            published_facts: BTreeMap::new(),
            announced: 0,
            tail: None,
            budget: Budget::new(memory_bytes),
            asked: Vec::new(),
            read: Vec::new(),
            attached: Vec::new(),
            readers: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Messages(n) => (0..n).for_each(|_| self.message()),
            Op::Edit(i) => self.rewrite(i, true),
            Op::Delete(i) => self.rewrite(i, false),
            Op::React(i) => {
                if let Some(target_seq) = self.pick_message(i) {
                    self.commit(Content::Reacted(Reacted { target_seq, emoji: "+".into() }));
                }
            }
            Op::Join(i) => self.join(i % USERS),
            Op::Leave(i) => self.leave(i % USERS),
            Op::PublishNext(n) => (0..n).for_each(|_| self.publish_at(0)),
            Op::PublishAny(i) => self.publish_at(i % self.unpublished.len().max(1)),
            Op::Repeat(i) => self.repeat(i),
            Op::Lose(i) => drop(self.unpublished.remove(i % self.unpublished.len().max(1))),
            Op::Announce => self.announce(),
            Op::Read(i) => self.read_page(i),
            Op::Arrive(i) => self.arrive(i),
            Op::Attach { user, from } => self.attach(user % USERS, from),
            Op::Enter(i) => self.enter(i),
            Op::Step(i) => {
                if !self.readers.is_empty() {
                    self.step(i % self.readers.len());
                }
            }
            Op::StepAll => (0..self.readers.len()).for_each(|i| {
                self.step(i);
            }),
            Op::Quit(i) => self.quit(i),
        }
    }

    /// Lets everything that is under way come to its end.
    pub fn finish(&mut self) {
        while !self.attached.is_empty() {
            self.enter(0);
        }
        self.announce();
        for _ in 0..3_000 {
            let mut moved = false;
            for reader in 0..self.readers.len() {
                moved |= self.step(reader);
            }
            while !self.asked.is_empty() {
                self.read_page(0);
                moved = true;
            }
            while !self.read.is_empty() {
                self.arrive(0);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        self.problems.push("readers never come to rest".into());
    }

    pub fn check(&self) -> Result<(), String> {
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        self.readers.iter().try_for_each(|reader| self.check_reader(reader))
    }

    pub fn delivered(&self) -> usize {
        self.readers.iter().flat_map(|reader| &reader.received).map(|range| range.items.len()).sum()
    }

    pub fn seqs_of(&self, reader: usize) -> Vec<Seq> {
        self.readers[reader].received.iter().flat_map(|range| &range.items).map(|item| item.seq).collect()
    }

    fn publish_at(&mut self, i: usize) {
        if let Some(entry) = self.unpublished.remove(i) {
            self.publish(&entry);
        }
    }

    fn repeat(&mut self, i: usize) {
        let published: Vec<&wire::Entry> = self.committed.iter().filter(|entry| entry.seq <= self.known).collect();
        if !published.is_empty() {
            let entry = published[i % published.len()].clone();
            self.publish(&entry);
        }
    }

    fn publish(&mut self, entry: &wire::Entry) {
        self.known = self.known.max(entry.seq);
        let target = match &entry.content {
            Some(Content::Edited(fact)) => Some(fact.target_seq),
            Some(Content::Deleted(fact)) => Some(fact.target_seq),
            _ => None,
        };
        if let Some(tail) = &mut self.tail {
            // What comes after something newer was known has been covered by that.
            if let Some(target) = target.filter(|_| entry.seq > tail.head()) {
                self.published_facts.insert(target, entry.seq);
            }
            self.announced = self.announced.max(if entry.seq > tail.head() + 1 { entry.seq - 1 } else { 0 });
            tail.push(Entry::new(self.log, entry), 0, &mut self.budget);
            self.keep_to_budget();
        }
    }

    fn announce(&mut self) {
        self.known = self.head();
        if let Some(tail) = &mut self.tail
            && tail.reached(self.known, &mut self.budget)
        {
            self.announced = self.known;
        }
    }

    fn read_page(&mut self, i: usize) {
        if self.asked.is_empty() {
            return;
        }
        let number = self.asked.swap_remove(i % self.asked.len());
        self.read.push(Page::new(number, &self.stored.read(self.log, &[number])));
    }

    fn arrive(&mut self, i: usize) {
        if self.read.is_empty() {
            return;
        }
        let page = self.read.swap_remove(i % self.read.len());
        let number = page.number();
        let Some(tail) = &mut self.tail else { return };
        if tail.arrived(Arc::new(page), 0, &mut self.budget) == Arrival::Stale {
            self.asked.push(number);
        }
        self.keep_to_budget();
    }

    fn keep_to_budget(&mut self) {
        while let Some(token) = self.budget.over() {
            if let Some(tail) = &mut self.tail {
                tail.evict(token, &mut self.budget);
            }
        }
    }

    fn attach(&mut self, user: usize, from: usize) {
        if self.attached.len() + self.readers.len() < MAX_READERS {
            self.attached.push(Reader {
                user,
                from: from as Seq % (self.head() + 1),
                as_of_seq: self.head(),
                spans: self.spans[user].clone(),
                cursor: None,
                received: Vec::new(),
                level: 0,
                gone: false,
                quit: false,
            });
        }
    }

    fn enter(&mut self, i: usize) {
        if self.attached.is_empty() {
            return;
        }
        let mut reader = self.attached.swap_remove(i % self.attached.len());
        let spans = Spans::new(reader.spans.clone());
        reader.cursor = Some(Arc::new(Cursor::new(reader.from, reader.as_of_seq, spans, true).into()));
        if self.tail.is_none() {
            self.announced = self.known.max(reader.as_of_seq);
            self.tail = Some(Tail::new(self.announced));
        }
        self.readers.push(reader);
    }

    fn quit(&mut self, i: usize) {
        let Some(reader) = i.checked_rem(self.readers.len()).map(|i| &mut self.readers[i]) else { return };
        reader.quit |= !reader.gone;
        reader.gone = true;
        if self.readers.iter().all(|reader| reader.gone)
            && let Some(mut tail) = self.tail.take()
        {
            tail.clear(&mut self.budget);
        }
    }

    /// One step of one reader; true if it led anywhere.
    fn step(&mut self, i: usize) -> bool {
        let (Some(tail), reader) = (&mut self.tail, &mut self.readers[i]) else { return false };
        if reader.gone {
            return false;
        }
        let Some(cursor) = reader.cursor.clone() else { return false };
        let mut cursor = cursor.lock().expect("one thread");
        let after_seq = cursor.seq();
        let user = Some(self.users[reader.user]);
        let (items, to_seq, removed) = match plan(&cursor, user, self.codec, tail, &mut self.budget) {
            Plan::Rest => return false,
            Plan::Need(page) => {
                tail.asked(page);
                self.asked.push(page);
                return true;
            }
            Plan::Settle => match cursor.settle() {
                Covered::Moved => return false,
                Covered::Level { ended } => {
                    reader.level += 1;
                    reader.gone = ended;
                    return true;
                }
            },
            Plan::Trimmed(_) => {
                self.problems.push("nothing was trimmed".into());
                return false;
            }
            Plan::Skip(to_seq) => (Vec::new(), to_seq, false),
            Plan::Withheld(page, stretch) => (vec![page.withheld(stretch.items.start)], stretch.to_seq, false),
            Plan::Frames(stretch) => {
                let frames = stretch.items.filter_map(|i| tail.entry(i));
                let ranges: Vec<wire::Entries> =
                    frames.map(|entry| unframed(self.codec, entry.frame(self.codec))).collect();
                let mut at = after_seq;
                for range in &ranges {
                    if range.after_seq != at {
                        self.problems.push(format!("a live entry after {} came at {at}", range.after_seq));
                    }
                    at = range.to_seq;
                }
                (ranges.into_iter().flat_map(|range| range.items).collect(), stretch.to_seq, stretch.removed)
            }
            Plan::Slice(page, stretch) => {
                let slice = page.slice(self.codec, stretch.items);
                let mut message = Vec::new();
                entries_head(self.codec, self.log, after_seq, stretch.to_seq, slice.as_ref().len(), &mut message);
                message.extend_from_slice(slice.as_ref());
                message.extend_from_slice(entries_end(self.codec));
                let range = unframed(self.codec, &message);
                if (range.after_seq, range.to_seq) != (after_seq, stretch.to_seq) {
                    self.problems.push(format!("a slice says {} to {}", range.after_seq, range.to_seq));
                }
                (range.items, stretch.to_seq, stretch.removed)
            }
        };
        for item in &items {
            let fact = self.published_facts.get(&item.seq).copied().unwrap_or(0);
            let said = self.texts.get(&item.seq).and_then(|texts| texts.range(..=self.announced).next_back());
            let newest = said.map_or(0, |(version, _)| *version).max(fact);
            if let Some(Content::Message(Message { body: Some(body), .. })) = &item.content
                && item.version < newest
            {
                self.problems.push(format!("{body:?} was sent although version {newest} was known"));
            }
        }
        reader.received.push(wire::Entries { log_id: Vec::new(), after_seq, to_seq, items });
        let covered = cursor.advance(to_seq);
        if let Covered::Level { .. } = covered {
            reader.level += 1;
        }
        reader.gone = removed || matches!(covered, Covered::Level { ended: true });
        true
    }
}

/// The `entries` of a WebSocket frame.
fn unframed(codec: Codec, frame: &[u8]) -> wire::Entries {
    let header = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    let mut frames = codec.read_server(&frame[header..]).expect("a frame of the contract");
    assert_eq!(frames.len(), 1);
    match frames.remove(0).kind {
        Some(Kind::Entries(entries)) => entries,
        kind => panic!("not entries: {kind:?}"),
    }
}
