//! From the first `resume` to the last `caught_up`.

use bowline::conversations::{AttachedLog, Attachment, HeadsPage, HeadsPlace};
use bowline::session::{Action, Ask, Outcome, Rules};
use bowline::tail::{Span, Spans};
use bowline_protocol::command::Cursor;
use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{Close, Code, Failure, LogId, Seq};

use crate::peer::{Peer, START_MS, ask, attached, attachment, away, cursor, error, frame, resume};

/// The pushes and the cursors that are set, in order.
#[derive(Debug, PartialEq)]
enum Done {
    Push(Push),
    Follow { log: LogId, from: Seq, watch: bool, announce: bool },
}

fn done(actions: Vec<Action>) -> Vec<Done> {
    let done = actions.into_iter().map(|action| match action {
        Action::Send(wire::ServerFrame { id: None, kind: Some(push) }) => Done::Push(push),
        Action::Follow(log, f) => Done::Follow { log, from: f.from, watch: f.watch, announce: f.announce },
        other => panic!("{other:?}"),
    });
    done.collect()
}

/// What comes of an attachment, behind the reply to `resume`.
fn resumed(peer: &mut Peer, attachment: Attachment) -> Vec<Action> {
    let (id, _) = peer.send(resume(vec![], false));
    let logs = attachment.logs.len() as u64;
    let mut actions = peer.outcome(Outcome::Attached { id, result: Ok(attachment) });
    let reply = wire::ServerFrame { id: Some(id), kind: Some(Push::Resumed(wire::Resumed { logs })) };
    assert_eq!(actions.remove(0), Action::Send(reply), "the reply comes before all that it leads to");
    actions
}

#[test]
fn cursors_come_in_pieces_and_are_asked_for_at_once() {
    let mut peer = Peer::connected(Some(cursor(LogId::new(), 5)));
    let logs = [LogId::new(), LogId::new(), LogId::new()];
    let pieces = peer.acts(resume(vec![cursor(logs[0], 1), cursor(logs[1], 2)], true));
    assert_eq!(frame(&pieces).kind, Some(Push::Resumed(wire::Resumed { logs: 2 })));
    let (last, actions) = peer.send(resume(vec![cursor(logs[2], 3)], false));
    let Ask::Attach { id, identity, user_cursor, named } = ask(&actions) else { panic!("{actions:?}") };
    assert_eq!((*id, identity), (last, &peer.identity));
    assert_eq!(user_cursor.unwrap().seq, 5);
    assert_eq!(named.iter().map(|c| (c.log, c.seq)).collect::<Vec<_>>(), [(logs[0], 1), (logs[1], 2), (logs[2], 3)]);
    assert_eq!(error(&peer.acts(resume(vec![], false))), Code::OutOfOrder, "the last one was said");
}

#[test]
fn no_command_is_carried_out_before_the_last_resume() {
    let mut peer = Peer::connected(None);
    let log_id = LogId::new().to_wire();
    let send = || {
        let client_id = LogId::new().to_wire();
        let send = wire::Send { log_id: log_id.clone(), client_id, body: "early".into(), ..Default::default() };
        wire::client_frame::Kind::Send(send)
    };
    assert_eq!(error(&peer.acts(send())), Code::OutOfOrder);
    peer.send(resume(vec![], true));
    assert_eq!(error(&peer.acts(send())), Code::OutOfOrder);
    peer.send(resume(vec![], false));
    assert!(matches!(peer.acts(send())[..], [Action::Write(_)]), "it need not wait for the reply");
}

#[test]
fn too_many_cursors_are_refused_and_those_before_are_kept() {
    let mut peer = Peer::connected(None);
    peer.rules.limits = Limits { conversations: 2, ..Limits::default() };
    peer.send(resume(some(2), true));
    let refused = peer.acts(resume(some(1), false));
    let Some(Push::Error(error)) = &frame(&refused).kind else { panic!("{refused:?}") };
    assert_eq!((error.code, error.limit), (Code::TooLarge as u32, Some(2)));
    let actions = peer.acts(resume(some(0), false));
    assert!(matches!(ask(&actions), Ask::Attach { named, .. } if named.len() == 2));
}

fn some(cursors: usize) -> Vec<wire::Cursor> {
    (0..cursors).map(|_| cursor(LogId::new(), 1)).collect()
}

/// Names as many as one may before the last `resume`; whether all were taken.
fn hoards(peer: &mut Peer) -> bool {
    (0..39).all(|_| matches!(frame(&peer.acts(resume(some(256), true))).kind, Some(Push::Resumed(_))))
}

#[test]
fn twenty_thousand_who_name_all_they_may_hold_sixteen_mebibytes_and_keep_nobody_out() {
    let rules = Rules::default();
    let mut hoarders: Vec<Peer> = (0..100).map(|_| Peer::connected_under(rules.clone(), None)).collect();
    let held = hoarders.iter_mut().position(|peer| !hoards(peer)).unwrap();
    assert_eq!(held, (8 << 20) / (39 * 256 * size_of::<Cursor>()), "they have half of it");

    let refused = hoarders[held + 1].acts(resume(some(256), true));
    assert_eq!(refused.len(), 1, "little is taken: {refused:?}");
    let mut refused = hoarders[held + 1].acts(resume(some(1), false));
    assert_eq!(refused.pop(), Some(Action::Close(Close::Overloaded)), "without what it named it may not go on");
    let Some(Push::Error(error)) = &frame(&refused).kind else { panic!("{refused:?}") };
    assert_eq!((error.code, error.retry_after_ms), (Code::Overloaded as u32, Some(1_000)));

    let back: Vec<_> =
        (0..1_000).map(|_| Peer::connected_under(rules.clone(), None).acts(resume(some(50), false))).collect();
    assert!(back.iter().all(|actions| matches!(ask(actions), Ask::Attach { named, .. } if named.len() == 50)));

    assert_eq!(hoarders[0].sweep(START_MS + 10_000), []);
    assert_eq!(hoarders[0].sweep(START_MS + 10_001), [Action::Close(Close::ConnectTimeout)], "not for long");
    hoarders.clear();
    assert!(hoards(&mut Peer::connected_under(rules, None)), "what they held is free again");
}

#[test]
fn one_who_names_nothing_may_take_his_time() {
    let mut peer = Peer::connected(None);
    peer.send(resume(vec![], true));
    assert_eq!(peer.sweep(START_MS + 60_000), []);
    peer.send(resume(some(1), false));
    assert_eq!(peer.sweep(START_MS + 120_000), [], "it waits for the server");
}

#[test]
fn when_the_server_could_not_say_the_last_resume_may_come_again() {
    let mut peer = Peer::connected(None);
    let (id, _) = peer.send(resume(vec![cursor(LogId::new(), 1)], false));
    let actions = peer.outcome(Outcome::Attached { id, result: Err(away()) });
    assert_eq!((frame(&actions).id, error(&actions)), (Some(id), Code::Unavailable));
    let again = peer.acts(resume(vec![], false));
    assert!(matches!(ask(&again), Ask::Attach { named, .. } if named.len() == 1), "the cursors are kept");
}

#[test]
fn a_session_that_was_ended_meanwhile_is_told_and_closed() {
    let mut peer = Peer::connected(None);
    let (id, _) = peer.send(resume(vec![], false));
    let mut actions = peer.outcome(Outcome::Attached { id, result: Err(Failure::new(Code::Revoked)) });
    assert_eq!(actions.pop(), Some(Action::Close(Close::Revoked)));
    assert_eq!((frame(&actions).id, error(&actions)), (Some(id), Code::Revoked));
}

#[test]
fn the_users_own_log_comes_first_and_what_is_not_there_is_said() {
    let mut peer = Peer::connected(None);
    let own = peer.identity.user.log();
    let (one, two, nowhere) = (LogId::new(), LogId::new(), LogId::new());
    let unnamed = AttachedLog { named: false, after_seq: 10, ..attached(two) };
    let attachment = Attachment {
        user_replay: Some(attached(own)),
        logs: vec![attached(one), unnamed],
        unknown: vec![nowhere],
        ..attachment()
    };
    let expected = [
        Done::Follow { log: own, from: 0, watch: true, announce: true },
        Done::Push(Push::NotFound(wire::NotFound { log_id: nowhere.to_wire() })),
        Done::Follow { log: one, from: 0, watch: false, announce: true },
        Done::Follow { log: two, from: 10, watch: false, announce: false },
    ];
    assert_eq!(done(resumed(&mut peer, attachment)), expected);
    let level = |seq, read_seq, unread, log: LogId| {
        vec![Done::Push(Push::CaughtUp(wire::CaughtUp { log_id: log.to_wire(), seq, read_seq, unread }))]
    };
    assert_eq!(done(peer.level(one, 12)), level(12, 3, 4, one));
    assert_eq!(peer.level(one, 12), [], "once");
    assert_eq!(peer.level(two, 12), [], "it was not named");
}

#[test]
fn what_can_not_be_replayed_is_said_before_the_replay() {
    let log = LogId::new();
    let log_id = log.to_wire();
    let reset =
        |first_unsure_seq| Done::Push(Push::Reset(wire::Reset { log_id: log_id.clone(), first_unsure_seq, epoch: 2 }));
    let trimmed = |first_seq| Done::Push(Push::Trimmed(wire::Trimmed { log_id: log_id.clone(), first_seq }));
    let gap = |head| Done::Push(Push::GapTooLarge(wire::GapTooLarge { log_id: log_id.clone(), head }));
    let base = || AttachedLog { as_of_seq: 1_000, ..attached(log) };
    let left = |seq| vec![Span { visible_from: 1, left_seq: Some(seq) }];
    #[rustfmt::skip]
    let cases = [
        ("all is well",         AttachedLog { after_seq: 950, ..base() },                            vec![], 950),
        ("reset back",          AttachedLog { after_seq: 980, reset: Some((951, 2)), ..base() },     vec![reset(951)], 950),
        ("reset, but before",   AttachedLog { after_seq: 940, reset: Some((951, 2)), ..base() },     vec![reset(951)], 940),
        ("trimmed",             AttachedLog { after_seq: 10, first_seq: 951, ..base() },             vec![trimmed(951)], 950),
        ("just not trimmed",    AttachedLog { after_seq: 950, first_seq: 951, ..base() },            vec![], 950),
        ("far behind",          AttachedLog { after_seq: 899, ..base() },                            vec![gap(1_000)], 1_000),
        ("just near enough",    AttachedLog { after_seq: 900, ..base() },                            vec![], 900),
        ("trimmed, still far",  AttachedLog { after_seq: 1, first_seq: 500, ..base() },              vec![trimmed(500), gap(1_000)], 1_000),
        ("all of it at once",   AttachedLog { after_seq: 990, reset: Some((3, 2)), first_seq: 500, ..base() }, vec![reset(3), trimmed(500), gap(1_000)], 1_000),
        ("gone, near his end",  AttachedLog { after_seq: 10, spans: left(50), ..base() },            vec![], 10),
        ("gone, far from it",   AttachedLog { after_seq: 10, spans: left(500), ..base() },           vec![gap(500)], 500),
        ("gone, behind it",     AttachedLog { after_seq: 600, spans: left(500), ..base() },          vec![], 600),
    ];
    for (name, attached, said, from) in cases {
        let mut peer = Peer::connected(None);
        peer.rules.limits.replay_entries = 100;
        let own = AttachedLog { after_seq: 10, ..crate::peer::attached(peer.identity.user.log()) };
        let attachment = Attachment { user_replay: Some(own), logs: vec![attached], ..attachment() };
        let mut expected = said;
        expected.push(Done::Follow { log, from, watch: false, announce: true });
        assert_eq!(done(resumed(&mut peer, attachment).split_off(1)), expected, "{name}");
    }
}

#[test]
fn heads_come_page_by_page_as_the_socket_takes_them() {
    let mut peer = Peer::connected(None);
    let user = peer.identity.user;
    let one = LogId::new();
    let mut actions = resumed(&mut peer, Attachment { logs: vec![attached(one)], ..attachment() });
    let first = HeadsPlace::first(10);
    assert_eq!(actions.remove(0), Action::Ask(Ask::Heads { user, place: first.clone() }));
    let expected = [
        Done::Follow { log: user.log(), from: 10, watch: true, announce: false },
        Done::Follow { log: one, from: 0, watch: false, announce: true },
    ];
    assert_eq!(done(actions), expected);

    let next = HeadsPlace { after: Some((5, one)), ..first };
    let page = |next| Outcome::Heads { result: Ok(HeadsPage { items: vec![wire::Head::default()], next }) };
    let mut actions = peer.outcome(page(Some(next.clone())));
    assert_eq!(actions.pop(), Some(Action::WhenDrained));
    let heads = |more| Some(Push::Heads(wire::Heads { as_of_seq: 10, items: vec![wire::Head::default()], more }));
    assert_eq!(frame(&actions).kind, heads(true));
    assert_eq!(peer.drained(), [Action::Ask(Ask::Heads { user, place: next })]);
    let actions = peer.outcome(page(None));
    assert_eq!((frame(&actions).kind.clone(), actions.len()), (heads(false), 1));
    assert_eq!(peer.drained(), [], "that was the last one");
}

#[test]
fn without_heads_the_client_comes_again() {
    let mut peer = Peer::connected(None);
    resumed(&mut peer, attachment());
    assert_eq!(peer.outcome(Outcome::Heads { result: Err(away()) }), [Action::Close(Close::Overloaded)]);
}

#[test]
fn spans_go_with_the_cursor() {
    let mut peer = Peer::connected(None);
    let stays = vec![Span { visible_from: 2, left_seq: Some(4) }, Span { visible_from: 6, left_seq: None }];
    let log = AttachedLog { spans: stays.clone(), ..attached(LogId::new()) };
    let actions = resumed(&mut peer, Attachment { logs: vec![log], ..attachment() });
    let spans: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Follow(_, follow) => Some(follow.spans.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(spans, [Spans::whole(), Spans::new(stays)], "the user's own log is his alone");
}
