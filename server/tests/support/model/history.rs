//! What happens in the model's log: messages, facts, membership.

use std::collections::BTreeMap;

use bowline::tail::Span;
use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::{self, Deleted, Edited, MemberLeft, MembersAdded, Message};
use bowline_protocol::{LogId, Seq};

use super::{USERS, World};

impl World {
    pub(super) fn head(&self) -> Seq {
        self.committed.len() as Seq
    }

    pub(super) fn commit(&mut self, content: Content) -> Seq {
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

    pub(super) fn message(&mut self) {
        let body = format!("{}.first", self.head() + 1);
        let seq = self.commit(Content::Message(Message { body: Some(body.clone()), ..Default::default() }));
        self.texts.insert(seq, BTreeMap::from([(seq, Some(body))]));
    }

    /// A message that is not deleted.
    pub(super) fn pick_message(&self, i: usize) -> Option<Seq> {
        let there: Vec<Seq> =
            self.texts.iter().filter(|(_, texts)| texts.values().all(Option::is_some)).map(|(seq, _)| *seq).collect();
        // Recent ones more often than old ones, as in life.
        let recent = &there[there.len().saturating_sub(if i.is_multiple_of(3) { there.len() } else { 20 })..];
        (!recent.is_empty()).then(|| recent[i % recent.len()])
    }

    pub(super) fn rewrite(&mut self, i: usize, edit: bool) {
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

    pub(super) fn join(&mut self, user: usize) {
        if self.spans[user].last().is_some_and(|span| span.left_seq.is_none()) {
            return;
        }
        let id = self.users[user].to_wire();
        let seq = self.commit(Content::MembersAdded(MembersAdded { user_ids: vec![id] }));
        // The last user sees what was said before he came.
        let visible_from = if user == USERS - 1 { 1 } else { seq };
        self.spans[user].push(Span { visible_from, left_seq: None });
    }

    pub(super) fn leave(&mut self, user: usize) {
        let id = self.users[user].to_wire();
        if self.spans[user].last().is_some_and(|span| span.left_seq.is_none()) {
            let seq = self.commit(Content::MemberLeft(MemberLeft { user_id: id }));
            if let Some(span) = self.spans[user].last_mut() {
                span.left_seq = Some(seq);
            }
        }
    }
}
