//! A connection that follows its logs.

use bowline::conversations::AttachedLog;
use bowline::session::{Action, Ask, Outcome, Write};
use bowline_protocol::wire::{self, client_frame::Kind, entry::Content, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId, SessionId};

use crate::peer::{END_MS, Peer, ask, attached, away, error, frame, identity};

fn joined(log: LogId, seq: u64) -> Content {
    Content::Joined(wire::Joined { conversation_id: log.to_wire(), conversation_seq: seq, ..Default::default() })
}

fn revoked(session: Option<SessionId>) -> Content {
    Content::SessionRevoked(wire::SessionRevoked { session_id: session.map(SessionId::to_wire) })
}

fn revoke() -> Kind {
    Kind::SessionRevoke(wire::SessionRevoke { client_id: LogId::new().to_wire(), session_id: None })
}

fn open(log: LogId, after_seq: u64) -> Kind {
    Kind::ConversationOpen(wire::ConversationOpen { log_id: log.to_wire(), after_seq })
}

/// The log, where from, and whether its entries are watched.
#[track_caller]
fn followed(actions: &[Action]) -> (LogId, u64, bool) {
    match actions.last() {
        Some(Action::Follow(log, follow)) => (*log, follow.from, follow.watch),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revocation_ends_the_session_that_it_means_if_it_is_news() {
    let other = SessionId::new();
    for (name, seq, of, ends) in [
        ("all of them", 11, None, true),
        ("this one", 11, Some(None), true),
        ("another one", 11, Some(Some(other)), false),
        ("known when it attached", 10, Some(None), false),
        ("all, known when it attached", 10, None, false),
    ] {
        let mut peer = Peer::live();
        let session = of.map(|session| session.unwrap_or(peer.identity.session));
        let expected = if ends { vec![Action::Close(Close::Revoked)] } else { vec![] };
        assert_eq!(peer.passed(seq, revoked(session)), expected, "{name}");
    }
}

#[test]
fn ones_own_revocation_is_answered_before_it_ends_the_connection() {
    let mut peer = Peer::live();
    let (id, actions) = peer.send(revoke());
    assert!(matches!(actions[..], [Action::Write(_)]));
    assert_eq!(peer.passed(11, revoked(None)), []);
    assert!(matches!(peer.acts(revoke())[..], [Action::Write(_)]), "one more gains no time");
    let result = Ok(Push::Stored(wire::Stored::default()));
    let mut actions = peer.outcome(Outcome::Reply { id, result });
    assert_eq!(actions.pop(), Some(Action::Close(Close::Revoked)));
    assert_eq!(frame(&actions).id, Some(id));
}

#[test]
fn a_conversation_joined_while_connected_is_followed_from_the_joining() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    assert_eq!(peer.passed(10, joined(log, 5)), [], "attached with it");
    let actions = peer.passed(11, joined(log, 5));
    assert_eq!(*ask(&actions), Ask::AttachOne { id: None, user, log, after_seq: 4 });
    let one = || AttachedLog { named: false, after_seq: 4, ..attached(log) };
    let actions = peer.outcome(Outcome::AttachedOne { id: None, log, result: Ok(Some(one())) });
    assert_eq!((followed(&actions), actions.len()), ((log, 4, false), 1));
    assert_eq!(peer.passed(11, joined(log, 5)), [], "the client has moved back in its own log");
    assert_eq!(peer.outcome(Outcome::AttachedOne { id: None, log, result: Ok(None) }), [], "left again");
    let failed = peer.outcome(Outcome::AttachedOne { id: None, log, result: Err(away()) });
    assert_eq!(failed, [Action::Close(Close::Overloaded)], "a hole that nobody could see");
}

#[test]
fn one_who_is_back_before_his_cursor_has_seen_him_leave_is_attached_again_then() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    peer.positions.insert(log, 3);
    assert_eq!(peer.passed(11, joined(log, 9)), []);
    assert_eq!(*ask(&peer.removed(log, 7)), Ask::AttachOne { id: None, user, log, after_seq: 8 });
    assert_eq!(peer.removed(log, 12), [], "and left for good");

    for seq in 0..64 {
        let log = LogId::new();
        peer.positions.insert(log, 3);
        assert_eq!(peer.passed(20 + seq, joined(log, 9)), []);
    }
    let log = LogId::new();
    peer.positions.insert(log, 3);
    assert_eq!(peer.passed(90, joined(log, 9)), [Action::Close(Close::Overloaded)]);
}

#[test]
fn stays_are_attached_one_after_the_other_whatever_is_answered_first() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    let asks_from = |actions: &[Action], after_seq| {
        assert_eq!(*ask(actions), Ask::AttachOne { id: None, user, log, after_seq });
    };
    let answer = |peer: &mut Peer, after_seq| {
        let one = AttachedLog { named: false, after_seq, ..attached(log) };
        peer.outcome(Outcome::AttachedOne { id: None, log, result: Ok(Some(one)) })
    };
    asks_from(&peer.passed(11, joined(log, 5)), 4);
    assert_eq!(peer.passed(12, joined(log, 9)), [], "the first is still asked for");
    assert_eq!(followed(&answer(&mut peer, 4)), (log, 4, false));
    peer.positions.insert(log, 4);
    assert_eq!(peer.passed(13, joined(log, 20)), []);
    asks_from(&peer.ended(log, 7), 8);
    assert_eq!(followed(&answer(&mut peer, 8)), (log, 8, false));

    // Opened by the client while it is asked for: the stay is taken up where that one ends.
    peer.positions.remove(&log);
    asks_from(&peer.passed(14, joined(log, 30)), 29);
    peer.positions.insert(log, 3);
    assert_eq!(answer(&mut peer, 29), []);
    asks_from(&peer.removed(log, 12), 29);
}

#[test]
fn open_moves_a_cursor_and_is_announced_once() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    let opened = |peer: &mut Peer, after_seq| {
        let (id, actions) = peer.send(open(log, after_seq));
        assert_eq!(*ask(&actions), Ask::AttachOne { id: Some(id), user, log, after_seq });
        let one = AttachedLog { named: false, after_seq, ..attached(log) };
        let actions = peer.outcome(Outcome::AttachedOne { id: Some(id), log, result: Ok(Some(one)) });
        assert_eq!((frame(&actions).id, followed(&actions)), (Some(id), (log, after_seq, false)));
    };
    opened(&mut peer, 5);
    opened(&mut peer, 2);
    assert!(matches!(frame(&peer.level(log, 10)).kind, Some(Push::CaughtUp(_))));
    assert_eq!(peer.level(log, 10), []);

    for (result, code) in [(Ok(None), Code::NotFound), (Err(away()), Code::Unavailable)] {
        let (id, _) = peer.send(open(log, 5));
        let actions = peer.outcome(Outcome::AttachedOne { id: Some(id), log, result });
        assert_eq!((frame(&actions).id, error(&actions)), (Some(id), code));
    }
    let own = user.log();
    let (id, _) = peer.send(open(own, 0));
    let actions = peer.outcome(Outcome::AttachedOne { id: Some(id), log: own, result: Ok(Some(attached(own))) });
    assert_eq!(followed(&actions), (own, 0, true), "what it says of this session is still heard");
}

#[test]
fn reading_and_typing_are_for_logs_that_are_followed() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    let mark = |seq| Kind::MarkRead(wire::MarkRead { log_id: log.to_wire(), seq });
    let typing = || Kind::Typing(wire::SetTyping { log_id: log.to_wire() });
    assert_eq!(error(&peer.acts(mark(1))), Code::NotFound);
    assert_eq!(error(&peer.acts(typing())), Code::NotFound);
    peer.positions.insert(log, 7);
    let actions = peer.acts(mark(7));
    assert_eq!(actions[0], Action::MarkRead { user, log, seq: 7 });
    assert_eq!(frame(&actions).kind, Some(Push::Done(wire::Done {})));
    let above = peer.acts(mark(8));
    let Some(Push::Error(error)) = &frame(&above).kind else { panic!("{above:?}") };
    assert_eq!((error.code, error.limit), (Code::Invalid as u32, Some(7)));

    let signals = |peer: &mut Peer| {
        let actions = peer.acts(typing());
        assert_eq!(frame(&actions).kind, Some(Push::Done(wire::Done {})));
        actions.len() - 1
    };
    assert_eq!((signals(&mut peer), signals(&mut peer)), (1, 0), "again at once is not passed on");
    peer.now_ms += 1_000;
    assert_eq!(signals(&mut peer), 1);
}

#[test]
fn a_command_is_for_the_user_of_the_token() {
    let mut peer = Peer::live();
    let user = peer.identity.user;
    let log = LogId::new();
    let send = wire::Send {
        log_id: log.to_wire(),
        client_id: LogId::new().to_wire(),
        body: "hello".into(),
        ..Default::default()
    };
    let (sent, actions) = peer.send(Kind::Send(send));
    assert!(matches!(&actions[..], [Action::Write(Write { id, user: by, .. })] if (*id, *by) == (sent, user)));
    let actions = peer.acts(Kind::ConversationList(wire::ConversationList::default()));
    assert!(matches!(ask(&actions), Ask::List { user: of, limit: 50, after: None, .. } if *of == user));
    assert_eq!(error(&peer.acts(crate::peer::connect(None))), Code::OutOfOrder);
}

#[test]
fn the_end_of_a_token_is_told_once_and_then_comes() {
    let mut peer = Peer::live();
    assert_eq!(peer.sweep(END_MS - 60_001), []);
    let told = peer.sweep(END_MS - 60_000);
    let expiring = Some(Push::TokenExpiring(wire::TokenExpiring { expires_at_ms: END_MS }));
    assert_eq!((frame(&told).id, frame(&told).kind.clone()), (None, expiring));
    assert_eq!(peer.sweep(END_MS - 1), [], "once");

    let refresh = || Kind::Refresh(wire::Refresh { access_token: "newer".into() });
    let (id, actions) = peer.send(refresh());
    assert_eq!(*ask(&actions), Ask::Refresh { id, access_token: "newer".into() });
    let newer = bowline::accounts::Identity { expires_at_ms: END_MS + 600_000, ..peer.identity.clone() };
    let actions = peer.outcome(Outcome::Refreshed { id, result: Ok(newer) });
    let refreshed = Some(Push::Refreshed(wire::Refreshed { token_expires_at_ms: END_MS + 600_000 }));
    assert_eq!(frame(&actions).kind, refreshed);
    assert_eq!(peer.sweep(END_MS), []);
    assert!(!peer.sweep(END_MS + 540_000).is_empty(), "told again");
    assert_eq!(peer.sweep(END_MS + 600_000), [Action::Close(Close::TokenExpired)]);
}

#[test]
fn a_refresh_that_fails_leaves_the_token_that_was() {
    for (name, result, code, closes) in [
        ("somebody else's", Ok(identity()), Code::Invalid, false),
        ("expired", Err(Failure::new(Code::TokenExpired)), Code::TokenExpired, false),
        ("the server is away", Err(away()), Code::Unavailable, false),
        ("revoked", Err(Failure::new(Code::Revoked)), Code::Revoked, true),
    ] {
        let mut peer = Peer::live();
        let user = peer.identity.user;
        let (id, _) = peer.send(Kind::Refresh(wire::Refresh { access_token: "newer".into() }));
        let mut actions = peer.outcome(Outcome::Refreshed { id, result });
        if closes {
            assert_eq!(actions.pop(), Some(Action::Close(Close::Revoked)), "{name}");
        }
        assert_eq!((frame(&actions).id, error(&actions)), (Some(id), code), "{name}");
        assert_eq!(peer.session.user(), Some(user), "{name}");
        assert_eq!(peer.sweep(END_MS), [Action::Close(Close::TokenExpired)], "{name}");
    }
}
