//! Before a connection is let in.

use bowline::limits::Budget;
use bowline::session::{Action, Ask, Credential, Outcome, Rules, Session};
use bowline_protocol::wire::{self, ClientFrame, client_frame::Kind, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId};

use crate::peer::{Peer, START_MS, ask, away, connect, cursor, error, frame, identity, resume};

fn ping() -> Kind {
    Kind::Ping(wire::Ping {})
}

#[test]
fn nothing_is_done_before_connect() {
    let mut peer = Peer::new();
    for kind in [ping(), resume(vec![], false), Kind::SessionList(wire::SessionList {})] {
        assert_eq!(error(&peer.acts(kind)), Code::OutOfOrder);
    }
    assert_eq!(peer.session.user(), None);
    assert_eq!(peer.drained(), []);
    assert_eq!(peer.level(identity().user.log(), 1), []);
}

#[test]
fn frames_without_kind_or_id_are_refused_and_change_nothing() {
    let mut peer = Peer::new();
    let unknown = peer.event(|session, cx, out| session.frame(ClientFrame { id: 7, kind: None }, cx, out));
    assert_eq!((frame(&unknown).id, error(&unknown)), (Some(7), Code::UnknownCommand));
    let nameless = peer.event(|session, cx, out| session.frame(ClientFrame { id: 0, kind: Some(ping()) }, cx, out));
    assert_eq!((frame(&nameless).id, error(&nameless)), (None, Code::Invalid));
    assert!(matches!(ask(&peer.acts(connect(None))), Ask::Connect { .. }));
}

#[test]
fn the_token_of_the_header_counts_unless_connect_brings_one() {
    let known = identity();
    for (access_token, expected) in
        [("", Credential::Verified(known.clone())), ("other", Credential::Token("other".to_owned()))]
    {
        let mut peer = Peer::new();
        peer.session = Session::new(Some(known.clone()), START_MS);
        let connect = wire::Connect { access_token: access_token.into(), ..Default::default() };
        let actions = peer.acts(Kind::Connect(connect));
        assert!(matches!(ask(&actions), Ask::Connect { credential, .. } if *credential == expected), "{actions:?}");
    }
}

#[test]
fn what_follows_connect_waits_for_it_in_order() {
    let mut peer = Peer::new();
    let (id, _) = peer.send(connect(None));
    let (first, none) = peer.send(ping());
    assert_eq!(none, []);
    let (second, _) = peer.send(connect(None));
    let (third, _) = peer.send(resume(vec![], false));
    let result = Ok(peer.welcome());
    let actions = peer.outcome(Outcome::Connected { id, result });
    let (user, session) = (peer.identity.user, peer.identity.session);
    assert_eq!(actions[0], Action::Authenticated(user));
    let Action::Send(connected) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(connected.id, Some(id));
    let Some(Push::Connected(said)) = &connected.kind else { panic!("{connected:?}") };
    assert_eq!((&said.user_id, &said.session_id, said.epoch), (&user.to_wire(), &session.to_wire(), 1));
    let ids: Vec<_> = actions[2..]
        .iter()
        .map(|action| match action {
            Action::Send(frame) => frame.id.unwrap(),
            Action::Ask(Ask::Attach { id, .. }) => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [first, second, third]);
    assert_eq!(peer.session.user(), Some(user));
}

#[test]
fn only_so_many_wait() {
    let mut peer = Peer::new();
    peer.send(connect(None));
    for _ in 0..32 {
        assert_eq!(peer.acts(ping()), []);
    }
    assert_eq!(error(&peer.acts(ping())), Code::OutOfOrder);
}

#[test]
fn what_waits_is_bounded_for_all_who_connect() {
    let rules = Rules { resuming: Budget::new(3_000), ..Rules::default() };
    let connecting = || {
        let mut peer = Peer::new();
        peer.rules = rules.clone();
        let (id, _) = peer.send(connect(None));
        (peer, id)
    };
    let cursors = |n| resume((0..n).map(|_| cursor(LogId::new(), 1)).collect(), true);
    let (mut one, id) = connecting();
    // Each takes 24 bytes, as on the wire.
    assert_eq!(one.acts(cursors(100)), []);
    let (mut other, _) = connecting();
    let mut refused = other.acts(cursors(100));
    assert_eq!(refused.pop(), Some(Action::Close(Close::Overloaded)));
    assert_eq!(error(&refused), Code::Overloaded);

    let result = Ok(one.welcome());
    let mut actions = one.outcome(Outcome::Connected { id, result });
    assert_eq!(actions.pop(), Some(Action::Close(Close::Overloaded)), "decoded, they are too many: {actions:?}");
    drop(one);
    let (mut third, _) = connecting();
    assert_eq!(third.acts(cursors(100)), [], "there is room again");
}

#[test]
fn a_refusal_ends_the_connection_and_trouble_of_the_server_does_not() {
    #[rustfmt::skip]
    let cases = [
        (Code::Unauthenticated,  Some(Close::Unauthenticated)),
        (Code::TokenExpired,     Some(Close::TokenExpired)),
        (Code::Revoked,          Some(Close::Revoked)),
        (Code::Unavailable,      None),
        (Code::Overloaded,       None),
        (Code::DeadlineExceeded, None),
    ];
    for (code, close) in cases {
        let mut peer = Peer::new();
        let (id, _) = peer.send(connect(None));
        let (waiting, _) = peer.send(ping());
        let mut actions = peer.outcome(Outcome::Connected { id, result: Err(Failure::new(code)) });
        match close {
            Some(close) => {
                assert_eq!(actions.pop(), Some(Action::Close(close)));
                assert_eq!((frame(&actions).id, error(&actions)), (Some(id), code));
                assert_eq!(peer.acts(ping()), [], "nothing after the end");
            }
            None => {
                assert_eq!(frame(&actions.split_off(1)).id, Some(waiting), "{code}");
                assert_eq!((frame(&actions).id, error(&actions)), (Some(id), code));
                assert!(matches!(ask(&peer.acts(connect(None))), Ask::Connect { .. }), "it may ask again");
            }
        }
    }
}

#[test]
fn a_socket_that_does_not_connect_is_closed() {
    let mut peer = Peer::new();
    assert_eq!(peer.sweep(START_MS + 10_000), []);
    assert_eq!(peer.sweep(START_MS + 10_001), [Action::Close(Close::ConnectTimeout)]);
    let mut peer = Peer::new();
    let (id, _) = peer.send(connect(None));
    assert_eq!(peer.sweep(START_MS + 10_001), [], "it waits for the server");
    peer.outcome(Outcome::Connected { id, result: Err(away()) });
    assert_eq!(peer.sweep(START_MS + 10_001), [Action::Close(Close::ConnectTimeout)]);
}
