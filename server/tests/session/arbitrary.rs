//! Whatever comes in whatever order: no panic, one reply to each command, nothing before its time, nothing after the end.

use std::collections::BTreeSet;

use bowline::accounts::Identity;
use bowline::conversations::{AttachedLog, Attachment, HeadsPage, HeadsPlace};
use bowline::session::{Action, Ask, Outcome, Write};
use bowline_protocol::wire::{self, client_frame::Kind, entry::Content, server_frame::Kind as Push};
use bowline_protocol::{Code, Failure, LogId, Seq};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use crate::peer::{Peer, attached, attachment, connect, cursor, identity, resume};
use crate::topics::{publish, subscribe, unsubscribe};

/// What happens next; where there is nothing of the kind to happen, nothing does.
#[derive(Clone, Debug)]
enum Event {
    Command(Command),
    /// One of the questions or writes that are open is answered.
    Answer(Index, Answer),
    Passed {
        log: u8,
        seq: Seq,
        left: bool,
    },
    Level {
        log: u8,
        seq: Seq,
    },
    Drained,
    Sweep {
        later_ms: i64,
    },
}

#[derive(Clone, Debug)]
enum Command {
    Connect { cursor: bool },
    Resume { logs: u8, more: bool },
    Refresh,
    Ping,
    Sessions,
    Revoke,
    Send { log: u8 },
    Malformed,
    Post,
    Follow,
    ReadPosts,
    ReadPeople,
    ReadFeed,
    WatchFeed { watched: bool },
    Open { log: u8 },
    List,
    MarkRead { log: u8, seq: Seq },
    Typing { log: u8 },
    Subscribe { topic: u8 },
    Unsubscribe { topic: u8 },
    Publish { topic: u8 },
}

#[derive(Clone, Debug)]
enum Answer {
    Yes { logs: u8, more: bool, replay: bool },
    Fail(Code),
}

fn event() -> impl Strategy<Value = Event> {
    let command = prop_oneof![
        3 => any::<bool>().prop_map(|cursor| Command::Connect { cursor }),
        4 => (0..4u8, any::<bool>()).prop_map(|(logs, more)| Command::Resume { logs, more }),
        1 => Just(Command::Refresh),
        1 => Just(Command::Ping),
        1 => Just(Command::Sessions),
        1 => Just(Command::Revoke),
        2 => (0..4u8).prop_map(|log| Command::Send { log }),
        1 => Just(Command::Malformed),
        1 => Just(Command::Post),
        1 => Just(Command::Follow),
        1 => Just(Command::ReadPosts),
        1 => Just(Command::ReadPeople),
        1 => Just(Command::ReadFeed),
        1 => any::<bool>().prop_map(|watched| Command::WatchFeed { watched }),
        2 => (0..4u8).prop_map(|log| Command::Open { log }),
        1 => Just(Command::List),
        1 => (0..4u8, 0..20u64).prop_map(|(log, seq)| Command::MarkRead { log, seq }),
        1 => (0..4u8).prop_map(|log| Command::Typing { log }),
        2 => (0..4u8).prop_map(|topic| Command::Subscribe { topic }),
        1 => (0..4u8).prop_map(|topic| Command::Unsubscribe { topic }),
        1 => (0..4u8).prop_map(|topic| Command::Publish { topic }),
    ];
    let fail = prop::sample::select(vec![Code::Unavailable, Code::Overloaded, Code::Revoked, Code::NotFound]);
    let answer = prop_oneof![
        6 => (0..4u8, any::<bool>(), any::<bool>()).prop_map(|(logs, more, replay)| Answer::Yes { logs, more, replay }),
        1 => fail.prop_map(Answer::Fail),
    ];
    prop_oneof![
        8 => command.prop_map(Event::Command),
        8 => (any::<Index>(), answer).prop_map(|(which, answer)| Event::Answer(which, answer)),
        2 => (0..4u8, 8..40u64, any::<bool>()).prop_map(|(log, seq, left)| Event::Passed { log, seq, left }),
        2 => (0..4u8, 0..20u64).prop_map(|(log, seq)| Event::Level { log, seq }),
        2 => Just(Event::Drained),
        1 => (0..200_000i64).prop_map(|later_ms| Event::Sweep { later_ms }),
    ]
}

fn log(n: u8) -> LogId {
    LogId(Uuid::from_u128(u128::from(n) + 1))
}

/// A question or a write that waits for its outcome.
enum Open {
    Ask(Ask),
    Write(Write),
}

/// What must hold, checked with every action.
struct World {
    peer: Peer,
    open: Vec<Open>,
    unanswered: BTreeSet<u64>,
    connected: bool,
    resumed: bool,
    when_drained: bool,
    ended: bool,
}

impl World {
    fn new() -> Self {
        let mut peer = Peer::new();
        peer.rules.limits.topics = 2;
        Self {
            peer,
            open: Vec::new(),
            unanswered: BTreeSet::new(),
            connected: false,
            resumed: false,
            when_drained: false,
            ended: false,
        }
    }

    fn step(&mut self, event: Event) {
        let actions = match event {
            Event::Command(command) => {
                let (id, actions) = self.peer.send(kind(command));
                self.unanswered.insert(id);
                actions
            }
            Event::Answer(_, _) if self.open.is_empty() => return,
            Event::Answer(which, answer) => {
                let open = self.open.swap_remove(which.index(self.open.len()));
                let outcome = self.outcome(open, answer);
                self.peer.outcome(outcome)
            }
            Event::Passed { log: n, seq, left: true } if self.peer.positions.contains_key(&log(n)) => {
                self.peer.removed(log(n), seq)
            }
            Event::Passed { log: n, seq, left: false } if self.followed() => {
                let joined =
                    wire::Joined { conversation_id: log(n).to_wire(), conversation_seq: seq, ..Default::default() };
                self.peer.passed(seq, Content::Joined(joined))
            }
            Event::Level { log: n, seq } if self.peer.positions.contains_key(&log(n)) => self.peer.level(log(n), seq),
            // Only what is followed passes entries and comes to its end.
            Event::Passed { .. } | Event::Level { .. } => return,
            Event::Drained if std::mem::take(&mut self.when_drained) => self.peer.drained(),
            Event::Drained => return,
            Event::Sweep { later_ms } => self.peer.sweep(self.peer.now_ms + later_ms),
        };
        actions.into_iter().for_each(|action| self.check(action));
    }

    fn check(&mut self, action: Action) {
        assert!(!self.ended, "after the end: {action:?}");
        match action {
            Action::Send(wire::ServerFrame { id: Some(id), kind }) => {
                assert!(self.unanswered.remove(&id), "a second reply to {id}, or one to nothing: {kind:?}");
                self.resumed |= matches!(kind, Some(Push::Resumed(_))) && self.followed();
            }
            Action::Send(wire::ServerFrame { id: None, kind }) => {
                assert!(self.connected, "before connect: {kind:?}");
                let early = matches!(kind, Some(Push::TokenExpiring(_)));
                assert!(self.resumed || early, "before the last resume: {kind:?}");
            }
            Action::Authenticated(user) => {
                assert_eq!(user, self.peer.identity.user);
                self.connected = true;
            }
            Action::Ask(ask) => {
                assert!(self.connected || matches!(ask, Ask::Connect { .. }), "before connect: {ask:?}");
                self.open.push(Open::Ask(ask));
            }
            Action::Write(write) => {
                assert_eq!(write.user, self.peer.identity.user);
                self.open.push(Open::Write(write));
            }
            Action::Follow(..) | Action::MarkRead { .. } | Action::Signal { .. } => assert!(self.resumed),
            Action::Subscribe { id, .. } => {
                assert!(self.resumed, "before the last resume");
                assert!(self.peer.topics.len() as u64 <= self.peer.rules.limits.topics, "over the limit");
                assert!(self.unanswered.remove(&id), "a second reply to {id}");
            }
            Action::Unsubscribe { .. } => assert!(self.resumed),
            Action::WatchFeed { user } => {
                assert!(self.resumed, "before the last resume");
                assert_eq!(user, self.peer.identity.user);
            }
            Action::LeaveFeed => assert!(self.connected),
            Action::Publish { sender, .. } => assert_eq!(sender, self.peer.identity.user),
            Action::WhenDrained => self.when_drained = true,
            Action::Close(_) => self.ended = true,
        }
    }

    /// The attachment was given, so that the reply to `resume` which comes is the last one.
    fn followed(&self) -> bool {
        self.peer.session.user().is_some() && self.peer.positions.contains_key(&self.peer.identity.user.log())
    }

    fn outcome(&self, open: Open, answer: Answer) -> Outcome {
        let (logs, more, replay) = match answer {
            Answer::Yes { logs, more, replay } => (logs, more, replay),
            Answer::Fail(code) => return failed(open, Failure::new(code)),
        };
        match open {
            Open::Write(Write { id, .. }) => Outcome::Reply { id, result: Ok(Push::Stored(wire::Stored::default())) },
            Open::Ask(Ask::Connect { id, .. }) => Outcome::Connected { id, result: Ok(self.peer.welcome()) },
            Open::Ask(Ask::Refresh { id, .. }) => {
                let newer = Identity { expires_at_ms: self.peer.now_ms + 300_000, ..self.peer.identity.clone() };
                Outcome::Refreshed { id, result: Ok(if more { newer } else { identity() }) }
            }
            Open::Ask(Ask::Attach { id, .. }) => {
                let own = attached(self.peer.identity.user.log());
                let logs = (0..logs).map(|n| AttachedLog { named: n % 2 == 0, ..attached(log(n)) }).collect();
                let unknown = if more { vec![LogId::new()] } else { vec![] };
                let user_replay = replay.then_some(own);
                Outcome::Attached { id, result: Ok(Attachment { user_replay, logs, unknown, ..attachment() }) }
            }
            Open::Ask(Ask::AttachOne { id, log, after_seq, .. }) => {
                let one = AttachedLog { named: false, after_seq: after_seq.min(10), ..attached(log) };
                Outcome::AttachedOne { id, log, result: Ok(more.then_some(one)) }
            }
            Open::Ask(Ask::Heads { place, .. }) => {
                let next = more.then(|| HeadsPlace { after: Some((1, LogId::new())), ..place });
                Outcome::Heads { result: Ok(HeadsPage { items: Vec::new(), next }) }
            }
            Open::Ask(
                Ask::Sessions { id, .. }
                | Ask::List { id, .. }
                | Ask::Members { id, .. }
                | Ask::History { id, .. }
                | Ask::Posts { id, .. }
                | Ask::People { id, .. }
                | Ask::Feed { id, .. },
            ) => Outcome::Reply { id, result: Ok(Push::Done(wire::Done {})) },
        }
    }
}

fn failed(open: Open, failure: Failure) -> Outcome {
    match open {
        Open::Write(Write { id, .. }) => Outcome::Reply { id, result: Err(failure) },
        Open::Ask(Ask::Connect { id, .. }) => Outcome::Connected { id, result: Err(failure) },
        Open::Ask(Ask::Refresh { id, .. }) => Outcome::Refreshed { id, result: Err(failure) },
        Open::Ask(Ask::Attach { id, .. }) => Outcome::Attached { id, result: Err(failure) },
        Open::Ask(Ask::AttachOne { id, log, .. }) => Outcome::AttachedOne { id, log, result: Err(failure) },
        Open::Ask(Ask::Heads { .. }) => Outcome::Heads { result: Err(failure) },
        Open::Ask(
            Ask::Sessions { id, .. }
            | Ask::List { id, .. }
            | Ask::Members { id, .. }
            | Ask::History { id, .. }
            | Ask::Posts { id, .. }
            | Ask::People { id, .. }
            | Ask::Feed { id, .. },
        ) => Outcome::Reply { id, result: Err(failure) },
    }
}

fn kind(command: Command) -> Kind {
    let client_id = LogId::new().to_wire();
    match command {
        Command::Connect { cursor: known } => connect(known.then(|| cursor(log(0), 3))),
        Command::Resume { logs, more } => resume((0..logs).map(|n| cursor(log(n), 3)).collect(), more),
        Command::Refresh => Kind::Refresh(wire::Refresh { access_token: "newer".into() }),
        Command::Ping => Kind::Ping(wire::Ping {}),
        Command::Sessions => Kind::SessionList(wire::SessionList {}),
        Command::Revoke => Kind::SessionRevoke(wire::SessionRevoke { client_id, session_id: None }),
        Command::Send { log: n } => {
            Kind::Send(wire::Send { log_id: log(n).to_wire(), client_id, body: "hello".into(), ..Default::default() })
        }
        Command::Malformed => Kind::Send(wire::Send::default()),
        Command::Post => Kind::PostCreate(wire::PostCreate { client_id, body: "hello".into(), ..Default::default() }),
        Command::Follow => Kind::Follow(wire::UserChange { client_id, user_id: log(0).to_wire() }),
        Command::ReadPosts => Kind::PostList(wire::PostList { user_id: log(0).to_wire(), ..Default::default() }),
        Command::ReadFeed => Kind::FeedPage(wire::FeedRead { cursor: None, limit: 0 }),
        Command::WatchFeed { watched: true } => Kind::FeedSubscribe(wire::FeedSubscribe {}),
        Command::WatchFeed { watched: false } => Kind::FeedUnsubscribe(wire::FeedUnsubscribe {}),
        Command::ReadPeople => Kind::ProfileGet(wire::ProfileGet { user_id: log(0).to_wire() }),
        Command::Open { log: n } => {
            Kind::ConversationOpen(wire::ConversationOpen { log_id: log(n).to_wire(), after_seq: 2 })
        }
        Command::List => Kind::ConversationList(wire::ConversationList::default()),
        Command::MarkRead { log: n, seq } => Kind::MarkRead(wire::MarkRead { log_id: log(n).to_wire(), seq }),
        Command::Subscribe { topic } => subscribe(&topic.to_string()),
        Command::Unsubscribe { topic } => unsubscribe(&topic.to_string()),
        Command::Publish { topic } => publish(&topic.to_string(), "hello"),
        Command::Typing { log: n } => Kind::Typing(wire::SetTyping { log_id: log(n).to_wire() }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_comes_every_command_gets_one_reply(events in vec(event(), 0..60)) {
        let mut world = World::new();
        for event in events {
            if world.ended {
                break;
            }
            world.step(event);
        }
        // In the end the domain has answered all that it was asked, and what that led to.
        for _ in 0..500 {
            if world.ended || world.open.is_empty() {
                break;
            }
            let open = world.open.remove(0);
            let outcome = failed(open, Failure::new(Code::NotFound));
            let actions = world.peer.outcome(outcome);
            actions.into_iter().for_each(|action| world.check(action));
        }
        if !world.ended {
            prop_assert!(world.open.is_empty(), "questions without end");
            prop_assert!(world.unanswered.is_empty(), "no reply to {:?}", world.unanswered);
        }
    }
}
