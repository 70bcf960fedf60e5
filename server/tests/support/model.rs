//! A log with readers, simulated, and what the readers are owed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bowline::tail::{
    Arrival, Budget, Covered, Cursor, Entry, MemoryLog, Page, Plan, Span, Spans, Tail, entries_end, entries_head, plan,
};
use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::wire::{self, Deleted, Edited, MemberLeft, MembersAdded, Message, Reacted};
use bowline_protocol::{Codec, LogId, Seq, UserId};

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

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Drop,
    Double,
    /// An item shows what it said before it was changed.
    Stale,
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

    /// The same world in which the item at `at` had come wrongly; nothing if it has no such fault in it.
    pub fn with_fault(&self, fault: Fault, mut at: usize) -> Option<Readers<'_>> {
        let mut readers = self.readers.clone();
        let items = readers.iter_mut().flat_map(|reader| &mut reader.received).find_map(|range| {
            if at < range.items.len() {
                return Some(&mut range.items);
            }
            at -= range.items.len();
            None
        })?;
        match fault {
            Fault::Drop => drop(items.remove(at)),
            Fault::Double => items.insert(at, items[at].clone()),
            Fault::Stale => {
                let item = &mut items[at];
                let Some(Content::Message(message)) = &mut item.content else { return None };
                let first = self.texts.get(&item.seq)?.get(&item.seq)?.clone();
                if item.version == item.seq || message.body.is_none() || message.body == first {
                    return None;
                }
                message.body = first;
            }
        }
        Some(Readers { world: self, readers })
    }

    // --- The log -------------------------------------------------------------------------------------------------

    fn head(&self) -> Seq {
        self.committed.len() as Seq
    }

    fn commit(&mut self, content: Content) -> Seq {
        let entry = wire::Entry {
            sender_id: self.users[0].to_wire(),
            client_id: LogId::new().to_wire(),
            content: Some(content),
            ..Default::default()
        };
        let entry = self.stored.append(self.log, entry);
        let seq = entry.seq;
        self.committed.push(entry.clone());
        self.unpublished.push_back(entry);
        seq
    }

    fn message(&mut self) {
        let body = format!("{}.first", self.head() + 1);
        let seq = self.commit(Content::Message(Message { body: Some(body.clone()), ..Default::default() }));
        self.texts.insert(seq, BTreeMap::from([(seq, Some(body))]));
    }

    /// A message that is not deleted.
    fn pick_message(&self, i: usize) -> Option<Seq> {
        let there: Vec<Seq> =
            self.texts.iter().filter(|(_, texts)| texts.values().all(Option::is_some)).map(|(seq, _)| *seq).collect();
        // Recent ones more often than old ones, as in life.
        let recent = &there[there.len().saturating_sub(if i.is_multiple_of(3) { there.len() } else { 20 })..];
        (!recent.is_empty()).then(|| recent[i % recent.len()])
    }

    fn rewrite(&mut self, i: usize, edit: bool) {
        let Some(target_seq) = self.pick_message(i) else { return };
        let seq = self.head() + 1;
        let body = edit.then(|| format!("{target_seq}.at{seq}"));
        let content = match edit {
            true => Content::Edited(Edited { target_seq, body: body.clone() }),
            false => Content::Deleted(Deleted { target_seq }),
        };
        self.commit(content);
        let texts = self.texts.entry(target_seq).or_default();
        for earlier in texts.keys().copied().filter(|version| *version != target_seq) {
            self.stored.rewrite(self.log, earlier, |entry| {
                if let Some(Content::Edited(fact)) = &mut entry.content {
                    fact.body = None;
                }
            });
        }
        texts.insert(seq, body.clone());
        self.stored.rewrite(self.log, target_seq, |entry| {
            entry.version = seq;
            if let Some(Content::Message(message)) = &mut entry.content {
                message.deleted = body.is_none();
                message.body = body;
            }
        });
    }

    fn join(&mut self, user: usize) {
        if self.spans[user].last().is_some_and(|span| span.left_seq.is_none()) {
            return;
        }
        let id = self.users[user].to_wire();
        let seq = self.commit(Content::MembersAdded(MembersAdded { user_ids: vec![id] }));
        // The last user sees what was said before he came.
        let visible_from = if user == USERS - 1 { 1 } else { seq };
        self.spans[user].push(Span { visible_from, left_seq: None });
    }

    fn leave(&mut self, user: usize) {
        let id = self.users[user].to_wire();
        if self.spans[user].last().is_some_and(|span| span.left_seq.is_none()) {
            let seq = self.commit(Content::MemberLeft(MemberLeft { user_id: id }));
            if let Some(span) = self.spans[user].last_mut() {
                span.left_seq = Some(seq);
            }
        }
    }

    // --- On the way ----------------------------------------------------------------------------------------------

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

    // --- Readers -------------------------------------------------------------------------------------------------

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

    /// What this reader is owed: up to what he attached at by his spans, then everything until he is removed.
    fn owed(&self, reader: &Reader) -> (Vec<Seq>, Seq) {
        let shows = |seq: Seq| {
            reader.spans.iter().any(|span| span.visible_from <= seq && span.left_seq.is_none_or(|left| seq <= left))
        };
        let is_member = reader.spans.last().is_some_and(|span| span.left_seq.is_none());
        let end = match is_member {
            false => reader.spans.last().and_then(|span| span.left_seq).unwrap_or(0),
            true => {
                let leavings = self.spans[reader.user].iter().filter_map(|span| span.left_seq);
                leavings.filter(|left| *left > reader.as_of_seq).min().unwrap_or(self.head())
            }
        };
        let seqs = reader.from + 1..=end;
        (seqs.filter(|seq| *seq > reader.as_of_seq || shows(*seq)).collect(), end.max(reader.from))
    }

    fn check_reader(&self, reader: &Reader) -> Result<(), String> {
        let (owed, end) = self.owed(reader);
        let mut at = reader.from;
        for range in &reader.received {
            if range.after_seq != at || range.to_seq <= at {
                return Err(format!("({}, {}] came at {at}", range.after_seq, range.to_seq));
            }
            at = range.to_seq;
            if let Some(item) = range.items.iter().find(|item| item.seq <= range.after_seq || item.seq > range.to_seq) {
                return Err(format!("{} in ({}, {}]", item.seq, range.after_seq, range.to_seq));
            }
        }
        let (owed, end) = match reader.quit {
            true => (owed.into_iter().filter(|seq| *seq <= at).collect(), at),
            false => (owed, end),
        };
        if at != end {
            return Err(format!("ended at {at}, not {end}"));
        }
        let items = || reader.received.iter().flat_map(|range| &range.items);
        let seqs: Vec<Seq> = items().map(|item| item.seq).collect();
        if seqs != owed {
            let first = seqs.iter().zip(&owed).position(|(a, b)| a != b).unwrap_or(seqs.len().min(owed.len()));
            return Err(format!("entry {:?} where {:?} was due", seqs.get(first), owed.get(first)));
        }
        if reader.level != 1 && !reader.gone {
            return Err(format!("told {} times that it is level", reader.level));
        }
        self.check_texts(reader, items(), end)
    }

    /// Every text that came was one that this reader may see; what he ends with is what was said last while he was there.
    fn check_texts<'a>(
        &self,
        reader: &Reader,
        items: impl Iterator<Item = &'a wire::Entry>,
        end: Seq,
    ) -> Result<(), String> {
        let sees = |version: Seq| match version > reader.as_of_seq {
            true => version <= end,
            false => reader
                .spans
                .iter()
                .any(|span| span.visible_from <= version && span.left_seq.is_none_or(|left| version <= left)),
        };
        let mut view: BTreeMap<Seq, (Seq, Option<String>)> = BTreeMap::new();
        for item in items {
            let (target, version, body) = match &item.content {
                Some(Content::Message(message)) => (item.seq, item.version, message.body.clone()),
                Some(Content::Edited(fact)) => (fact.target_seq, item.seq, fact.body.clone()),
                Some(Content::Deleted(fact)) => (fact.target_seq, item.seq, None),
                _ => continue,
            };
            if let Some(body) = &body {
                if self.texts[&target].get(&version) != Some(&Some(body.clone())) {
                    return Err(format!("{body:?} as version {version} of {target}"));
                }
                if !sees(version) {
                    return Err(format!("{body:?} was said when its reader was away"));
                }
            }
            let known = view.entry(target).or_default();
            if version > known.0 {
                *known = (version, body);
            }
        }
        for (target, (_, text)) in view {
            let Some((version, last)) = self.texts[&target].last_key_value() else { continue };
            if *version > reader.from && sees(*version) && text != *last {
                return Err(format!("{target} ends as {text:?}, not {last:?}"));
            }
        }
        Ok(())
    }
}

/// A world whose readers got something else.
pub struct Readers<'a> {
    world: &'a World,
    readers: Vec<Reader>,
}

impl Readers<'_> {
    pub fn check(&self) -> Result<(), String> {
        self.readers.iter().try_for_each(|reader| self.world.check_reader(reader))
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
