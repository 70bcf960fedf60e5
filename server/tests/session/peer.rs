use std::collections::HashMap;
use std::time::Instant;

use bowline::accounts::Identity;
use bowline::conversations::{AttachedLog, Attachment};
use bowline::session::{Action, Ask, Context, Outcome, Rules, Session, Welcome};
use bowline::tail::Span;
use bowline_protocol::wire::{
    self, ClientFrame, ServerFrame, client_frame::Kind, entry::Content, server_frame::Kind as Push,
};
use bowline_protocol::{Code, Failure, LogId, Seq, SessionId, UserId};

/// The world around one session: what it is told, and what it wants.
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) rules: Rules,
    pub(crate) now_ms: i64,
    /// Where the cursors of this connection stand.
    pub(crate) positions: HashMap<LogId, Seq>,
    pub(crate) topics: HashMap<String, Seq>,
    /// Who the token is for.
    pub(crate) identity: Identity,
    next_id: u64,
}

pub(crate) const START_MS: i64 = 1_000_000;
/// When the token ends.
pub(crate) const END_MS: i64 = START_MS + 600_000;

impl Peer {
    /// A socket that was just upgraded, without a token.
    pub(crate) fn new() -> Self {
        let identity = identity();
        Self {
            session: Session::new(None, START_MS),
            rules: Rules::default(),
            now_ms: START_MS,
            positions: HashMap::new(),
            topics: HashMap::new(),
            identity,
            next_id: 1,
        }
    }

    /// One that `connect` has let in.
    pub(crate) fn connected(user_cursor: Option<wire::Cursor>) -> Self {
        Self::connected_under(Rules::default(), user_cursor)
    }

    /// The same, on a server with these rules.
    pub(crate) fn connected_under(rules: Rules, user_cursor: Option<wire::Cursor>) -> Self {
        let mut peer = Self { rules, ..Self::new() };
        let (id, _) = peer.send(connect(user_cursor));
        let result = Ok(peer.welcome());
        peer.outcome(Outcome::Connected { id, result });
        peer
    }

    /// One that follows its own log from its first entry on.
    pub(crate) fn live() -> Self {
        let identity = identity();
        let mut peer = Self::connected(None);
        peer.identity = Identity { user: peer.identity.user, session: peer.identity.session, ..identity };
        let (id, _) = peer.send(resume(vec![], false));
        let user_replay = Some(attached(peer.identity.user.log()));
        peer.outcome(Outcome::Attached { id, result: Ok(Attachment { user_replay, ..attachment() }) });
        peer
    }

    pub(crate) fn welcome(&self) -> Welcome {
        Welcome { identity: self.identity.clone(), epoch: 1 }
    }

    /// Sends a command; its id, and what the session does at once.
    pub(crate) fn send(&mut self, kind: Kind) -> (u64, Vec<Action>) {
        let id = self.next_id;
        self.next_id += 1;
        (id, self.event(|session, cx, out| session.frame(ClientFrame { id, kind: Some(kind) }, cx, out)))
    }

    /// What the session does at once.
    pub(crate) fn acts(&mut self, kind: Kind) -> Vec<Action> {
        self.send(kind).1
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) -> Vec<Action> {
        self.event(|session, cx, out| session.outcome(outcome, cx, out))
    }

    /// The cursor of the user's own log passes an entry.
    pub(crate) fn passed(&mut self, seq: Seq, content: Content) -> Vec<Action> {
        let entry = wire::Entry { seq, version: seq, content: Some(content), ..Default::default() };
        self.event(|session, cx, out| session.passed(&entry, cx, out))
    }

    pub(crate) fn removed(&mut self, log: LogId, seq: Seq) -> Vec<Action> {
        self.positions.remove(&log);
        self.event(|session, _, out| session.removed(log, seq, out))
    }

    pub(crate) fn level(&mut self, log: LogId, seq: Seq) -> Vec<Action> {
        self.event(|session, _, out| session.level(log, seq, false, out))
    }

    /// The cursor has covered a stay that is over.
    pub(crate) fn ended(&mut self, log: LogId, seq: Seq) -> Vec<Action> {
        self.positions.remove(&log);
        self.event(|session, _, out| session.level(log, seq, true, out))
    }

    pub(crate) fn drained(&mut self) -> Vec<Action> {
        self.event(|session, _, out| session.drained(out))
    }

    pub(crate) fn sweep(&mut self, now_ms: i64) -> Vec<Action> {
        self.now_ms = now_ms;
        self.event(|session, cx, out| session.sweep(cx, out))
    }

    /// One event, and what a shard would do with what comes of it.
    pub(crate) fn event(&mut self, event: impl FnOnce(&mut Session, &Context<'_>, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        let position = |log| self.positions.get(&log).copied();
        let topic = |name: &str| self.topics.get(name).copied();
        let cx = Context { rules: &self.rules, now_ms: self.now_ms, position: &position, topic: &topic };
        event(&mut self.session, &cx, &mut out);
        for action in &out {
            match action {
                Action::Follow(log, follow) => drop(self.positions.insert(*log, follow.from)),
                Action::Subscribe { topic, .. } => drop(self.topics.entry(topic.clone()).or_insert(0)),
                Action::Unsubscribe { topic } => drop(self.topics.remove(topic)),
                _ => {}
            }
        }
        out
    }
}

pub(crate) fn identity() -> Identity {
    Identity { user: UserId::new(), session: SessionId::new(), issued_at_ms: START_MS, expires_at_ms: END_MS }
}

pub(crate) fn connect(user_cursor: Option<wire::Cursor>) -> Kind {
    Kind::Connect(wire::Connect { access_token: "token".into(), user_cursor, ..Default::default() })
}

pub(crate) fn resume(cursors: Vec<wire::Cursor>, more: bool) -> Kind {
    Kind::Resume(wire::Resume { cursors, more })
}

pub(crate) fn cursor(log: LogId, seq: Seq) -> wire::Cursor {
    wire::Cursor { log_id: log.to_wire(), seq, epoch: 1 }
}

/// Of a user with no conversations.
pub(crate) fn attachment() -> Attachment {
    Attachment { user_as_of_seq: 10, user_replay: None, logs: Vec::new(), unknown: Vec::new(), read_at: Instant::now() }
}

/// A log of ten entries, from its first one on.
pub(crate) fn attached(log: LogId) -> AttachedLog {
    AttachedLog {
        log,
        named: true,
        after_seq: 0,
        as_of_seq: 10,
        first_seq: 1,
        spans: vec![Span { visible_from: 1, left_seq: None }],
        reset: None,
        read_seq: 3,
        unread: 4,
        read_at: Instant::now(),
    }
}

/// The one frame among the actions.
#[track_caller]
pub(crate) fn frame(actions: &[Action]) -> &ServerFrame {
    let mut frames = actions.iter().filter_map(|action| match action {
        Action::Send(frame) => Some(frame),
        _ => None,
    });
    let frame = frames.next().unwrap_or_else(|| panic!("no frame: {actions:?}"));
    assert!(frames.next().is_none(), "more than one frame: {actions:?}");
    frame
}

#[track_caller]
pub(crate) fn error(actions: &[Action]) -> Code {
    match &frame(actions).kind {
        Some(Push::Error(error)) => *Code::ALL.iter().find(|code| **code as u32 == error.code).unwrap(),
        other => panic!("no error: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn ask(actions: &[Action]) -> &Ask {
    match actions {
        [Action::Ask(ask)] => ask,
        other => panic!("not one question: {other:?}"),
    }
}

pub(crate) fn away() -> Failure {
    Failure::retry_after(Code::Unavailable, 1_000)
}
