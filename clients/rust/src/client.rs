use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Reply;
use bowline_protocol::{ClientId, Codec, LogId, Seq, SessionId, UserId, wire};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::backoff::Backoff;
use crate::connection::{Address, Call, Command, Connection};
use crate::event::Event;
use crate::outbox::{MemoryOutbox, Outbox};
use crate::state::{Cursor, Start};
use crate::token::TokenSource;

/// How a client is set up.
pub struct Config {
    /// `http://host:port` or `ws://host:port`.
    pub url: String,
    pub codec: Codec,
    pub token: TokenSource,
    /// Where conversations begin that this client has no position for.
    pub start: Start,
    /// Where an earlier process of this user stood, his own log (whose id is his) among them.
    pub resume_from: Option<(UserId, Vec<Cursor>)>,
    pub outbox: Box<dyn Outbox>,
    pub backoff: Backoff,
    /// Events that may wait for the app; beyond it the socket is not read.
    pub events: usize,
    /// From the call of a command to its answer, reconnecting and retrying included. Sends have no such bound.
    pub command_timeout: Duration,
    /// From dialling to the end of `resume`.
    pub connect_timeout: Duration,
    /// Name and version of the app, shown in the list of sessions.
    pub info: wire::ClientInfo,
}

impl Config {
    pub fn new(url: impl Into<String>, token: TokenSource) -> Self {
        Self {
            url: url.into(),
            codec: Codec::Proto,
            token,
            start: Start::default(),
            resume_from: None,
            outbox: Box::new(MemoryOutbox::new(10_000)),
            backoff: Backoff::default(),
            events: 256,
            command_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(15),
            info: wire::ClientInfo { name: "bowline-client".into(), version: env!("CARGO_PKG_VERSION").into() },
        }
    }
}

/// The handle of one client; a clone is the same client. When the last one is dropped, the client closes.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    command_timeout: Duration,
}

/// What happens, in order. Take it in a task of its own: while nobody does, the socket is not read, and replies wait as
/// well. Dropped, events are thrown away.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// None: the client has ended, and everything has been taken.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub body: String,
    pub reply_to_seq: Option<Seq>,
    pub thread_root_seq: Option<Seq>,
    pub mentions: Vec<UserId>,
    pub attachments: Vec<wire::Attachment>,
    /// A JSON object.
    pub attrs: Option<String>,
}

impl From<&str> for Draft {
    fn from(body: &str) -> Self {
        body.to_owned().into()
    }
}

impl From<String> for Draft {
    fn from(body: String) -> Self {
        Self { body, ..Self::default() }
    }
}

/// A conversation to be made.
#[derive(Clone, Debug, Default)]
pub struct NewConversation {
    /// The same one makes the same conversation, whenever it is used again.
    pub client_id: ClientId,
    pub kind: wire::ConversationKind,
    pub title: Option<String>,
    /// Without this user. In a direct conversation exactly one other.
    pub members: Vec<UserId>,
    /// Members see what was said before they joined.
    pub history_visible: bool,
}

/// A message in the outbox. Awaiting it gives the outcome; dropping it changes nothing, the message is sent all the same.
#[derive(Debug)]
pub struct Sending {
    client_id: ClientId,
    reply: oneshot::Receiver<Result<wire::Stored, Error>>,
}

impl Sending {
    /// Under which the entry will come back.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }
}

impl Future for Sending {
    type Output = Result<wire::Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(cx).map(|reply| reply.unwrap_or(Err(Error::Ended)))
    }
}

/// Commands that wait to be taken by the connection's task.
const COMMANDS: usize = 64;

impl Client {
    /// Starts a client on the runtime of the caller. It connects, and stays connected, by itself.
    pub fn start(config: Config) -> Result<(Client, Events), Error> {
        let address = Address::parse(&config.url)?;
        let (commands, taken) = mpsc::channel(COMMANDS);
        let (happened, events) = mpsc::channel(config.events.max(1));
        let command_timeout = config.command_timeout;
        tokio::spawn(Connection::new(config, address, taken, happened).run());
        Ok((Client { commands, command_timeout }, Events(events)))
    }

    /// Puts a message into the outbox: from then on it is sent until the server has stored or refused it, over any number
    /// of connections, and after a restart if the outbox lasts that long. Messages of one log are stored in the order of
    /// these calls.
    pub async fn send(&self, log: LogId, draft: impl Into<Draft>) -> Result<Sending, Error> {
        let draft = draft.into();
        let client_id = ClientId::new();
        let send = wire::Send {
            log_id: log.to_wire(),
            client_id: client_id.to_wire(),
            body: draft.body,
            reply_to_seq: draft.reply_to_seq,
            thread_root_seq: draft.thread_root_seq,
            mentions: draft.mentions.iter().map(|user| user.to_wire()).collect(),
            attachments: draft.attachments,
            attrs: draft.attrs,
        };
        let (taken, is_taken) = oneshot::channel();
        let (outcome, reply) = oneshot::channel();
        self.tell(Command::Send { log, send, taken, reply: outcome }).await?;
        is_taken.await.map_err(|_| Error::Ended)??;
        Ok(Sending { client_id, reply })
    }

    /// Changes a message of this user; `version` is the one that was seen, and another one is a conflict.
    pub async fn edit(&self, log: LogId, seq: Seq, version: Seq, body: &str) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::Edit(wire::Edit { log_id, client_id, target_seq: seq, version, body: body.into() })).await
    }

    pub async fn delete(&self, log: LogId, seq: Seq) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::Delete(wire::Delete { log_id, client_id, target_seq: seq })).await
    }

    pub async fn react(&self, log: LogId, seq: Seq, emoji: &str) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::React(wire::React { log_id, client_id, target_seq: seq, emoji: emoji.into() })).await
    }

    pub async fn unreact(&self, log: LogId, seq: Seq, emoji: &str) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::Unreact(wire::React { log_id, client_id, target_seq: seq, emoji: emoji.into() })).await
    }

    /// Makes a conversation. A direct one that is there already is opened instead.
    pub async fn create(&self, new: NewConversation) -> Result<wire::Conversation, Error> {
        let create = wire::ConversationCreate {
            client_id: new.client_id.to_wire(),
            kind: new.kind.into(),
            title: new.title,
            user_ids: new.members.iter().map(|user| user.to_wire()).collect(),
            history_visible: new.history_visible,
        };
        match self.ask(Ask::ConversationCreate(create)).await? {
            Reply::Conversation(conversation) => Ok(conversation),
            _ => Err(Error::Unexpected),
        }
    }

    /// Moves this client to another place of a log: [`Event::Moved`] comes, then what follows `after_seq`.
    pub async fn open(&self, log: LogId, after_seq: Seq) -> Result<(), Error> {
        self.ask(Ask::ConversationOpen(wire::ConversationOpen { log_id: log.to_wire(), after_seq })).await.map(drop)
    }

    pub async fn add(&self, log: LogId, users: &[UserId]) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        let user_ids = users.iter().map(|user| user.to_wire()).collect();
        self.store(Ask::ConversationAdd(wire::ConversationAdd { log_id, client_id, user_ids })).await
    }

    pub async fn remove(&self, log: LogId, user: UserId) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        let user_id = user.to_wire();
        self.store(Ask::ConversationRemove(wire::ConversationRemove { log_id, client_id, user_id })).await
    }

    pub async fn leave(&self, log: LogId) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::ConversationLeave(wire::ConversationLeave { log_id, client_id })).await
    }

    pub async fn rename(&self, log: LogId, title: &str) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::ConversationRename(wire::ConversationRename { log_id, client_id, title: title.into() })).await
    }

    pub async fn set_role(&self, log: LogId, user: UserId, role: wire::Role) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        let (user_id, role) = (user.to_wire(), role.into());
        self.store(Ask::ConversationSetRole(wire::ConversationSetRole { log_id, client_id, user_id, role })).await
    }

    /// Muted for notification, for this user alone.
    pub async fn mute(&self, log: LogId, muted: bool) -> Result<wire::Stored, Error> {
        let (log_id, client_id) = durable(log);
        self.store(Ask::ConversationMute(wire::ConversationMute { log_id, client_id, muted })).await
    }

    /// Folded messages around the place that `history` names.
    pub async fn history(&self, history: wire::History) -> Result<wire::Messages, Error> {
        match self.ask(Ask::History(history)).await? {
            Reply::Messages(messages) => Ok(messages),
            _ => Err(Error::Unexpected),
        }
    }

    /// A page of this user's conversations, newest activity first, after the last one of the page before.
    pub async fn list(&self, limit: u64, after: Option<&wire::Head>) -> Result<wire::Conversations, Error> {
        let after_log_id = after.map(|head| head.log_id.clone());
        let after_at_ms = after.map(|head| head.last_at_ms);
        let list = wire::ConversationList { limit, after_log_id, after_at_ms };
        match self.ask(Ask::ConversationList(list)).await? {
            Reply::Conversations(conversations) => Ok(conversations),
            _ => Err(Error::Unexpected),
        }
    }

    /// A page of a conversation's members, after the one named.
    pub async fn members(&self, log: LogId, limit: u64, after: Option<UserId>) -> Result<wire::Members, Error> {
        let after_user_id = after.map(UserId::to_wire);
        let log_id = log.to_wire();
        match self.ask(Ask::ConversationMembers(wire::ConversationMembers { log_id, limit, after_user_id })).await? {
            Reply::Members(members) => Ok(members),
            _ => Err(Error::Unexpected),
        }
    }

    /// The sessions of this user.
    pub async fn sessions(&self) -> Result<Vec<wire::SessionInfo>, Error> {
        match self.ask(Ask::SessionList(wire::SessionList {})).await? {
            Reply::Sessions(sessions) => Ok(sessions.sessions),
            _ => Err(Error::Unexpected),
        }
    }

    /// Ends a session of this user, or all of them, this one included.
    pub async fn revoke(&self, session: Option<SessionId>) -> Result<(), Error> {
        let client_id = ClientId::new().to_wire();
        let session_id = session.map(SessionId::to_wire);
        self.ask(Ask::SessionRevoke(wire::SessionRevoke { client_id, session_id })).await.map(drop)
    }

    /// Tells how far this user has read; sent at most every 2 s a conversation, the latest wins.
    pub async fn mark_read(&self, log: LogId, seq: Seq) -> Result<(), Error> {
        self.tell(Command::MarkRead { log, seq }).await
    }

    /// Tells the others that this user is typing; forgotten while not connected.
    pub async fn typing(&self, log: LogId) -> Result<(), Error> {
        self.tell(Command::Typing { log }).await
    }

    /// Subscribes to a topic, a name that the app defines; returns the seq after which its messages come, as
    /// [`Event::Published`]. Holds until [`Client::unsubscribe`]: on a new connection the client subscribes again by itself,
    /// and [`Event::Subscribed`] tells so.
    pub async fn subscribe(&self, topic: &str) -> Result<Seq, Error> {
        match self.ask(Ask::TopicSubscribe(wire::TopicSubscribe { topic: topic.into() })).await? {
            Reply::TopicSubscribed(subscribed) => Ok(subscribed.seq),
            _ => Err(Error::Unexpected),
        }
    }

    pub async fn unsubscribe(&self, topic: &str) -> Result<(), Error> {
        self.ask(Ask::TopicUnsubscribe(wire::TopicUnsubscribe { topic: topic.into() })).await.map(drop)
    }

    /// Publishes to who is subscribed now, at most once: [`Error::Disconnected`] leaves open whether it was. Messages of
    /// one topic go out in the order of these calls. Ok says that the server has taken it, not that anybody got it.
    pub async fn publish(&self, topic: &str, body: impl Into<String>) -> Result<(), Error> {
        let publish = wire::TopicPublish { topic: topic.into(), body: body.into() };
        self.ask(Ask::TopicPublish(publish)).await.map(drop)
    }

    /// Breaks the TCP connection, as a network does: for trying out what follows. The client comes back by itself.
    pub async fn cut(&self) -> Result<(), Error> {
        self.tell(Command::Cut).await
    }

    /// Ends the client once what is under way is answered, within 5 s; what can't be sent stays in the outbox.
    pub async fn close(&self) {
        let (done, is_done) = oneshot::channel();
        if self.tell(Command::Close(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    pub(crate) async fn store(&self, kind: Ask) -> Result<wire::Stored, Error> {
        match self.ask(kind).await? {
            Reply::Stored(stored) | Reply::Sent(stored) => Ok(stored),
            _ => Err(Error::Unexpected),
        }
    }

    pub(crate) async fn ask(&self, kind: Ask) -> Result<Reply, Error> {
        let give_up_at = Instant::now() + self.command_timeout;
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Call(Call { kind, give_up_at, reply, attempts: 0 })).await?;
        match timeout_at(give_up_at, answer).await {
            Err(_) => Err(Error::TimedOut),
            Ok(Err(_)) => Err(Error::Ended),
            Ok(Ok(answer)) => answer,
        }
    }

    async fn tell(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Ended)
    }
}

fn durable(log: LogId) -> (Vec<u8>, Vec<u8>) {
    (log.to_wire(), ClientId::new().to_wire())
}
