//! A connection that was let in.

use std::num::NonZeroU64;
use std::sync::Arc;

use bowline_protocol::command::{Command, Cursor};
use bowline_protocol::wire::{self, client_frame::Kind, entry::Content, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId, Seq, SessionId, UserId};

use super::action::{Action, Ask, Outcome};
use super::replay::Replay;
use super::{Context, commands, fail, push, reply};
use crate::accounts::Identity;
use crate::conversations::AttachedLog;
use crate::limits::Budget;

pub(super) struct Live {
    pub(super) identity: Identity,
    pub(super) replay: Replay,
    /// What happened in the user log up to here is known: from the snapshot that the session attached with, or passed.
    user_seq: Seq,
    /// Only while something is joined: few sessions have it at any time, and all would pay for its room.
    joining: Option<Box<Joining>>,
    /// Topics that are subscribed.
    pub(super) topics: u16,
    told_expiring: bool,
    /// The low bits of the time: enough to tell a second from a longer pause.
    last_typing_ms: u32,
    /// This client's own `session_revoke`, whose reply goes out before it closes the connection.
    revoking: Option<NonZeroU64>,
    revoked: bool,
}

/// Conversations that were joined and are not followed yet.
#[derive(Default)]
struct Joining {
    /// Conversations that the domain is asked for because they were joined. One at a time each: answers may overtake
    /// each other, and the oldest stay comes first.
    attaching: Vec<LogId>,
    /// Conversations joined anew while the cursor there has not yet passed the leaving before it, with the seq of joining.
    rejoined: Vec<(LogId, Seq)>,
}

/// More rejoinings than this at once, and the connection is better resumed.
const MAX_REJOINED: usize = 64;

/// A client that types sends `typing` again and again; more often than this it is not passed on.
const TYPING_INTERVAL_MS: u32 = 1_000;

impl Live {
    pub(super) fn new(identity: Identity, user_cursor: Option<Cursor>, budget: &Arc<Budget>) -> Self {
        Self {
            identity,
            replay: Replay::before(user_cursor, budget),
            user_seq: 0,
            joining: None,
            topics: 0,
            told_expiring: false,
            last_typing_ms: 0,
            revoking: None,
            revoked: false,
        }
    }

    pub(super) fn user(&self) -> UserId {
        self.identity.user
    }

    pub(super) fn frame(&mut self, id: u64, kind: Kind, cx: &Context<'_>, out: &mut Vec<Action>) {
        match Command::check(kind, &cx.rules.limits) {
            Ok(command) => commands::run(self, id, command, cx, out),
            Err(failure) => fail(id, failure, out),
        }
    }

    pub(super) fn outcome(&mut self, outcome: Outcome, cx: &Context<'_>, out: &mut Vec<Action>) {
        match outcome {
            Outcome::Reply { id, result } => {
                match result {
                    Ok(kind) => reply(id, kind, out),
                    Err(failure) => fail(id, failure, out),
                }
                if self.revoking.map(NonZeroU64::get) == Some(id) {
                    self.revoking = None;
                    self.close_if_revoked(out);
                }
            }
            Outcome::Attached { id, result } => {
                if let Ok(attachment) = &result {
                    self.user_seq = attachment.user_as_of_seq;
                }
                self.replay.attached(id, self.identity.user, result, cx, out);
            }
            Outcome::AttachedOne { id: None, log, result } => self.joined(log, result, cx, out),
            Outcome::AttachedOne { id: Some(id), result, .. } => {
                self.replay.opened(id, self.identity.user, result, out);
            }
            Outcome::Heads { result } => self.replay.heads(result, out),
            Outcome::Refreshed { id, result } => self.refreshed(id, result, out),
            Outcome::FeedUpdate(update) => push(Push::FeedUpdate(update), out),
            Outcome::Connected { .. } => {}
        }
    }

    fn refreshed(&mut self, id: u64, result: Result<Identity, Failure>, out: &mut Vec<Action>) {
        match result {
            Ok(identity) if identity.user != self.identity.user => {
                fail(id, Failure::invalid("refresh.access_token", "the token of another user"), out);
            }
            Ok(identity) => {
                let token_expires_at_ms = identity.expires_at_ms;
                self.identity = identity;
                self.told_expiring = false;
                reply(id, Push::Refreshed(wire::Refreshed { token_expires_at_ms }), out);
            }
            Err(failure) => {
                let revoked = failure.code == Code::Revoked;
                fail(id, failure, out);
                if revoked {
                    out.push(Action::Close(Close::Revoked));
                }
            }
        }
    }

    /// An entry of the user log. What it says of conversations and sessions is acted on once, wherever the client moves
    /// in that log, and only if it is newer than the snapshot that the session attached with.
    pub(super) fn passed(&mut self, entry: &wire::Entry, cx: &Context<'_>, out: &mut Vec<Action>) {
        if entry.seq <= self.user_seq {
            return;
        }
        self.user_seq = entry.seq;
        match &entry.content {
            Some(Content::Joined(joined)) => {
                let Some(log) = LogId::from_wire(&joined.conversation_id) else { return };
                let joined_seq = joined.conversation_seq;
                match (cx.position)(log) {
                    None if !self.is_attaching(log) => self.attach_one(log, joined_seq, out),
                    position => self.rejoin_later(log, joined_seq, position.unwrap_or_default(), out),
                }
            }
            Some(Content::SessionRevoked(revoked)) => self.hear_of_revocation(revoked, out),
            _ => {}
        }
    }

    /// An entry that the peer has not taken. What it says of conversations can wait for him; the end of his session can't.
    pub(super) fn foreseen(&mut self, entry: &wire::Entry, out: &mut Vec<Action>) {
        if entry.seq > self.user_seq
            && let Some(Content::SessionRevoked(revoked)) = &entry.content
        {
            self.hear_of_revocation(revoked, out);
        }
    }

    fn hear_of_revocation(&mut self, revoked: &wire::SessionRevoked, out: &mut Vec<Action>) {
        let session = revoked.session_id.as_deref().map(SessionId::from_wire);
        if session.is_none_or(|s| s == Some(self.identity.session)) {
            self.revoked = true;
            self.close_if_revoked(out);
        }
    }

    /// What the domain says of a conversation that was joined. Without an answer it would be a hole that nobody can see,
    /// so the connection ends, and the client resumes.
    fn joined(
        &mut self,
        log: LogId,
        result: Result<Option<AttachedLog>, Failure>,
        cx: &Context<'_>,
        out: &mut Vec<Action>,
    ) {
        self.settle_joining(|joining| joining.attaching.retain(|attaching| *attaching != log));
        match (result, (cx.position)(log)) {
            (Ok(Some(attached)), None) => {
                self.replay.follow(attached, false, Some(cx.rules.limits.replay_entries), out)
            }
            // The client has opened it meanwhile, in a stay before this one perhaps.
            (Ok(Some(attached)), Some(position)) => self.rejoin_later(log, attached.after_seq + 1, position, out),
            (Ok(None), position) => self.removed(log, position.unwrap_or_default(), out),
            (Err(_), _) => out.push(Action::Close(Close::Overloaded)),
        }
    }

    /// The cursor still goes through a stay before this one.
    fn rejoin_later(&mut self, log: LogId, joined_seq: Seq, position: Seq, out: &mut Vec<Action>) {
        let rejoined = &mut self.joining.get_or_insert_default().rejoined;
        rejoined.retain(|(l, seq)| *l != log || *seq > position);
        if rejoined.len() < MAX_REJOINED {
            rejoined.push((log, joined_seq));
        } else {
            out.push(Action::Close(Close::Overloaded));
        }
    }

    /// The cursor of a conversation has passed the entry that removed this user, and is gone.
    pub(super) fn removed(&mut self, log: LogId, seq: Seq, out: &mut Vec<Action>) {
        let mut again = None;
        self.settle_joining(|joining| {
            let later = joining.rejoined.iter().filter(|(l, joined_seq)| *l == log && *joined_seq > seq);
            again = later.map(|(_, joined_seq)| *joined_seq).min();
            joining.rejoined.retain(|(l, _)| *l != log);
        });
        if let Some(joined_seq) = again {
            self.attach_one(log, joined_seq, out);
        }
    }

    fn is_attaching(&self, log: LogId) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.attaching.contains(&log))
    }

    /// Changes what is being joined, and gives its room back once it is nothing.
    fn settle_joining(&mut self, change: impl FnOnce(&mut Joining)) {
        let Some(joining) = &mut self.joining else { return };
        change(joining);
        if joining.attaching.is_empty() && joining.rejoined.is_empty() {
            self.joining = None;
        }
    }

    fn attach_one(&mut self, log: LogId, joined_seq: Seq, out: &mut Vec<Action>) {
        self.joining.get_or_insert_default().attaching.push(log);
        let after_seq = joined_seq.saturating_sub(1);
        out.push(Action::Ask(Ask::AttachOne { id: None, user: self.user(), log, after_seq }));
    }

    /// The client asks for an end of sessions, this one perhaps. One that is ended already gains no time by it.
    pub(super) fn begin_revoking(&mut self, id: u64) {
        if !self.revoked {
            self.revoking = NonZeroU64::new(id);
        }
    }

    fn close_if_revoked(&self, out: &mut Vec<Action>) {
        if self.revoked && self.revoking.is_none() {
            out.push(Action::Close(Close::Revoked));
        }
    }

    pub(super) fn drained(&mut self, out: &mut Vec<Action>) {
        self.replay.drained(self.identity.user, out);
    }

    pub(super) fn sweep(&mut self, cx: &Context<'_>, out: &mut Vec<Action>) {
        let expires_at_ms = self.identity.expires_at_ms;
        if cx.now_ms >= expires_at_ms {
            out.push(Action::Close(Close::TokenExpired));
        } else if self.replay.lingers(cx) {
            out.push(Action::Close(Close::ConnectTimeout));
        } else if !self.told_expiring && cx.now_ms >= expires_at_ms - cx.rules.token_notice_ms {
            self.told_expiring = true;
            push(Push::TokenExpiring(wire::TokenExpiring { expires_at_ms }), out);
        }
    }

    /// Whether a `typing` may be passed on now.
    pub(super) fn may_type(&mut self, cx: &Context<'_>) -> bool {
        let now_ms = cx.now_ms as u32;
        let due = now_ms.wrapping_sub(self.last_typing_ms) >= TYPING_INTERVAL_MS;
        if due {
            self.last_typing_ms = now_ms;
        }
        due
    }
}
