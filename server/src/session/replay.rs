//! From cursors to following: what a session does between its first `resume` and the last `caught_up`.

use bowline_protocol::command::Cursor;
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, Seq, UserId};

use super::action::{Action, Ask, Follow, ReadState};
use super::{Context, fail, push, reply};
use crate::accounts::Identity;
use crate::conversations::{AttachedLog, Attachment, HeadsPage, HeadsPlace};

/// How far a session has come.
pub(super) enum Replay {
    /// `resume` frames are being collected.
    Naming(Box<Naming>),
    /// The domain is asked what the user may follow.
    Attaching(Box<Naming>),
    /// Logs are followed; `heads` are still to be sent from this place on.
    Heads(Box<HeadsPlace>),
    Following,
}

#[derive(Default)]
pub(super) struct Naming {
    user_cursor: Option<Cursor>,
    named: Vec<Cursor>,
}

impl Replay {
    pub(super) fn before(user_cursor: Option<Cursor>) -> Self {
        Self::Naming(Box::new(Naming { user_cursor, named: Vec::new() }))
    }

    pub(super) fn resume(
        &mut self,
        id: u64,
        identity: Identity,
        cursors: Vec<Cursor>,
        more: bool,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        let Self::Naming(naming) = self else { return fail(id, Code::OutOfOrder, out) };
        let limit = cx.rules.limits.conversations;
        if (naming.named.len() + cursors.len()) as u64 > limit {
            return fail(id, Failure::too_large("resume.cursors", limit), out);
        }
        naming.named.extend(cursors);
        if more {
            return reply(id, Push::Resumed(wire::Resumed { logs: naming.named.len() as u64 }), out);
        }
        let naming = std::mem::take(&mut **naming);
        let (user_cursor, named) = (naming.user_cursor, naming.named.clone());
        *self = Self::Attaching(Box::new(naming));
        out.push(Action::Ask(Ask::Attach { id, identity, user_cursor, named }));
    }

    /// The domain could not say: the cursors are kept, and the client may send its last `resume` again.
    pub(super) fn failed(&mut self, id: u64, failure: Failure, out: &mut Vec<Action>) {
        if let Self::Attaching(naming) = self {
            *self = Self::Naming(std::mem::take(naming));
        }
        if failure.code == Code::Revoked {
            out.push(Action::Close(Close::Revoked));
        } else {
            fail(id, failure, out);
        }
    }

    pub(super) fn attached(
        &mut self,
        id: u64,
        identity: &Identity,
        attachment: Attachment,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        reply(id, Push::Resumed(wire::Resumed { logs: attachment.logs.len() as u64 }), out);
        let user = identity.user;
        let as_of_seq = attachment.user_as_of_seq;
        match attachment.user_replay {
            Some(replay) => {
                *self = Self::Following;
                follow(replay, true, cx, out);
            }
            None => {
                let place = HeadsPlace::first(as_of_seq);
                out.push(Action::Ask(Ask::Heads { user, place: place.clone() }));
                *self = Self::Heads(Box::new(place));
                let log = user.log();
                out.push(Action::Follow(Follow {
                    log,
                    after_seq: as_of_seq,
                    as_of_seq,
                    spans: Vec::new(),
                    watch: true,
                    announce: None,
                }));
            }
        }
        for log in attachment.unknown {
            push(Push::NotFound(wire::NotFound { log_id: log.to_wire() }), out);
        }
        for log in attachment.logs {
            follow(log, false, cx, out);
        }
    }

    /// A conversation joined while connected. Without an answer the connection would have a hole that nobody can see,
    /// so it ends, and the client resumes.
    pub(super) fn attached_one(
        &mut self,
        result: Result<Option<AttachedLog>, Failure>,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        match result {
            Ok(Some(log)) if (cx.position)(log.log).is_none() => follow(log, false, cx, out),
            // Left again meanwhile, or followed already.
            Ok(_) => {}
            Err(_) => out.push(Action::Close(Close::Overloaded)),
        }
    }

    pub(super) fn heads(&mut self, result: Result<HeadsPage, Failure>, out: &mut Vec<Action>) {
        let Self::Heads(place) = self else { return };
        let Ok(page) = result else { return out.push(Action::Close(Close::Overloaded)) };
        let as_of_seq = place.as_of_seq;
        push(Push::Heads(wire::Heads { as_of_seq, items: page.items, more: page.next.is_some() }), out);
        match page.next {
            Some(next) => {
                **place = next;
                out.push(Action::WhenDrained);
            }
            None => *self = Self::Following,
        }
    }

    /// The socket has taken the last page of heads: the next one may be read.
    pub(super) fn drained(&mut self, user: UserId, out: &mut Vec<Action>) {
        if let Self::Heads(place) = self {
            out.push(Action::Ask(Ask::Heads { user, place: (**place).clone() }));
        }
    }
}

/// Follows one log from where the client stands, saying aloud what can't be replayed.
fn follow(attached: AttachedLog, watch: bool, cx: &Context<'_>, out: &mut Vec<Action>) {
    let log = attached.log;
    let announce = attached.named.then_some(ReadState { read_seq: attached.read_seq, unread: attached.unread });
    let mut after_seq = attached.after_seq;
    if let Some((first_unsure_seq, epoch)) = attached.reset {
        push(Push::Reset(wire::Reset { log_id: log.to_wire(), first_unsure_seq, epoch }), out);
        after_seq = after_seq.min(first_unsure_seq.saturating_sub(1));
    }
    if after_seq + 1 < attached.first_seq {
        push(Push::Trimmed(wire::Trimmed { log_id: log.to_wire(), first_seq: attached.first_seq }), out);
        after_seq = attached.first_seq - 1;
    }
    let head = attached.last_seq();
    if head.saturating_sub(after_seq) > cx.rules.limits.replay_entries {
        push(Push::GapTooLarge(wire::GapTooLarge { log_id: log.to_wire(), head }), out);
        after_seq = head;
    }
    let AttachedLog { as_of_seq, spans, .. } = attached;
    out.push(Action::Follow(Follow { log, after_seq, as_of_seq, spans, watch, announce }));
}

impl AttachedLog {
    /// The last seq that this user may have of the log as it was: its head, or where his last span ended.
    fn last_seq(&self) -> Seq {
        match self.spans.last() {
            Some(span) => span.left_seq.map_or(self.as_of_seq, |left| left.min(self.as_of_seq)),
            None => self.as_of_seq,
        }
    }
}
