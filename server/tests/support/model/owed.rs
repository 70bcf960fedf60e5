//! What each reader of the model is owed, and whether he got it.

use std::collections::BTreeMap;

use bowline_protocol::Seq;
use bowline_protocol::wire;
use bowline_protocol::wire::entry::Content;

use super::{Reader, World};

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Drop,
    Double,
    /// An item shows what it said before it was changed.
    Stale,
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

impl World {
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

    pub(super) fn check_reader(&self, reader: &Reader) -> Result<(), String> {
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
        let (owed, due): (Vec<Seq>, Seq) = match reader.quit {
            true => (owed.into_iter().filter(|seq| *seq <= at).collect(), at),
            false => (owed, end),
        };
        if at != due {
            return Err(format!("ended at {at}, not {due}"));
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
        self.check_texts(reader, items(), at, end)
    }

    /// Every text that came was one that this reader, a member until `end`, may see; what he ends with at `at` is what was
    /// said last while he was there.
    fn check_texts<'a>(
        &self,
        reader: &Reader,
        items: impl Iterator<Item = &'a wire::Entry>,
        at: Seq,
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
            if *version > reader.from && *version <= at && sees(*version) && text != *last {
                return Err(format!("{target} ends as {text:?}, not {last:?}"));
            }
        }
        Ok(())
    }
}
