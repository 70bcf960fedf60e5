//! From cursors to following: what a session does between its first `resume` and the last `caught_up`.

use std::sync::Arc;

use bowline_protocol::command::Cursor;
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId, Seq, UserId};

use super::action::{Action, Ask};
use super::naming::Naming;
use super::{Context, fail, not_here, push, reply};
use crate::accounts::Identity;
use crate::conversations::{AttachedLog, Attachment, HeadsPage, HeadsPlace};
use crate::limits::Budget;
use crate::tail::Spans;
use crate::wire::Follow;

/// How far a session has come.
pub(super) struct Replay {
    stage: Stage,
    /// Logs whose end of replay is to be told, with how far the user has read them.
    announced: Vec<(LogId, Seq, u64)>,
}

enum Stage {
    /// `resume` frames are being collected.
    Naming(Box<Naming>),
    /// The domain is asked what the user may follow.
    Attaching(Box<Naming>),
    /// Logs are followed; `heads` are still to be sent from this place on.
    Heads(Box<HeadsPlace>),
    Following,
}

impl Replay {
    pub(super) fn before(user_cursor: Option<Cursor>, budget: &Arc<Budget>) -> Self {
        let naming = Naming::new(user_cursor, budget);
        Self { stage: Stage::Naming(Box::new(naming)), announced: Vec::new() }
    }

    pub(super) fn resume(
        &mut self,
        id: u64,
        identity: &Identity,
        cursors: Vec<Cursor>,
        more: bool,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        let Stage::Naming(naming) = &mut self.stage else { return fail(id, Code::OutOfOrder, out) };
        if let Err(failure) = naming.add(&cursors, cx) {
            // Going on with what was named before would hide what was not.
            let close = (failure.code == Code::Overloaded).then_some(Action::Close(Close::Overloaded));
            fail(id, failure, out);
            return out.extend(close);
        }
        if more {
            return reply(id, Push::Resumed(wire::Resumed { logs: naming.named.len() as u64 }), out);
        }
        let named = Arc::clone(&naming.named);
        let user_cursor = naming.user_cursor;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Naming(naming) => Stage::Attaching(naming),
            other => other,
        };
        out.push(Action::Ask(Ask::Attach { id, identity: identity.clone(), user_cursor, named }));
    }

    /// Cursors are named, and the last `resume` does not come.
    pub(super) fn lingers(&self, cx: &Context<'_>) -> bool {
        matches!(&self.stage, Stage::Naming(naming) if naming.lingers(cx))
    }

    /// The last `resume` has come. Before it the user log is not followed, so a revocation would go unheard.
    pub(super) fn is_named(&self) -> bool {
        !matches!(self.stage, Stage::Naming(_))
    }

    /// The last `resume` was answered.
    pub(super) fn follows(&self) -> bool {
        matches!(self.stage, Stage::Following | Stage::Heads(_))
    }

    pub(super) fn attached(
        &mut self,
        id: u64,
        user: UserId,
        result: Result<Attachment, Failure>,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        let attachment = match result {
            Ok(attachment) => attachment,
            Err(failure) => return self.failed(id, failure, out),
        };
        reply(id, Push::Resumed(wire::Resumed { logs: attachment.logs.len() as u64 }), out);
        self.stage = Stage::Following;
        match attachment.user_replay {
            Some(replay) => self.follow(replay, true, Some(cx.rules.limits.replay_entries), out),
            None => self.begin_heads(user, attachment.user_as_of_seq, attachment.read_at, out),
        }
        for log in attachment.unknown {
            push(Push::NotFound(wire::NotFound { log_id: log.to_wire() }), out);
        }
        for log in attachment.logs {
            self.follow(log, false, Some(cx.rules.limits.replay_entries), out);
        }
    }

    /// The domain could not say: the cursors are kept, and the client may send its last `resume` again, empty.
    fn failed(&mut self, id: u64, failure: Failure, out: &mut Vec<Action>) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Attaching(naming) => Stage::Naming(naming),
            other => other,
        };
        let revoked = failure.code == Code::Revoked;
        fail(id, failure, out);
        if revoked {
            out.push(Action::Close(Close::Revoked));
        }
    }

    /// One log, opened by the command `id`.
    pub(super) fn opened(
        &mut self,
        id: u64,
        user: UserId,
        result: Result<Option<AttachedLog>, Failure>,
        out: &mut Vec<Action>,
    ) {
        match result {
            Ok(Some(log)) => {
                reply(id, Push::Done(wire::Done {}), out);
                let watch = log.log == user.log();
                // It asks for the way from there itself, however long.
                self.follow(AttachedLog { named: true, ..log }, watch, None, out);
            }
            Ok(None) => fail(id, not_here(), out),
            Err(failure) => fail(id, failure, out),
        }
    }

    pub(super) fn heads(&mut self, result: Result<HeadsPage, Failure>, out: &mut Vec<Action>) {
        let Stage::Heads(place) = &mut self.stage else { return };
        let Ok(page) = result else { return out.push(Action::Close(Close::Overloaded)) };
        let heads = wire::Heads { as_of_seq: place.as_of_seq, items: page.items, more: page.next.is_some() };
        push(Push::Heads(heads), out);
        match page.next {
            Some(next) => {
                **place = next;
                out.push(Action::WhenDrained);
            }
            None => self.stage = Stage::Following,
        }
    }

    /// The socket has taken the last page of heads: the next one may be read.
    pub(super) fn drained(&mut self, user: UserId, out: &mut Vec<Action>) {
        if let Stage::Heads(place) = &self.stage {
            out.push(Action::Ask(Ask::Heads { user, place: (**place).clone() }));
        }
    }

    /// A replay has covered everything up to `seq`.
    pub(super) fn level(&mut self, log: LogId, seq: Seq, out: &mut Vec<Action>) {
        let Some(at) = self.announced.iter().position(|(announced, ..)| *announced == log) else { return };
        let (_, read_seq, unread) = self.announced.swap_remove(at);
        if self.announced.is_empty() {
            self.announced = Vec::new();
        }
        push(Push::CaughtUp(wire::CaughtUp { log_id: log.to_wire(), seq, read_seq, unread }), out);
    }

    /// The user log from its head on, and what stands before it as a folded snapshot.
    fn begin_heads(&mut self, user: UserId, as_of_seq: Seq, read_at: std::time::Instant, out: &mut Vec<Action>) {
        let place = HeadsPlace::first(as_of_seq);
        out.push(Action::Ask(Ask::Heads { user, place: place.clone() }));
        self.stage = Stage::Heads(Box::new(place));
        let spans = Spans::whole();
        let follow = Follow { from: as_of_seq, as_of_seq, read_at, spans, watch: true, announce: false };
        out.push(Action::Follow(user.log(), follow));
    }

    /// Follows one log from where the client stands, saying aloud what can't be replayed: what is no longer kept, and
    /// what is more than `most` entries.
    pub(super) fn follow(&mut self, attached: AttachedLog, watch: bool, most: Option<u64>, out: &mut Vec<Action>) {
        let log = attached.log;
        let mut from = attached.after_seq;
        if let Some((first_unsure_seq, epoch)) = attached.reset {
            push(Push::Reset(wire::Reset { log_id: log.to_wire(), first_unsure_seq, epoch }), out);
            from = from.min(first_unsure_seq.saturating_sub(1));
        }
        if from + 1 < attached.first_seq {
            push(Push::Trimmed(wire::Trimmed { log_id: log.to_wire(), first_seq: attached.first_seq }), out);
            from = attached.first_seq - 1;
        }
        let spans = Spans::new(attached.spans);
        let head = spans.closed_at().unwrap_or(attached.as_of_seq);
        if most.is_some_and(|most| head.saturating_sub(from) > most) {
            push(Push::GapTooLarge(wire::GapTooLarge { log_id: log.to_wire(), head }), out);
            from = head;
        }
        if attached.named {
            // One that is opened again before its replay has ended is announced once.
            self.announced.retain(|(announced, ..)| *announced != log);
            self.announced.push((log, attached.read_seq, attached.unread));
        }
        let AttachedLog { as_of_seq, read_at, named: announce, .. } = attached;
        out.push(Action::Follow(log, Follow { from, as_of_seq, read_at, spans, watch, announce }));
    }
}
