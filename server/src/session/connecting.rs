//! Before a connection is let in: waiting for `connect`, then for what the domain says to it.

use bowline_protocol::command::{Command, Cursor};
use bowline_protocol::wire::{self, ClientFrame, client_frame::Kind, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure};

use super::action::{Action, Ask, Credential, Welcome};
use super::held::Held;
use super::live::Live;
use super::{Context, State, early, fail, reply};
use crate::accounts::Identity;

/// No `connect` yet.
pub(super) struct New {
    identity: Option<Identity>,
    opened_at_ms: i64,
}

/// `connect` came; its token is being looked at.
pub(super) struct Connecting {
    new: New,
    user_cursor: Option<Cursor>,
    held: Held,
}

impl New {
    pub(super) fn opened(identity: Option<Identity>, opened_at_ms: i64) -> Self {
        Self { identity, opened_at_ms }
    }

    pub(super) fn timed_out(&self, cx: &Context<'_>) -> bool {
        cx.now_ms - self.opened_at_ms > cx.rules.connect_timeout_ms
    }

    pub(super) fn frame(self, id: u64, kind: Kind, cx: &Context<'_>, out: &mut Vec<Action>) -> State {
        let command = match Command::check(kind, &cx.rules.limits) {
            Ok(command) => command,
            Err(failure) => {
                fail(id, failure, out);
                return State::New(self);
            }
        };
        let Command::Connect { access_token, client_name, user_cursor } = command else {
            fail(id, early("connect first"), out);
            return State::New(self);
        };
        let credential = match &self.identity {
            Some(identity) if access_token.is_empty() => Credential::Verified(identity.clone()),
            _ => Credential::Token(access_token),
        };
        out.push(Action::Ask(Ask::Connect { id, credential, client_name }));
        State::Connecting(Box::new(Connecting { new: self, user_cursor, held: Held::none(&cx.rules.resuming) }))
    }
}

impl Connecting {
    /// Frames sent behind `connect` wait for its reply.
    pub(super) fn hold(&mut self, frame: &ClientFrame, out: &mut Vec<Action>) {
        if let Err(failure) = self.held.add(frame) {
            // Going on without this one would leave out what it asks for.
            let close = (failure.code == Code::Overloaded).then_some(Action::Close(Close::Overloaded));
            fail(frame.id, failure, out);
            out.extend(close);
        }
    }

    pub(super) fn connected(
        self,
        id: u64,
        result: Result<Welcome, Failure>,
        cx: &Context<'_>,
        held: &mut Vec<ClientFrame>,
        out: &mut Vec<Action>,
    ) -> State {
        let welcome = match result {
            Ok(welcome) => welcome,
            Err(failure) => {
                let close = close_for(failure.code);
                fail(id, failure, out);
                let Some(close) = close else {
                    // The domain is away, not the client wrong: the socket stays, and it may ask again.
                    *held = self.held.take();
                    return State::New(self.new);
                };
                out.push(Action::Close(close));
                return State::Ended;
            }
        };
        out.push(Action::Authenticated(welcome.identity.user));
        reply(id, Push::Connected(connected(&welcome, cx)), out);
        *held = self.held.take();
        State::Live(Live::new(welcome.identity, self.user_cursor, &cx.rules.resuming))
    }
}

/// Refusals that end the connection; others leave it open.
fn close_for(code: Code) -> Option<Close> {
    match code {
        Code::Unauthenticated => Some(Close::Unauthenticated),
        Code::TokenExpired => Some(Close::TokenExpired),
        Code::Revoked => Some(Close::Revoked),
        _ => None,
    }
}

fn connected(welcome: &Welcome, cx: &Context<'_>) -> wire::Connected {
    wire::Connected {
        session_id: welcome.identity.session.to_wire(),
        user_id: welcome.identity.user.to_wire(),
        epoch: welcome.epoch,
        heartbeat_interval_ms: cx.rules.heartbeat_interval_ms,
        limits: Some(cx.rules.limits.to_wire()),
        capabilities: Vec::new(),
        token_expires_at_ms: welcome.identity.expires_at_ms,
    }
}
