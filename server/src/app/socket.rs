//! `session` plugged into `wire`: what a shard hears becomes events, and what a session wants is done on its socket.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bowline_protocol::limits::UNAUTHENTICATED_FRAME_BYTES;
use bowline_protocol::wire::{Drain, Entry, FeedUpdate, ServerFrame, server_frame::Kind as Push};
use bowline_protocol::{Close, Codec, Failure, LogId, Seq};

use crate::accounts::Identity;
use crate::api::Place;
use crate::dispatch::Dispatch;
use crate::feed::{Pushes, Subscription};
use crate::session::{Action, Context, Outcome, Rules, Session, error_frame, subscribed};
use crate::wire::{Application, Io, Shards};

/// What the handshake knew.
pub(super) struct Ticket {
    /// Of the token in the upgrade's header, if there was one.
    pub(super) identity: Option<Identity>,
    pub(super) place: Place,
}

/// What a socket holds: its session, and its place among the sockets that a server may have.
pub(super) struct Slot {
    session: Box<Session>,
    feed: Option<Box<Watched>>,
    _place: Place,
}

/// A feed whose news are pushed.
struct Watched {
    /// There were news that the peer did not take.
    missed: bool,
    _subscription: Subscription,
}

/// The protocol of one shard's sockets.
pub(super) struct Sockets {
    rules: Arc<Rules>,
    dispatch: Dispatch<Self>,
    shards: Shards<Self>,
    pushes: Pushes,
    /// Room for what one event leads to; empty between calls.
    actions: Vec<Action>,
}

impl Sockets {
    pub(super) fn new(rules: Arc<Rules>, dispatch: Dispatch<Self>, shards: Shards<Self>, pushes: Pushes) -> Self {
        Self { rules, dispatch, shards, pushes, actions: Vec::new() }
    }

    /// Lets the session handle one event, then does what it wants.
    fn step(
        &mut self,
        slot: &mut Slot,
        io: &mut Io<'_>,
        event: impl FnOnce(&mut Session, &Context<'_>, &mut Vec<Action>),
    ) {
        let mut actions = std::mem::take(&mut self.actions);
        {
            let position = |log| io.cursor(log);
            let topic = |name: &str| io.topic(name);
            let cx = Context { rules: &self.rules, now_ms: now_ms(), position: &position, topic: &topic };
            event(&mut slot.session, &cx, &mut actions);
        }
        for action in actions.drain(..) {
            self.act(action, slot, io);
        }
        self.actions = actions;
    }

    /// Whether a frame is within the limits of its socket.
    fn admit(&mut self, slot: &mut Slot, io: &mut Io<'_>) -> Result<(), Failure> {
        let mut admitted = Ok(());
        self.step(slot, io, |session, cx, out| admitted = session.admit(cx, out));
        admitted
    }

    fn act(&self, action: Action, slot: &mut Slot, io: &mut Io<'_>) {
        match action {
            Action::Send(frame) => {
                if frame.id.is_some() {
                    io.command_answered();
                }
                io.send(&frame);
            }
            Action::Ask(ask) => self.dispatch.ask(ask, io.address()),
            Action::Write(write) => self.dispatch.write(write, io.address()),
            Action::MarkRead { user, log, seq } => self.dispatch.mark_read(user, log, seq),
            Action::Follow(log, follow) => io.follow(log, follow),
            Action::Signal { log, frame } => self.shards.signal(log, frame),
            Action::Subscribe { id, topic } => {
                let seq = io.subscribe(&topic);
                io.command_answered();
                io.send(&subscribed(id, topic, seq));
            }
            Action::Unsubscribe { topic } => io.unsubscribe(&topic),
            Action::Publish { topic, sender, body } => self.shards.publish_topic(topic, sender, body),
            Action::WatchFeed { user } => {
                slot.feed.get_or_insert_with(|| {
                    Box::new(Watched { missed: false, _subscription: self.pushes.subscribe(user, io.address()) })
                });
            }
            Action::LeaveFeed => slot.feed = None,
            Action::Authenticated(user) => {
                io.identify(user);
                io.set_message_bytes(usize::try_from(self.rules.limits.frame_bytes).unwrap_or(usize::MAX));
            }
            Action::WhenDrained => io.call_when_taken(),
            Action::Close(close) => io.close(close),
        }
    }
}

impl Application for Sockets {
    type Slot = Slot;
    type Ticket = Ticket;
    type Done = Outcome;

    fn open(&mut self, ticket: Ticket, io: &mut Io<'_>) -> Slot {
        io.set_message_bytes(UNAUTHENTICATED_FRAME_BYTES as usize);
        Slot { session: Box::new(Session::new(ticket.identity, now_ms())), feed: None, _place: ticket.place }
    }

    fn message(&mut self, slot: &mut Slot, text: bool, payload: &[u8], io: &mut Io<'_>) {
        let codec = io.codec();
        if text != (codec == Codec::Json) {
            return io.close(Close::Unsupported);
        }
        let frames = codec.read_client(payload);
        if frames.is_empty() {
            // It was read all the same, so it counts as one.
            let _ = self.admit(slot, io);
        }
        for frame in frames {
            if let Err(failure) = self.admit(slot, io) {
                if slot.session.is_ended() {
                    return;
                }
                let id = frame.as_ref().map_or_else(|refused| refused.id, |frame| Some(frame.id));
                io.send(&error_frame(id, &failure));
                continue;
            }
            match frame {
                Ok(frame) => {
                    if frame.id > 0 {
                        io.command_opened();
                    }
                    self.step(slot, io, |session, cx, out| session.frame(frame, cx, out));
                }
                Err(refused) => io.send(&error_frame(refused.id, &refused.failure)),
            }
        }
    }

    fn done(&mut self, slot: &mut Slot, done: Outcome, io: &mut Io<'_>) {
        if matches!(done, Outcome::FeedUpdate(_)) {
            // One that came while he left, or that he can't take: he hears that there was more once he can.
            let Some(feed) = &mut slot.feed else { return };
            if io.is_behind() {
                feed.missed = true;
                return io.call_when_taken();
            }
        }
        self.step(slot, io, |session, cx, out| session.outcome(done, cx, out));
    }

    fn passed(&mut self, slot: &mut Slot, log: LogId, entry: &Entry, io: &mut Io<'_>) {
        let own = slot.session.user().map(bowline_protocol::UserId::log);
        self.step(slot, io, |session, cx, out| match own == Some(log) {
            true => session.passed(entry, cx, out),
            false => session.removed(log, entry.seq, out),
        });
    }

    fn foreseen(&mut self, slot: &mut Slot, log: LogId, entry: &Entry, io: &mut Io<'_>) {
        if slot.session.user().map(bowline_protocol::UserId::log) == Some(log) {
            self.step(slot, io, |session, _, out| session.foreseen(entry, out));
        }
    }

    fn level(&mut self, slot: &mut Slot, log: LogId, seq: Seq, ended: bool, io: &mut Io<'_>) {
        self.step(slot, io, |session, _, out| session.level(log, seq, ended, out));
    }

    fn taken(&mut self, slot: &mut Slot, io: &mut Io<'_>) {
        if let Some(feed) = &mut slot.feed
            && std::mem::take(&mut feed.missed)
        {
            io.send(&ServerFrame {
                id: None,
                kind: Some(Push::FeedUpdate(FeedUpdate { items: Vec::new(), more: true })),
            });
        }
        self.step(slot, io, |session, _, out| session.drained(out));
    }

    fn sweep(&mut self, slot: &mut Slot, _now: Instant, io: &mut Io<'_>) {
        self.step(slot, io, |session, cx, out| session.sweep(cx, out));
    }

    fn drain(&mut self, _slot: &mut Slot, reconnect_after: Duration, io: &mut Io<'_>) {
        let reconnect_after_ms = u64::try_from(reconnect_after.as_millis()).unwrap_or(u64::MAX);
        io.send(&ServerFrame { id: None, kind: Some(Push::Drain(Drain { reconnect_after_ms, ticket: None })) });
    }

    fn closed(&mut self, _slot: Slot) {}
}

/// A clock before 1970 is not met.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
