//! One connection's protocol: handshake, resume, commands, expiry. **Pure**: it takes events and returns actions.
//!
//! May use the types of the domain rooms (what to ask for and what comes back); has no clock, no socket, no SQL. Time
//! comes in with each event, positions of cursors are asked for through [`Context`].
//!
//! What always holds:
//! - every command gets exactly one reply or error, and commands are handed on in the order in which they came;
//! - nothing of any log is pushed before the last `resume`, and nothing at all before `connect` succeeded;
//! - what a peer has held before it follows anything is within one budget of the process, and not for long;
//! - nothing is done for a user before it was looked at whether his session was revoked, and by the last `resume` again;
//! - who the user is comes from the token alone.

mod action;
mod commands;
mod connecting;
mod held;
mod live;
mod naming;
mod pace;
mod replay;
mod topics;

pub use action::{Action, Ask, Credential, Outcome, Welcome, Write, WriteKind};

use std::sync::Arc;

use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, ClientFrame, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId, Seq, UserId};

use crate::accounts::Identity;
use crate::limits::Budget;
use connecting::{Connecting, New};
use live::Live;
use pace::{Pace, Pass};
pub(crate) use topics::subscribed;

/// What every session of a server shares.
#[derive(Clone, Debug)]
pub struct Rules {
    pub limits: Limits,
    pub heartbeat_interval_ms: u64,
    /// A connection that has not connected by then is closed, and one that named cursors and has not resumed.
    pub connect_timeout_ms: i64,
    /// How long before a token's end its client is told.
    pub token_notice_ms: i64,
    /// What peers may have the process hold until they follow something: frames behind `connect`, and cursors that they name.
    pub resuming: Arc<Budget>,
}

/// Half a million cursors: of 10,000 users at once those of 50 conversations each.
const RESUMING_BYTES: usize = 16 * 1024 * 1024;

impl Default for Rules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            heartbeat_interval_ms: 30_000,
            connect_timeout_ms: 10_000,
            token_notice_ms: 60_000,
            resuming: Budget::new(RESUMING_BYTES),
        }
    }
}

/// What a session may know of the world while it handles one event.
pub struct Context<'a> {
    pub rules: &'a Rules,
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Where this connection's cursor on a log stands, if it follows that log. To follow is to be a member.
    pub position: &'a dyn Fn(LogId) -> Option<Seq>,
    /// Where this connection stands in a topic, if it is subscribed.
    pub topic: &'a dyn Fn(&str) -> Option<Seq>,
}

/// The protocol's state of one connection.
pub struct Session {
    state: State,
    pace: Pace,
}

/// The states are types; a transition consumes the old one.
enum State {
    New(New),
    Connecting(Box<Connecting>),
    Live(Live),
    Ended,
}

impl Session {
    /// A socket that was just upgraded; with an identity if the upgrade carried a valid token.
    pub fn new(identity: Option<Identity>, now_ms: i64) -> Self {
        Self { state: State::New(New::opened(identity, now_ms)), pace: Pace::default() }
    }

    /// Whether a frame may be looked at, a broken or an empty one too; asked once for each before anything else. The
    /// failure is its answer. One that goes on after many refusals is closed.
    pub fn admit(&mut self, cx: &Context<'_>, out: &mut Vec<Action>) -> Result<(), Failure> {
        match self.pace.take(&cx.rules.limits, cx.now_ms) {
            Pass::Yes => Ok(()),
            Pass::Refused(failure) => Err(failure),
            Pass::TooOften => {
                if !matches!(self.state, State::Ended) {
                    self.end(Close::RateLimited, out);
                }
                Err(Code::RateLimited.into())
            }
        }
    }

    /// Nothing that comes is answered any more.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// A frame of the peer, or why it could not be decoded.
    pub fn frame(&mut self, frame: ClientFrame, cx: &Context<'_>, out: &mut Vec<Action>) {
        let Some(kind) = frame.kind else { return fail(frame.id, Code::UnknownCommand, out) };
        if frame.id == 0 {
            return fail(0, Failure::invalid("id", "must be at least 1"), out);
        }
        match &mut self.state {
            State::New(_) => self.step(out, |state, out| match state {
                State::New(new) => new.frame(frame.id, kind, cx, out),
                other => other,
            }),
            State::Connecting(connecting) => connecting.hold(&ClientFrame { id: frame.id, kind: Some(kind) }, out),
            State::Live(live) => live.frame(frame.id, kind, cx, out),
            State::Ended => {}
        }
    }

    /// What came of an [`Action::Ask`] or an [`Action::Write`].
    pub fn outcome(&mut self, outcome: Outcome, cx: &Context<'_>, out: &mut Vec<Action>) {
        match (&mut self.state, outcome) {
            (State::Connecting(_), Outcome::Connected { id, result }) => {
                let mut held = Vec::new();
                self.step(out, |state, out| match state {
                    State::Connecting(connecting) => connecting.connected(id, result, cx, &mut held, out),
                    other => other,
                });
                for frame in held {
                    self.frame(frame, cx, out);
                }
            }
            (State::Live(live), outcome) => live.outcome(outcome, cx, out),
            (_, _) => {}
        }
    }

    /// The cursor of the user log has passed an entry, in order.
    pub fn passed(&mut self, entry: &wire::Entry, cx: &Context<'_>, out: &mut Vec<Action>) {
        if let State::Live(live) = &mut self.state {
            live.passed(entry, cx, out);
        }
    }

    /// The user log has an entry that this connection, whose peer takes nothing, has not passed: may be said more than once.
    pub fn foreseen(&mut self, entry: &wire::Entry, out: &mut Vec<Action>) {
        if let State::Live(live) = &mut self.state {
            live.foreseen(entry, out);
        }
    }

    /// The cursor of a conversation has passed the entry that removed this user, and is gone.
    pub fn removed(&mut self, log: LogId, seq: Seq, out: &mut Vec<Action>) {
        if let State::Live(live) = &mut self.state {
            live.removed(log, seq, out);
        }
    }

    /// A replay has covered everything up to `seq`. `ended`: it was of a stay that is over, and the cursor is gone.
    pub fn level(&mut self, log: LogId, seq: Seq, ended: bool, out: &mut Vec<Action>) {
        if let State::Live(live) = &mut self.state {
            live.replay.level(log, seq, out);
            if ended {
                live.removed(log, seq, out);
            }
        }
    }

    /// The socket has taken all that was sent to it privately.
    pub fn drained(&mut self, out: &mut Vec<Action>) {
        if let State::Live(live) = &mut self.state {
            live.drained(out);
        }
    }

    /// The coarse look at the clock.
    pub fn sweep(&mut self, cx: &Context<'_>, out: &mut Vec<Action>) {
        match &mut self.state {
            State::New(new) if new.timed_out(cx) => self.end(Close::ConnectTimeout, out),
            State::Live(live) => live.sweep(cx, out),
            _ => {}
        }
    }

    /// Who this connection is for, once it is known.
    pub fn user(&self) -> Option<UserId> {
        match &self.state {
            State::Live(live) => Some(live.user()),
            _ => None,
        }
    }

    fn end(&mut self, close: Close, out: &mut Vec<Action>) {
        self.state = State::Ended;
        out.push(Action::Close(close));
    }

    fn step(&mut self, out: &mut Vec<Action>, transition: impl FnOnce(State, &mut Vec<Action>) -> State) {
        let state = std::mem::replace(&mut self.state, State::Ended);
        self.state = transition(state, out);
    }
}

/// A reply to the command `id`.
fn reply(id: u64, kind: Push, out: &mut Vec<Action>) {
    out.push(Action::Send(wire::ServerFrame { id: Some(id), kind: Some(kind) }));
}

/// A frame that answers no command.
fn push(kind: Push, out: &mut Vec<Action>) {
    out.push(Action::Send(wire::ServerFrame { id: None, kind: Some(kind) }));
}

/// The error of a command; without an id where none could be read.
pub(crate) fn error_frame(id: Option<u64>, failure: &Failure) -> wire::ServerFrame {
    wire::ServerFrame { id: id.filter(|id| *id > 0), kind: Some(Push::Error(failure.to_wire())) }
}

fn fail(id: u64, failure: impl Into<Failure>, out: &mut Vec<Action>) {
    out.push(Action::Send(error_frame(Some(id), &failure.into())));
}

/// A command that comes before its time.
fn early(what_first: &str) -> Failure {
    Failure { message: Some(what_first.into()), ..Failure::new(Code::OutOfOrder) }
}

/// What is not there for this user, whether it exists or not.
fn not_here() -> Failure {
    Failure { field: Some("log_id".into()), ..Failure::new(Code::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::Session;

    /// The targets count bytes a socket, and every one has a session.
    #[test]
    fn a_session_is_small() {
        let size = size_of::<Session>();
        println!("session {size} B");
        assert!(size <= 128, "{size}");
    }
}
