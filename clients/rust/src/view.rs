//! A conversation folded to its messages as they are: what the entries of its log come to, in whatever mix of live
//! entries, replay and history they arrive. No socket, no clock.

use std::collections::BTreeMap;

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Seq, UserId};

/// The newest messages of one log, at most `capacity`. Only a higher version changes a message, so applying an entry
/// again, or one older than what is here, changes nothing.
#[derive(Debug)]
pub struct View {
    capacity: usize,
    messages: BTreeMap<Seq, Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub seq: Seq,
    /// The seq of the last fact that changed it.
    pub version: Seq,
    pub sender: Option<UserId>,
    pub created_at_ms: i64,
    /// Absent when deleted or erased.
    pub body: Option<String>,
}

/// What an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added(Seq),
    Edited(Seq),
    Deleted(Seq),
}

impl View {
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), messages: BTreeMap::new() }
    }

    pub fn get(&self, seq: Seq) -> Option<&Message> {
        self.messages.get(&seq)
    }

    /// Oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.values()
    }

    pub fn apply(&mut self, entry: &wire::Entry) -> Option<Change> {
        match entry.content.as_ref()? {
            Content::Message(message) => self.message(entry, message),
            Content::Edited(edited) => {
                // An edit without its body is no longer the newest fact; the one that is comes as well.
                let body = edited.body.clone()?;
                self.change(edited.target_seq, entry.seq, Some(body)).then_some(Change::Edited(edited.target_seq))
            }
            Content::Deleted(wire::Deleted { target_seq }) | Content::Erased(wire::Erased { target_seq }) => {
                self.change(*target_seq, entry.seq, None).then_some(Change::Deleted(*target_seq))
            }
            _ => None,
        }
    }

    /// Drops what a restore made unsure.
    pub fn reset(&mut self, first_unsure_seq: Seq) {
        self.messages.retain(|seq, message| *seq < first_unsure_seq && message.version < first_unsure_seq);
    }

    fn message(&mut self, entry: &wire::Entry, message: &wire::Message) -> Option<Change> {
        let known = self.messages.get(&entry.seq).map(|m| m.version);
        let version = entry.version.max(entry.seq);
        if known.is_some_and(|known| known >= version) {
            return None;
        }
        let message = Message {
            seq: entry.seq,
            version,
            sender: UserId::from_wire(&entry.sender_id),
            created_at_ms: entry.created_at_ms,
            body: message.body.clone().filter(|_| !message.deleted),
        };
        let gone = message.body.is_none();
        self.messages.insert(entry.seq, message);
        while self.messages.len() > self.capacity {
            self.messages.pop_first();
        }
        match known {
            None => self.messages.contains_key(&entry.seq).then_some(Change::Added(entry.seq)),
            Some(_) if gone => Some(Change::Deleted(entry.seq)),
            Some(_) => Some(Change::Edited(entry.seq)),
        }
    }

    fn change(&mut self, target: Seq, version: Seq, body: Option<String>) -> bool {
        let Some(message) = self.messages.get_mut(&target).filter(|m| m.version < version) else { return false };
        message.version = version;
        message.body = body;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(seq: Seq, version: Seq, content: Content) -> wire::Entry {
        wire::Entry { seq, version, content: Some(content), ..Default::default() }
    }

    fn message(seq: Seq, version: Seq, body: Option<&str>) -> wire::Entry {
        let message = wire::Message { body: body.map(str::to_owned), deleted: body.is_none(), ..Default::default() };
        entry(seq, version, Content::Message(message))
    }

    fn edited(seq: Seq, target_seq: Seq, body: Option<&str>) -> wire::Entry {
        entry(seq, seq, Content::Edited(wire::Edited { target_seq, body: body.map(str::to_owned) }))
    }

    fn deleted(seq: Seq, target_seq: Seq) -> wire::Entry {
        entry(seq, seq, Content::Deleted(wire::Deleted { target_seq }))
    }

    fn body(view: &View, seq: Seq) -> Option<&str> {
        view.get(seq).and_then(|m| m.body.as_deref())
    }

    #[test]
    fn only_a_higher_version_changes_a_message() {
        let mut view = View::new(10);
        for (entry, change, is) in [
            (message(1, 1, Some("a")), Some(Change::Added(1)), Some("a")),
            (message(1, 1, Some("a")), None, Some("a")),
            (edited(4, 1, Some("b")), Some(Change::Edited(1)), Some("b")),
            (edited(3, 1, Some("older")), None, Some("b")),
            (edited(5, 1, None), None, Some("b")),
            (message(1, 6, Some("c")), Some(Change::Edited(1)), Some("c")),
            (message(1, 4, Some("b")), None, Some("c")),
            (deleted(7, 1), Some(Change::Deleted(1)), None),
            (message(1, 6, Some("c")), None, None),
            (edited(9, 2, Some("unknown target")), None, None),
        ] {
            assert_eq!((view.apply(&entry), body(&view, 1)), (change, is), "{entry:?}");
        }
    }

    #[test]
    fn a_reset_drops_by_seq_and_by_version() {
        let mut view = View::new(10);
        for entry in [message(1, 1, Some("a")), message(2, 8, Some("b")), message(9, 9, Some("c"))] {
            view.apply(&entry);
        }
        view.reset(8);
        assert_eq!(view.messages().map(|m| m.seq).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_oldest_go_first_and_do_not_come_back_as_new() {
        let mut view = View::new(2);
        for seq in [1, 2, 3] {
            assert_eq!(view.apply(&message(seq, seq, Some("x"))), Some(Change::Added(seq)));
        }
        assert_eq!(view.apply(&message(1, 1, Some("x"))), None);
        assert_eq!(view.messages().map(|m| m.seq).collect::<Vec<_>>(), [2, 3]);
    }

    proptest! {
        /// The facts on a message, in any order and any number of times, end at the newest.
        #[test]
        fn any_order_ends_at_the_newest(mut order in Just((2u64..12).collect::<Vec<_>>()).prop_shuffle(), again in prop::collection::vec(2u64..12, 0..10)) {
            order.extend(again);
            let mut view = View::new(4);
            view.apply(&message(1, 1, Some("first")));
            for seq in order {
                view.apply(&edited(seq, 1, Some(&format!("edit {seq}"))));
            }
            prop_assert_eq!(body(&view, 1), Some("edit 11"));
        }
    }
}
