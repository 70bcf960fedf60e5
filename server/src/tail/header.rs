//! The few facts about an entry on which tails, pages and cursors act, without decoding it.

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Seq, UserId};

/// What kind of entry it is, as far as delivery must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    /// An edit, deletion or erasure: what was encoded of its target before is out of date.
    Rewrite,
    /// Changes nothing that other entries show.
    Reaction,
    /// Ends the membership of `Header::removes`.
    Removal,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub seq: Seq,
    /// The seq of the last fact that changed this entry; its own at first.
    pub version: Seq,
    /// Of the message that a fact is about; 0 for what is no fact.
    pub target_seq: Seq,
    pub removes: Option<UserId>,
    pub kind: Kind,
}

impl Header {
    pub fn of(entry: &wire::Entry) -> Self {
        let (kind, target_seq) = match &entry.content {
            Some(Content::Message(_)) => (Kind::Message, 0),
            Some(Content::Edited(fact)) => (Kind::Rewrite, fact.target_seq),
            Some(Content::Deleted(fact)) => (Kind::Rewrite, fact.target_seq),
            Some(Content::Erased(fact)) => (Kind::Rewrite, fact.target_seq),
            // 0 where the post had been deleted before: then nothing changes.
            Some(Content::PostDeleted(fact)) if fact.target_seq > 0 => (Kind::Rewrite, fact.target_seq),
            Some(Content::Reacted(fact) | Content::Unreacted(fact)) => (Kind::Reaction, fact.target_seq),
            Some(Content::MemberLeft(_)) => (Kind::Removal, 0),
            _ => (Kind::Other, 0),
        };
        let removes = match &entry.content {
            Some(Content::MemberLeft(left)) => UserId::from_wire(&left.user_id),
            _ => None,
        };
        Self { seq: entry.seq, version: entry.version, target_seq, removes, kind }
    }

    /// Shows `target`: the message itself, or a fact about it.
    pub fn holds(&self, target: Seq) -> bool {
        self.seq == target || self.target_seq == target
    }
}
