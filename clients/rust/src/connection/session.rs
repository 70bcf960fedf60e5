//! One connection's life: connect, resume, then commands out and pushes in, until something ends it.

use std::collections::VecDeque;
use std::time::Duration;

use bowline_protocol::wire::server_frame::Kind as Reply;
use bowline_protocol::{Epoch, SessionId, UserId, wire};
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until};

use super::socket::{Socket, Turn};
use super::work::Answer;
use super::{Connection, End, Next, Tokens, Working, give};
use crate::event::{Event, Why};
use crate::token::TokenError;

/// Commands are put into one message up to this size.
const MESSAGE_BYTES: usize = 16 * 1024;
/// Silence after a ping for as long as a heartbeat, and at most this, means that the connection is dead.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// What the client assumes until the server has said.
const HEARTBEAT: Duration = Duration::from_secs(30);
const OPEN_COMMANDS: usize = 32;
const CURSORS_PER_RESUME: usize = 256;
/// A renewal is not pressing: it waits as long as the fifth attempt at anything else would.
const TOKEN_ATTEMPT: u32 = 4;

struct Live {
    phase: Phase,
    /// Frames of the session itself, before any command.
    control: VecDeque<wire::ClientFrame>,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    heartbeat: Duration,
    open_commands: usize,
    drain_at: Option<Instant>,
    connect_by: Instant,
    renewing: Option<Working>,
    renew_at: Option<Instant>,
}

enum Phase {
    Connecting,
    Resuming { outstanding: usize, session: SessionId, user: UserId, epoch: Epoch },
    Live,
}

/// What one turn of the loop came upon.
enum Found {
    Turn(Result<Turn, Why>),
    Command(Option<super::Command>),
    Token(super::TokenSource, Result<String, TokenError>),
    Event,
    Time,
}

impl Connection {
    pub(super) async fn converse(&mut self, socket: &mut Socket, token: String) -> End {
        let mut live = self.begin(token);
        let why = loop {
            match self.round(&mut live, socket).await {
                Ok(()) => {}
                Err(why) => break why,
            }
        };
        if let Some(working) = live.renewing.take() {
            self.tokens = Some(Tokens::Working(working));
        }
        match live.drain_at {
            Some(at) if !matches!(why, Why::ByUs) => End { why, next: Next::At(at) },
            _ => End::by(why),
        }
    }

    fn begin(&mut self, access_token: String) -> Live {
        let now = Instant::now();
        let connect = self.work.connect(wire::Connect {
            access_token,
            client: Some(self.config.info.clone()),
            accepts: Vec::new(),
            user_cursor: self.state.user_cursor().map(|cursor| cursor.to_wire()),
        });
        Live {
            phase: Phase::Connecting,
            control: VecDeque::from([connect]),
            heard_at: now,
            pinged_at: None,
            heartbeat: HEARTBEAT,
            open_commands: OPEN_COMMANDS,
            drain_at: None,
            connect_by: now + self.config.connect_timeout,
            renewing: None,
            renew_at: None,
        }
    }

    async fn round(&mut self, live: &mut Live, socket: &mut Socket) -> Result<(), Why> {
        let now = Instant::now();
        self.work.tick(now);
        self.check(live, now)?;
        if !socket.writing()
            && let Some(message) = self.compose(live, now)
        {
            socket.start(message)?;
        }
        let wake = self.wake_at(live, now);
        let reading = self.pending.is_empty();
        let found = tokio::select! {
            permit = self.events.reserve(), if !reading => {
                give(permit, &mut self.pending);
                Found::Event
            }
            turn = socket.turn(reading) => Found::Turn(turn),
            command = self.commands.recv(), if !self.closing() => Found::Command(command),
            Some((source, token)) = working(&mut live.renewing) => Found::Token(source, token),
            () = sleep_until(wake) => Found::Time,
        };
        match found {
            Found::Time => {}
            // Silence counts from when the socket is read again.
            Found::Event => live.heard_at = Instant::now(),
            Found::Turn(turn) => self.turned(live, turn?).await?,
            Found::Command(command) => {
                let is_live = matches!(live.phase, Phase::Live);
                if self.take(command, is_live).await {
                    return Err(Why::Cut);
                }
            }
            Found::Token(source, token) => {
                live.renewing = None;
                self.tokens = Some(Tokens::Idle(source));
                match token {
                    Ok(token) => live.control.push_back(self.work.refresh(token)),
                    Err(TokenError::Later(_)) => self.renew_later(live, None),
                    // The server closes when the token ends; until then the connection is good.
                    Err(TokenError::Denied(text)) => tracing::warn!(text, "the access token can't be renewed"),
                }
            }
        }
        Ok(())
    }

    /// What the clock alone decides.
    fn check(&mut self, live: &mut Live, now: Instant) -> Result<(), Why> {
        let is_live = matches!(live.phase, Phase::Live);
        if let Some(closing) = &self.closing
            && (!is_live || self.work.is_idle() || now >= closing.by)
        {
            return Err(Why::ByUs);
        }
        if live.drain_at.is_some_and(|at| now >= at) {
            return Err(Why::Drained);
        }
        if !is_live && now >= live.connect_by {
            return Err(Why::Silent);
        }
        if live.renew_at.is_some_and(|at| now >= at) {
            live.renew_at = None;
            self.renew(live);
        }
        match live.pinged_at {
            Some(at) if live.heard_at >= at => live.pinged_at = None,
            Some(at) if self.pending.is_empty() && now >= at.max(live.heard_at) + live.heartbeat.min(PONG_TIMEOUT) => {
                return Err(Why::Silent);
            }
            Some(_) => {}
            None if is_live && now >= live.heard_at + live.heartbeat => {
                live.control.push_back(self.work.ping());
                live.pinged_at = Some(now);
            }
            None => {}
        }
        Ok(())
    }

    fn wake_at(&self, live: &Live, now: Instant) -> Instant {
        let is_live = matches!(live.phase, Phase::Live);
        let silence = live
            .pinged_at
            .map_or(live.heard_at + live.heartbeat, |at| at.max(live.heard_at) + live.heartbeat.min(PONG_TIMEOUT));
        // While events wait for the app the socket is silent by our own doing.
        let silence = silence.max(if self.pending.is_empty() { silence } else { now + live.heartbeat });
        let connect_by = (!is_live).then_some(live.connect_by);
        let work = self.work.wake_at().filter(|_| is_live);
        let close_by = self.closing.as_ref().map(|closing| closing.by);
        [connect_by, live.drain_at, live.renew_at, work, close_by].into_iter().flatten().fold(silence, Instant::min)
    }

    /// The next message: the session's own frames, then as many commands as the server lets be open.
    fn compose(&mut self, live: &mut Live, now: Instant) -> Option<BytesMut> {
        let mut message = BytesMut::new();
        while message.len() < MESSAGE_BYTES {
            let may_ask = matches!(live.phase, Phase::Live) && self.work.open_count() < live.open_commands;
            let frame = live.control.pop_front().or_else(|| if may_ask { self.work.next(now) } else { None });
            let Some(frame) = frame else { break };
            self.config.codec.write_client(&frame, &mut message);
        }
        (!message.is_empty()).then_some(message)
    }

    async fn turned(&mut self, live: &mut Live, turn: Turn) -> Result<(), Why> {
        match turn {
            Turn::Written => return Ok(()),
            Turn::Sign => {}
            Turn::Message(bytes) => self.message(live, &bytes).await?,
        }
        live.heard_at = Instant::now();
        Ok(())
    }

    async fn message(&mut self, live: &mut Live, bytes: &Bytes) -> Result<(), Why> {
        let frames = self.config.codec.read_server(bytes).map_err(|e| Why::Protocol(e.to_string()))?;
        for frame in frames {
            match (frame.id, frame.kind) {
                (Some(id), Some(reply)) => self.reply(live, id, reply).await?,
                (None, Some(push)) => self.push(live, push)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    async fn reply(&mut self, live: &mut Live, id: u64, reply: Reply) -> Result<(), Why> {
        match self.work.answered(id, reply, Instant::now()) {
            Answer::Nothing => {}
            Answer::Connected(connected) => self.connected(live, &connected)?,
            Answer::Resumed => self.resumed(live),
            Answer::Refused(failure) => return Err(Why::Refused(failure)),
            Answer::Settled { log, client_id, outcome } => self.settle(log, client_id, outcome).await,
            Answer::Moved { log, accepted } => self.state.opened(log, accepted)?,
            Answer::Created { log, seq } => self.state.created(log, seq),
            Answer::Tell(event) => self.pending.push_back(event),
            Answer::RenewToken => self.renew(live),
            Answer::RenewLater(asked) => self.renew_later(live, asked),
        }
        Ok(())
    }

    fn connected(&mut self, live: &mut Live, connected: &wire::Connected) -> Result<(), Why> {
        let user =
            UserId::from_wire(&connected.user_id).ok_or_else(|| Why::Protocol("connected without a user".into()))?;
        if !self.state.connected(user, connected.epoch) {
            return Err(Why::Token("it is another user's".into()));
        }
        if connected.heartbeat_interval_ms > 0 {
            live.heartbeat = Duration::from_millis(connected.heartbeat_interval_ms);
        }
        let limits = connected.limits.unwrap_or_default();
        let announced = |limit: u64, otherwise| usize::try_from(limit).ok().filter(|n| *n > 0).unwrap_or(otherwise);
        live.open_commands = announced(limits.open_commands, OPEN_COMMANDS);
        let page = announced(limits.cursors_per_resume, CURSORS_PER_RESUME).min(CURSORS_PER_RESUME);
        let cursors: Vec<_> = self.state.cursors().map(|cursor| cursor.to_wire()).collect();
        let mut pages: Vec<_> =
            cursors.chunks(page).map(|page| wire::Resume { cursors: page.to_vec(), more: true }).collect();
        match pages.last_mut() {
            Some(last) => last.more = false,
            None => pages.push(wire::Resume::default()),
        }
        let session = SessionId::from_wire(&connected.session_id).unwrap_or(SessionId(uuid::Uuid::nil()));
        live.phase = Phase::Resuming { outstanding: pages.len(), session, user, epoch: connected.epoch };
        live.control.extend(pages.into_iter().map(|page| self.work.resume(page)));
        Ok(())
    }

    fn resumed(&mut self, live: &mut Live) {
        let Phase::Resuming { outstanding, session, user, epoch } = &mut live.phase else { return };
        *outstanding = outstanding.saturating_sub(1);
        if *outstanding == 0 {
            self.pending.push_back(Event::Connected { session: *session, user: *user, epoch: *epoch });
            live.phase = Phase::Live;
        }
    }

    fn push(&mut self, live: &mut Live, push: Reply) -> Result<(), Why> {
        match push {
            Reply::TokenExpiring(_) => self.renew(live),
            Reply::Drain(drain) => {
                live.drain_at = Some(Instant::now() + Duration::from_millis(drain.reconnect_after_ms));
            }
            Reply::TopicMessage(message) => self.pending.extend(self.work.topic_message(message)),
            // About the connection as a whole, or a frame that could not be read; if it is the end, a close follows.
            Reply::Error(error) => tracing::warn!(code = error.code, error.message, "the server complains"),
            push => {
                let mut steps = Vec::new();
                let applied = self.state.apply(push, &mut steps);
                self.note(steps);
                applied?;
            }
        }
        Ok(())
    }

    /// The token that is in use is still good for a while.
    fn renew_later(&mut self, live: &mut Live, asked: Option<Duration>) {
        live.renew_at = Some(Instant::now() + self.config.backoff.delay(TOKEN_ATTEMPT, asked, rand::random()));
    }

    fn renew(&mut self, live: &mut Live) {
        if live.renewing.is_none() {
            live.renewing = self.begin_token(true);
        }
    }
}

/// The work on a token, if there is any.
async fn working(renewing: &mut Option<Working>) -> Option<(super::TokenSource, Result<String, TokenError>)> {
    match renewing {
        Some(working) => Some(working.await),
        None => None,
    }
}
