//! What this client wants from the server: commands that wait, are open, or are to be tried again. Outlives connections;
//! no socket, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bowline_protocol::code::Retry;
use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Reply;
use bowline_protocol::{ClientId, Failure, LogId, Seq, wire};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::reads::Reads;
use super::topics::Topics;
use crate::Error;
use crate::backoff::Backoff;
use crate::error::failure;
use crate::event::Event;
use crate::lanes::{Lanes, Verdict, waiting};

/// Commands that wait for their turn, over those that are open; beyond it a caller is told that the client is busy.
const CALLS: usize = 256;
const TYPING: usize = 16;

/// A command whose caller waits for the answer, no longer than `give_up_at`.
pub(crate) struct Call {
    pub(crate) kind: Ask,
    pub(crate) give_up_at: Instant,
    pub(crate) reply: oneshot::Sender<Result<Reply, Error>>,
    pub(crate) attempts: u32,
}

/// What a command was for, while it is open.
enum Open {
    Connect,
    Resume,
    Refresh,
    Quiet,
    Send(LogId),
    Move { log: LogId, call: Option<Call> },
    Subscribe(String),
    Call(Call),
}

/// What a reply means to the connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Connected(Box<wire::Connected>),
    Resumed,
    Refused(Failure),
    /// A send is settled, and leaves the outbox.
    Settled {
        log: LogId,
        client_id: ClientId,
        outcome: Result<wire::Stored, Failure>,
    },
    Moved {
        log: LogId,
        accepted: bool,
    },
    Created {
        log: LogId,
        seq: Seq,
    },
    /// Something happened that the app is to hear of.
    Tell(Event),
    RenewToken,
    /// The server can't take the new token now.
    RenewLater(Option<Duration>),
    Nothing,
}

pub(crate) struct Work {
    backoff: Backoff,
    last_id: u64,
    open: HashMap<u64, Open>,
    calls: VecDeque<Call>,
    later: Vec<(Instant, Call)>,
    moves: VecDeque<(LogId, Seq, Option<Call>)>,
    lanes: Lanes,
    /// Callers that wait for their send.
    senders: HashMap<ClientId, oneshot::Sender<Result<wire::Stored, Error>>>,
    reads: Reads,
    typing: VecDeque<LogId>,
    topics: Topics,
}

impl Work {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            last_id: 0,
            open: HashMap::new(),
            calls: VecDeque::new(),
            later: Vec::new(),
            moves: VecDeque::new(),
            lanes: Lanes::default(),
            senders: HashMap::new(),
            reads: Reads::default(),
            typing: VecDeque::new(),
            topics: Topics::default(),
        }
    }

    pub(crate) fn call(&mut self, call: Call) {
        if self.calls.len() + self.later.len() >= CALLS {
            let _ = call.reply.send(Err(Error::Busy));
        } else {
            self.calls.push_back(call);
        }
    }

    pub(crate) fn send(
        &mut self,
        log: LogId,
        send: wire::Send,
        reply: Option<oneshot::Sender<Result<wire::Stored, Error>>>,
    ) {
        if let (Some(reply), Some(client_id)) = (reply, ClientId::from_wire(&send.client_id)) {
            self.senders.insert(client_id, reply);
        }
        self.lanes.push(log, send);
    }

    /// The server is to move its cursor; the position here has moved already.
    pub(crate) fn move_to(&mut self, log: LogId, after_seq: Seq, call: Option<Call>) {
        self.moves.push_back((log, after_seq, call));
    }

    pub(crate) fn mark_read(&mut self, log: LogId, seq: Seq) {
        self.reads.mark(log, seq);
    }

    /// Worth nothing later: what does not fit is dropped.
    pub(crate) fn typing(&mut self, log: LogId) {
        if self.typing.len() < TYPING && !self.typing.contains(&log) {
            self.typing.push_back(log);
        }
    }

    pub(crate) fn connect(&mut self, connect: wire::Connect) -> wire::ClientFrame {
        self.issue(Ask::Connect(connect), Open::Connect)
    }

    pub(crate) fn resume(&mut self, resume: wire::Resume) -> wire::ClientFrame {
        self.issue(Ask::Resume(resume), Open::Resume)
    }

    pub(crate) fn refresh(&mut self, access_token: String) -> wire::ClientFrame {
        self.issue(Ask::Refresh(wire::Refresh { access_token }), Open::Refresh)
    }

    pub(crate) fn ping(&mut self) -> wire::ClientFrame {
        self.issue(Ask::Ping(wire::Ping {}), Open::Quiet)
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Nothing of value is waiting or under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.calls.is_empty() && self.later.is_empty() && self.lanes.is_empty()
    }

    /// The next command to go out.
    pub(crate) fn next(&mut self, now: Instant) -> Option<wire::ClientFrame> {
        if let Some((log, after_seq, call)) = self.moves.pop_front() {
            let kind = Ask::ConversationOpen(wire::ConversationOpen { log_id: log.to_wire(), after_seq });
            return Some(self.issue(kind, Open::Move { log, call }));
        }
        if let Some(topic) = self.topics.next() {
            let kind = Ask::TopicSubscribe(wire::TopicSubscribe { topic: topic.clone() });
            return Some(self.issue(kind, Open::Subscribe(topic)));
        }
        if let Some(call) = self.calls.pop_front() {
            return Some(self.issue(call.kind.clone(), Open::Call(call)));
        }
        if let Some((log, send)) = self.lanes.next(now) {
            let kind = Ask::Send(send.clone());
            return Some(self.issue(kind, Open::Send(log)));
        }
        if let Some((log, seq)) = self.reads.next(now) {
            return Some(self.issue(Ask::MarkRead(wire::MarkRead { log_id: log.to_wire(), seq }), Open::Quiet));
        }
        let log = self.typing.pop_front()?;
        Some(self.issue(Ask::Typing(wire::SetTyping { log_id: log.to_wire() }), Open::Quiet))
    }

    pub(crate) fn answered(&mut self, id: u64, reply: Reply, now: Instant) -> Answer {
        let Some(open) = self.open.remove(&id) else { return Answer::Nothing };
        let reply = match reply {
            Reply::Error(error) => Err(failure(error)),
            reply => Ok(reply),
        };
        match (open, reply) {
            (Open::Connect, Ok(Reply::Connected(connected))) => Answer::Connected(Box::new(connected)),
            (Open::Resume, Ok(Reply::Resumed(_))) => Answer::Resumed,
            (Open::Refresh, Err(failure)) if matches!(failure.code.retry(), Retry::Later | Retry::SameId) => {
                Answer::RenewLater(failure.retry_after_ms.map(Duration::from_millis))
            }
            (Open::Connect | Open::Resume | Open::Refresh, Err(failure)) => Answer::Refused(failure),
            (Open::Send(log), Ok(Reply::Sent(stored) | Reply::Stored(stored))) => self.sent(log, Ok(stored), now),
            (Open::Send(log), Err(failure)) => self.sent(log, Err(failure), now),
            (Open::Move { log, call }, reply) => {
                let accepted = reply.is_ok();
                if let Some(call) = call {
                    let _ = call.reply.send(reply.map_err(Error::Refused));
                }
                Answer::Moved { log, accepted }
            }
            (Open::Subscribe(_), Ok(Reply::TopicSubscribed(subscribed))) => {
                Answer::Tell(self.topics.subscribed(subscribed))
            }
            (Open::Subscribe(topic), Err(failure)) => {
                self.topics.ended(&topic);
                Answer::Tell(Event::Unsubscribed { topic, failure })
            }
            (Open::Call(call), reply) => self.called(call, reply, now),
            _ => Answer::Nothing,
        }
    }

    pub(crate) fn topic_message(&mut self, message: wire::TopicMessage) -> Option<Event> {
        self.topics.message(message)
    }

    /// Takes up what may be tried again, and drops what nobody waits for any more.
    pub(crate) fn tick(&mut self, now: Instant) {
        for (_, call) in self.later.extract_if(.., |(at, _)| *at <= now) {
            self.calls.push_back(call);
        }
        self.calls.retain(|call| !call.reply.is_closed());
        self.reads.forget(now);
    }

    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let later = self.later.iter().map(|(at, _)| *at);
        later.chain(self.lanes.wake_at()).chain(self.reads.wake_at()).min()
    }

    /// What was open goes again on the next connection: a durable command under its client_id, so that twice is once.
    /// Moves are done with, since the next connection names every position.
    pub(crate) fn disconnected(&mut self) {
        let mut again: Vec<_> = self.open.drain().collect();
        again.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (_, open) in again {
            match open {
                // Twice would be twice.
                Open::Call(call) if matches!(call.kind, Ask::TopicPublish(_)) => {
                    let _ = call.reply.send(Err(Error::Disconnected));
                }
                Open::Call(call) => self.calls.push_front(call),
                Open::Move { call: Some(call), .. } => drop(call.reply.send(Ok(Reply::Done(wire::Done {})))),
                _ => {}
            }
        }
        for call in self.moves.drain(..).filter_map(|(_, _, call)| call) {
            let _ = call.reply.send(Ok(Reply::Done(wire::Done {})));
        }
        self.typing.clear();
        self.lanes.disconnected();
        self.reads.disconnected();
        self.topics.disconnected();
    }

    fn issue(&mut self, kind: Ask, open: Open) -> wire::ClientFrame {
        self.last_id += 1;
        self.open.insert(self.last_id, open);
        wire::ClientFrame { id: self.last_id, kind: Some(kind) }
    }

    fn sent(&mut self, log: LogId, answer: Result<wire::Stored, Failure>, now: Instant) -> Answer {
        let outcome = match self.lanes.answered(log, answer, now, waiting(self.backoff)) {
            None | Some((_, Verdict::Again)) => return Answer::Nothing,
            Some((_, Verdict::Renew)) => return Answer::RenewToken,
            Some((client_id, Verdict::Stored(stored))) => (client_id, Ok(stored)),
            Some((client_id, Verdict::Refused(failure))) => (client_id, Err(failure)),
        };
        let (client_id, outcome) = outcome;
        if let Some(reply) = self.senders.remove(&client_id) {
            let _ = reply.send(outcome.clone().map_err(Error::Refused));
        }
        Answer::Settled { log, client_id, outcome }
    }

    /// What the success of a call means beyond its caller.
    fn answer(&mut self, kind: &Ask, reply: &Reply) -> Answer {
        match (kind, reply) {
            (_, Reply::Conversation(c)) => {
                LogId::from_wire(&c.log_id).map_or(Answer::Nothing, |log| Answer::Created { log, seq: c.seq })
            }
            (_, Reply::TopicSubscribed(subscribed)) => Answer::Tell(self.topics.subscribed(subscribed.clone())),
            (Ask::TopicUnsubscribe(ended), _) => {
                self.topics.ended(&ended.topic);
                Answer::Nothing
            }
            _ => Answer::Nothing,
        }
    }

    fn called(&mut self, mut call: Call, reply: Result<Reply, Failure>, now: Instant) -> Answer {
        let failure = match reply {
            Ok(reply) => {
                let answer = self.answer(&call.kind, &reply);
                let _ = call.reply.send(Ok(reply));
                return answer;
            }
            Err(failure) => failure,
        };
        let retry = failure.code.retry();
        let asked = failure.retry_after_ms.map(Duration::from_millis);
        let at = now + waiting(self.backoff)(call.attempts, asked);
        if retry == Retry::Never || at >= call.give_up_at {
            let _ = call.reply.send(Err(Error::Refused(failure)));
            return Answer::Nothing;
        }
        call.attempts += 1;
        self.later.push((at, call));
        if retry == Retry::Refresh { Answer::RenewToken } else { Answer::Nothing }
    }
}
