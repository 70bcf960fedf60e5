//! The task that keeps one client on its server: dials, speaks, resumes, waits, and dials again.
//!
//! It alone owns the positions, the work and the socket. When nobody takes the events, the socket is not read: nothing is
//! lost, nothing piles up, and the server sees a slow reader.

mod reads;
mod session;
mod socket;
mod topics;
mod work;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bowline_protocol::code::{AfterClose, Retry};
use bowline_protocol::{ClientId, Close, Codec, Failure, LogId, Seq, wire};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::client::Config;
use crate::error::Error;
use crate::event::{Event, Why};
use crate::outbox::Outbox;
use crate::state::{State, Step};
use crate::token::{TokenError, TokenSource};
use socket::Socket;
use work::Work;

pub(crate) use socket::Address;
pub(crate) use work::Call;

/// What a handle asks of the task.
pub(crate) enum Command {
    Call(Call),
    Send {
        log: LogId,
        send: wire::Send,
        taken: oneshot::Sender<Result<(), Error>>,
        reply: oneshot::Sender<Result<wire::Stored, Error>>,
    },
    MarkRead {
        log: LogId,
        seq: Seq,
    },
    Typing {
        log: LogId,
    },
    Cut,
    Close(oneshot::Sender<()>),
}

pub(crate) struct Connection {
    config: Settings,
    tokens: Option<Tokens>,
    outbox: Box<dyn Outbox>,
    state: State,
    work: Work,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// What has happened and is not yet taken; while there is any, the socket is not read.
    pending: VecDeque<Event>,
    closing: Option<Closing>,
}

/// The client is to end, as soon as nothing is under way and at the latest then.
struct Closing {
    by: Instant,
    tell: Vec<oneshot::Sender<()>>,
}

/// What stays the same over all connections.
struct Settings {
    address: Address,
    codec: Codec,
    info: wire::ClientInfo,
    backoff: Backoff,
    connect_timeout: Duration,
}

/// How a connection ended, and what follows.
struct End {
    why: Why,
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    /// Back, no earlier than the server asks.
    Resume(Option<Duration>),
    /// Back with a new token.
    Renew(Option<Duration>),
    /// Back in the slot that the server gave.
    At(Instant),
    Never,
}

/// The source of tokens, or the work that has it until it is done.
enum Tokens {
    Idle(TokenSource),
    Working(Working),
}

type Working = Pin<Box<dyn Future<Output = (TokenSource, Result<String, TokenError>)> + Send>>;

impl Connection {
    pub(crate) fn new(
        config: Config,
        address: Address,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (user, cursors) = config.resume_from.map_or((None, Vec::new()), |(user, cursors)| (Some(user), cursors));
        let mut state = State::new(config.start, cursors);
        if let Some(user) = user {
            state.set_user(user);
        }
        Self {
            config: Settings {
                address,
                codec: config.codec,
                info: config.info,
                backoff: config.backoff,
                connect_timeout: config.connect_timeout,
            },
            tokens: Some(Tokens::Idle(config.token)),
            outbox: config.outbox,
            state,
            work: Work::new(config.backoff),
            commands,
            events,
            pending: VecDeque::new(),
            closing: None,
        }
    }

    /// Runs until the client is closed, its last handle is dropped, or the server wants no more of it.
    pub(crate) async fn run(mut self) {
        match self.outbox.load().await {
            Ok(sends) => {
                for send in sends {
                    if let Some(log) = LogId::from_wire(&send.log_id) {
                        self.work.send(log, send, None);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the outbox could not be read; what is in it is not sent"),
        }
        let mut attempt = 0;
        let mut renew = false;
        loop {
            let (end, lasted) = self.once(renew).await;
            if lasted >= self.config.backoff.stable {
                attempt = 0;
            }
            self.state.disconnected();
            self.work.disconnected();
            let retry_in = end.next.delay(&self.config.backoff, attempt);
            attempt = attempt.saturating_add(1);
            renew = matches!(end.next, Next::Renew(_));
            tracing::debug!(why = %end.why, ?retry_in, "disconnected");
            self.pending.push_back(Event::Disconnected { why: end.why, retry_in });
            let Some(retry_in) = retry_in else { break };
            if self.meanwhile(sleep_until(Instant::now() + retry_in)).await.is_none() {
                self.pending.push_back(Event::Disconnected { why: Why::ByUs, retry_in: None });
                break;
            }
        }
        self.finish().await;
    }

    /// One connection from the dialling to the end, and how long it was up.
    async fn once(&mut self, renew: bool) -> (End, Duration) {
        let fell = |next, why| (End { why, next }, Duration::ZERO);
        let Some(mut working) = self.begin_token(renew) else {
            return fell(Next::Never, Why::Token("the source of tokens is gone".into()));
        };
        let token = match self.meanwhile(&mut working).await {
            None => return fell(Next::Never, Why::ByUs),
            Some((source, token)) => {
                self.tokens = Some(Tokens::Idle(source));
                token
            }
        };
        let token = match token {
            Ok(token) => token,
            Err(TokenError::Later(text)) => return fell(Next::Resume(None), Why::Token(text)),
            Err(TokenError::Denied(text)) => return fell(Next::Never, Why::Token(text)),
        };
        let (address, codec) = (self.config.address.clone(), self.config.codec);
        let dialling = async move { Socket::dial(&address, codec).await };
        let mut socket = match self.meanwhile(timeout(self.config.connect_timeout, dialling)).await {
            None => return fell(Next::Never, Why::ByUs),
            Some(Err(_)) => return fell(Next::Resume(None), Why::Network("no answer in time".into())),
            Some(Ok(Err(why))) => return (End::by(why), Duration::ZERO),
            Some(Ok(Ok(socket))) => socket,
        };
        let since = Instant::now();
        let end = self.converse(&mut socket, token).await;
        match end.why {
            Why::Cut | Why::Silent => socket.cut(),
            Why::Closed { .. } | Why::Network(_) => drop(socket),
            // A peer that no longer reads must not hold up the way back.
            _ => drop(timeout(CLOSE_TIMEOUT, socket.close()).await),
        }
        (end, since.elapsed())
    }

    /// The work that gives the next token; it is where it was if some was under way already.
    fn begin_token(&mut self, renew: bool) -> Option<Working> {
        Some(match self.tokens.take()? {
            Tokens::Working(working) => working,
            Tokens::Idle(mut source) => Box::pin(async move {
                let token = source.get(renew).await;
                (source, token)
            }),
        })
    }

    /// Awaits `future`, and goes on taking commands and giving out events. None: the client is to close.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::pin!(future);
        loop {
            if self.closing() {
                return None;
            }
            let command = tokio::select! {
                output = &mut future => return Some(output),
                permit = self.events.reserve(), if !self.pending.is_empty() => {
                    give(permit, &mut self.pending);
                    continue;
                }
                command = self.commands.recv() => command,
            };
            self.take(command, false).await;
        }
    }

    /// Takes a command. True: the connection is to be cut.
    async fn take(&mut self, command: Option<Command>, live: bool) -> bool {
        match command {
            None => self.begin_closing(None),
            Some(Command::Close(done)) => self.begin_closing(Some(done)),
            Some(Command::Cut) => return true,
            Some(Command::Call(call)) => self.call(call),
            Some(Command::MarkRead { log, seq }) => self.work.mark_read(log, seq),
            Some(Command::Typing { log }) if live => self.work.typing(log),
            Some(Command::Typing { .. }) => {}
            Some(Command::Send { log, send, taken, reply }) => {
                let kept = self.outbox.put(&send).await;
                if kept.is_ok() {
                    self.work.send(log, send, Some(reply));
                }
                let _ = taken.send(kept.map_err(Error::Outbox));
            }
        }
        false
    }

    fn call(&mut self, call: Call) {
        let wire::client_frame::Kind::ConversationOpen(open) = &call.kind else { return self.work.call(call) };
        let (after_seq, Some(log)) = (open.after_seq, LogId::from_wire(&open.log_id)) else { return };
        let mut steps = Vec::new();
        self.state.open(log, after_seq, &mut steps);
        self.work.move_to(log, after_seq, Some(call));
        self.note(steps);
    }

    fn note(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Event(event) => self.pending.push_back(event),
                Step::Open { log, after_seq } => self.work.move_to(log, after_seq, None),
            }
        }
    }

    async fn settle(&mut self, log: LogId, client_id: ClientId, outcome: Result<wire::Stored, Failure>) {
        if let Err(error) = self.outbox.settle(client_id).await {
            tracing::warn!(%error, "the outbox could not note that a message is settled; it will be sent again");
        }
        self.pending.push_back(match outcome {
            Ok(stored) => Event::Sent { log, client_id, stored },
            Err(failure) => Event::Refused { log, client_id, failure },
        });
    }

    fn begin_closing(&mut self, tell: Option<oneshot::Sender<()>>) {
        let closing = || Closing { by: Instant::now() + CLOSE_WITHIN, tell: Vec::new() };
        self.closing.get_or_insert_with(closing).tell.extend(tell);
    }

    fn closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Gives out what is left to those who still take it, and tells those who wait for the end.
    async fn finish(mut self) {
        self.commands.close();
        for done in self.closing.take().into_iter().flat_map(|closing| closing.tell) {
            let _ = done.send(());
        }
        while let Some(event) = self.pending.pop_front() {
            if self.events.send(event).await.is_err() {
                break;
            }
        }
    }
}

/// A client that is to end waits no longer for what is under way.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// A proper close waits no longer for the peer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The next event to the app; when nobody takes events any more, they are dropped.
fn give(permit: Result<mpsc::Permit<'_, Event>, mpsc::error::SendError<()>>, pending: &mut VecDeque<Event>) {
    match permit {
        Ok(permit) => {
            if let Some(event) = pending.pop_front() {
                permit.send(event);
            }
        }
        Err(_) => pending.clear(),
    }
}

impl End {
    /// What a client does next follows from why.
    fn by(why: Why) -> Self {
        let next = match &why {
            Why::Closed { code, reason } => {
                let asked = Close::retry_after_ms(reason).map(Duration::from_millis);
                match Close::after(*code) {
                    AfterClose::Resume => Next::Resume(asked),
                    AfterClose::RefreshFirst => Next::Renew(asked),
                    AfterClose::StayAway => Next::Never,
                }
            }
            Why::Refused(failure) => {
                let asked = failure.retry_after_ms.map(Duration::from_millis);
                match failure.code.retry() {
                    Retry::Refresh => Next::Renew(asked),
                    Retry::Never => Next::Never,
                    Retry::Later | Retry::SameId => Next::Resume(asked),
                }
            }
            Why::Http(401) => Next::Renew(None),
            Why::Token(_) | Why::ByUs => Next::Never,
            _ => Next::Resume(None),
        };
        Self { why, next }
    }
}

impl Next {
    /// The wait before the next connection; none: there is none.
    fn delay(self, backoff: &Backoff, attempt: u32) -> Option<Duration> {
        match self {
            Next::Resume(asked) | Next::Renew(asked) => Some(backoff.delay(attempt, asked, rand::random())),
            Next::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Next::Never => None,
        }
    }
}

#[cfg(test)]
mod tests;
