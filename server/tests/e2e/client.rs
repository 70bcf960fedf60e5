//! A small client that keeps the rules of docs/protocol.md, and fails the test when the server breaks them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

use bowline_protocol::Codec;
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use crate::person::Person;
use crate::world::PATIENCE;

/// One connection. Frames are JSON on the test's side, whatever the codec on the wire.
pub(crate) struct Client {
    pub(crate) person: Person,
    pub(crate) connected: Value,
    codec: Codec,
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
    replies: HashMap<u64, Value>,
    /// Everything without an id but `entries`, as it came.
    pushes: VecDeque<Value>,
    logs: BTreeMap<String, Seen>,
    /// Conversations that this client was told it is in, and from where on.
    joinings: HashSet<(String, u64)>,
    /// `conversation_open` commands without a reply: where they move this client.
    opening: HashMap<u64, (String, u64)>,
    closed: Option<u16>,
}

/// What came of one log.
#[derive(Clone, Debug, Default)]
struct Seen {
    cursor: u64,
    items: Vec<Value>,
}

impl Client {
    /// The WebSocket alone; nothing is sent on it yet.
    pub(crate) async fn open(address: SocketAddr, codec: Codec) -> Self {
        Self::open_on(TcpStream::connect(address).await.unwrap(), address, codec).await
    }

    /// One whose kernel takes little that the test does not read, so that it lags soon after it stops reading.
    pub(crate) async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32_768).unwrap();
        Self::open_on(socket.connect(address).await.unwrap(), address, Codec::Json).await
    }

    async fn open_on(stream: TcpStream, address: SocketAddr, codec: Codec) -> Self {
        let mut request = format!("ws://{address}/v1/connect").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", codec.subprotocol().parse().unwrap());
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], codec.subprotocol());
        Self {
            person: Person { user: String::new(), session: String::new() },
            connected: Value::Null,
            codec,
            socket,
            last_id: 0,
            replies: HashMap::new(),
            pushes: VecDeque::new(),
            logs: BTreeMap::new(),
            joinings: HashSet::new(),
            opening: HashMap::new(),
            closed: None,
        }
    }

    /// Sends a command and gives its id; others may be sent before its reply.
    pub(crate) async fn post(&mut self, command: Value) -> u64 {
        let (id, message) = self.numbered(command);
        self.message(message).await;
        id
    }

    /// Sends many in one go, before any reply is read.
    pub(crate) async fn post_all(&mut self, commands: impl IntoIterator<Item = Value>) -> Vec<u64> {
        let mut ids = Vec::new();
        for command in commands {
            let (id, message) = self.numbered(command);
            self.socket.feed(message).await.unwrap();
            ids.push(id);
        }
        self.socket.flush().await.unwrap();
        ids
    }

    /// A message as it is.
    pub(crate) async fn message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The one reply to a command, with its kind.
    pub(crate) async fn reply(&mut self, id: u64) -> Value {
        self.read_until(&format!("a reply to {id}"), |client| client.replies.contains_key(&id)).await;
        self.replies.remove(&id).unwrap()
    }

    /// Sends a command and waits for its reply, with its kind.
    pub(crate) async fn ask(&mut self, command: Value) -> Value {
        let id = self.post(command).await;
        self.reply(id).await
    }

    /// What a command that succeeds is answered.
    pub(crate) async fn ok(&mut self, command: Value) -> Value {
        let reply = self.ask(command.clone()).await;
        assert!(reply.get("error").is_none(), "{command}: {reply}");
        reply.as_object().unwrap().values().next().unwrap().clone()
    }

    /// The error that a command is answered.
    pub(crate) async fn refused(&mut self, command: Value) -> Value {
        let reply = self.ask(command.clone()).await;
        assert!(reply.get("error").is_some(), "{command}: {reply}");
        reply["error"].clone()
    }

    /// The next push of this kind, without what came before it being lost.
    pub(crate) async fn push(&mut self, kind: &str) -> Value {
        self.push_where(kind, |_| true).await
    }

    pub(crate) async fn push_where(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let at = |client: &Self| client.pushes.iter().position(|push| push.get(kind).is_some_and(&wanted));
        self.read_until(&format!("a push of kind {kind}"), |client| at(client).is_some()).await;
        let at = at(self).unwrap();
        self.pushes.remove(at).unwrap()[kind].take()
    }

    /// The pushes of a kind that came.
    pub(crate) fn taken(&mut self, kind: &str) -> Vec<Value> {
        let (taken, others) = self.pushes.drain(..).partition(|push: &Value| push.get(kind).is_some());
        self.pushes = others;
        let taken: VecDeque<Value> = taken;
        taken.into_iter().map(|mut push| push[kind].take()).collect()
    }

    /// How many pushes of a kind came and were not taken.
    pub(crate) fn waiting(&self, kind: &str) -> usize {
        self.pushes.iter().filter(|push| push.get(kind).is_some()).count()
    }

    /// Waits until everything up to this seq was covered.
    pub(crate) async fn reaches(&mut self, log: &str, seq: u64) {
        self.read_until(&format!("seq {seq} of {log}"), |client| client.position(log) >= seq).await;
    }

    /// Everything that the server had for this client before now has been read when this returns: the node handles what
    /// was published and what is asked in one order.
    pub(crate) async fn settle(&mut self) {
        self.ok(json!({ "ping": {} })).await;
    }

    /// The close code, once the server closes; everything before it is read.
    pub(crate) async fn closed(&mut self) -> u16 {
        self.read_until("the close", |client| client.closed.is_some()).await;
        self.closed.unwrap()
    }

    /// Moves to another place in a log; what came of it before is forgotten.
    pub(crate) async fn open_at(&mut self, log: &str, after_seq: u64) -> Value {
        let (id, message) = self.numbered(json!({ "conversation_open": { "log_id": log, "after_seq": after_seq } }));
        self.opening.insert(id, (log.to_owned(), after_seq));
        self.message(message).await;
        self.reply(id).await
    }

    /// The sends that were answered and not looked at, by their ids, and where they are stored.
    pub(crate) fn acked(&self) -> HashMap<u64, u64> {
        let sent = |reply: &Value| reply["sent"]["seq"].as_u64();
        self.replies.iter().filter_map(|(id, reply)| Some((*id, sent(reply)?))).collect()
    }

    /// Forgets what came of a log, but not where this client stands in it.
    pub(crate) fn forget(&mut self, log: &str) {
        if let Some(seen) = self.logs.get_mut(log) {
            seen.items.clear();
        }
    }

    /// Goes away without a word, as a phone in a tunnel does.
    pub(crate) fn vanish(self) -> Self {
        self
    }

    // --- What came of logs ---

    pub(crate) fn position(&self, log: &str) -> u64 {
        self.logs.get(log).map_or(0, |seen| seen.cursor)
    }

    pub(crate) fn cursor(&self, log: &str) -> Value {
        json!({ "log_id": log, "seq": self.position(log), "epoch": self.connected["epoch"] })
    }

    /// What came of this user's own log.
    pub(crate) fn own_items(&self) -> &[Value] {
        self.items(&self.person.user)
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = &str> {
        self.logs.keys().map(String::as_str)
    }

    /// The entries that came, in order.
    pub(crate) fn items(&self, log: &str) -> &[Value] {
        self.logs.get(log).map_or(&[], |seen| &seen.items)
    }

    pub(crate) fn seqs(&self, log: &str) -> Vec<u64> {
        self.items(log).iter().map(|item| item["seq"].as_u64().unwrap()).collect()
    }

    /// The bodies of messages that came, in order.
    pub(crate) fn bodies(&self, log: &str) -> Vec<&str> {
        self.items(log).iter().filter_map(|item| item["message"]["body"].as_str()).collect()
    }

    pub(crate) fn item(&self, log: &str, seq: u64) -> &Value {
        self.items(log).iter().find(|item| item["seq"] == seq).unwrap_or_else(|| panic!("no entry {seq}"))
    }

    /// Says where this client stands in a log.
    pub(crate) fn stand_at(&mut self, log: &str, seq: u64) {
        self.logs.entry(log.to_owned()).or_default().cursor = seq;
    }

    /// Follows everything from where it ends, as a client without history does.
    pub(crate) async fn follow_from_heads(&mut self) {
        self.ok(json!({ "resume": {} })).await;
        let heads = self.push("heads").await;
        assert_eq!(heads["more"], false, "a list in one page");
        self.stand_at_heads(&heads);
    }

    fn stand_at_heads(&mut self, heads: &Value) {
        let user = self.person.user.clone();
        self.stand_at(&user, heads["as_of_seq"].as_u64().unwrap());
        for head in heads["items"].as_array().into_iter().flatten() {
            self.stand_at(head["log_id"].as_str().unwrap(), head["last_seq"].as_u64().unwrap());
        }
    }

    /// Remembers the positions of a connection before this one; what came there does not count here.
    pub(crate) fn take_over(&mut self, before: &Client) {
        for (log, seen) in &before.logs {
            self.stand_at(log, seen.cursor);
        }
    }

    // --- What tests do again and again ---

    /// Makes a group with these people.
    pub(crate) async fn group(&mut self, others: &[&Client]) -> String {
        self.create(json!({ "kind": "group", "title": "Sailing", "user_ids": ids(others) })).await
    }

    /// Makes a conversation and waits until this client follows it.
    pub(crate) async fn create(&mut self, mut fields: Value) -> String {
        fields["client_id"] = new_id().into();
        let made = self.ok(json!({ "conversation_create": fields })).await;
        let log = made["log_id"].as_str().unwrap().to_owned();
        self.member_of(&log).await;
        log
    }

    /// Waits until this client has been told of its membership and has seen the entry by which it came.
    pub(crate) async fn member_of(&mut self, log: &str) {
        let user = self.person.user.clone();
        let joined = |client: &Self| {
            let items = client.items(&user).iter().rev();
            items.map(|item| &item["joined"]).find(|joined| joined["conversation_id"] == log).cloned()
        };
        self.read_until(&format!("joined {log}"), |client| joined(client).is_some()).await;
        let seq = joined(self).unwrap()["conversation_seq"].as_u64().unwrap();
        self.reaches(log, seq).await;
    }

    /// Sends a message; its seq.
    pub(crate) async fn say(&mut self, log: &str, body: &str) -> u64 {
        self.ok(send(log, body)).await["seq"].as_u64().unwrap()
    }

    /// A durable command on a conversation, with a fresh client_id; the seq under which it is stored.
    pub(crate) async fn change(&mut self, command: &str, log: &str, fields: Value) -> u64 {
        self.ok(change(command, log, fields)).await["seq"].as_u64().unwrap()
    }

    // --- Reading ---

    async fn read_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(self.closed.is_none(), "closed with {:?} while waiting for {what}", self.closed);
            let read = tokio::time::timeout_at(deadline, self.read()).await;
            assert!(read.is_ok(), "{what} never came; pushes: {:?}", self.pushes);
        }
    }

    async fn read(&mut self) {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => {
                assert_eq!(self.codec, Codec::Json, "text on a binary connection");
                for line in text.lines() {
                    self.frame(serde_json::from_str(line).unwrap());
                }
            }
            Some(Ok(Message::Binary(bytes))) => {
                assert_eq!(self.codec, Codec::Proto, "binary on a text connection");
                for frame in Codec::Proto.read_server(&bytes).unwrap() {
                    let mut json = BytesMut::new();
                    Codec::Json.write(&frame, &mut json);
                    self.frame(serde_json::from_slice(&json).unwrap());
                }
            }
            Some(Ok(Message::Close(frame))) => {
                self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                // It is answered and the connection ended, if there is anybody left who waits for that.
                let _ = self.socket.flush().await;
                let _ = self.socket.get_mut().shutdown().await;
            }
            Some(Ok(_)) => {}
            // Killed, or gone without a closing handshake.
            Some(Err(Error::Io(_) | Error::Protocol(_) | Error::ConnectionClosed)) | None => self.closed = Some(1006),
            Some(Err(error)) => panic!("{error}"),
        }
    }

    fn frame(&mut self, mut frame: Value) {
        if let Some(id) = frame["id"].as_u64() {
            if let Some((log, cursor)) = self.opening.remove(&id).filter(|_| frame.get("done").is_some()) {
                self.logs.insert(log, Seen { cursor, items: Vec::new() });
            }
            frame.as_object_mut().unwrap().remove("id");
            let before = self.replies.insert(id, frame);
            assert_eq!(before, None, "two replies to {id}");
        } else if let Some(entries) = frame.get("entries") {
            self.entries(entries);
        } else {
            self.before_push(&frame);
            self.pushes.push_back(frame);
        }
    }

    fn entries(&mut self, entries: &Value) {
        let log = entries["log_id"].as_str().unwrap();
        let (after, to) = (entries["after_seq"].as_u64().unwrap(), entries["to_seq"].as_u64().unwrap());
        let items = entries["items"].as_array().cloned().unwrap_or_default();
        for joined in items.iter().filter_map(|item| item.get("joined")) {
            let of = joined["conversation_id"].as_str().unwrap();
            self.joinings.insert((of.to_owned(), joined["conversation_seq"].as_u64().unwrap()));
        }
        let seen = self.logs.entry(log.to_owned()).or_insert(Seen { cursor: after, items: Vec::new() });
        // A stay begins with its joining, wherever the one before it ended.
        let hole = after > seen.cursor && !self.joinings.contains(&(log.to_owned(), after + 1));
        assert!(!hole, "a hole in {log}: {after} after {}: {entries}", seen.cursor);
        for item in items {
            let seq = item["seq"].as_u64().unwrap();
            assert!(seq > seen.cursor && seq <= to, "{seq} again or out of order, at {}: {entries}", seen.cursor);
            seen.cursor = seq;
            seen.items.push(item);
        }
        seen.cursor = seen.cursor.max(to);
    }

    /// What is said of a log moves this client as it moves the server.
    fn before_push(&mut self, push: &Value) {
        if let Some(gap) = push.get("gap_too_large") {
            self.stand_at(gap["log_id"].as_str().unwrap(), gap["head"].as_u64().unwrap());
        } else if let Some(reset) = push.get("reset") {
            let (log, unsure) = (reset["log_id"].as_str().unwrap(), reset["first_unsure_seq"].as_u64().unwrap());
            let seq = self.position(log).min(unsure - 1);
            self.stand_at(log, seq);
        } else if let Some(caught_up) = push.get("caught_up") {
            let log = caught_up["log_id"].as_str().unwrap();
            assert_eq!(self.position(log), caught_up["seq"].as_u64().unwrap(), "caught up with less than was sent");
        }
    }

    fn numbered(&mut self, mut command: Value) -> (u64, Message) {
        self.last_id += 1;
        command["id"] = self.last_id.into();
        let text = command.to_string();
        let message = match self.codec {
            Codec::Json => Message::text(text),
            Codec::Proto => {
                let frame = Codec::Json.read_client(text.as_bytes()).remove(0).unwrap();
                let mut bytes = BytesMut::new();
                Codec::Proto.write_client(&frame, &mut bytes);
                Message::binary(bytes.freeze())
            }
        };
        (self.last_id, message)
    }
}

pub(crate) fn new_id() -> String {
    Uuid::now_v7().to_string()
}

pub(crate) fn ids(people: &[&Client]) -> Vec<String> {
    people.iter().map(|client| client.person.user.clone()).collect()
}

pub(crate) fn send(log: &str, body: &str) -> Value {
    change("send", log, json!({ "body": body }))
}

/// A durable command on a conversation, with a fresh client_id unless one is given.
pub(crate) fn change(command: &str, log: &str, fields: Value) -> Value {
    let mut all = json!({ "log_id": log, "client_id": new_id() });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ command: all })
}
