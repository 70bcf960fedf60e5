//! The scripted server.

use std::collections::VecDeque;
use std::time::Duration;

use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Push;
use bowline_protocol::{Codec, LogId, Seq, UserId, wire};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, http::HeaderValue};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::{Client, Config, Events, TokenSource};

fn me() -> UserId {
    UserId(Uuid::from_u128(1))
}

pub(super) fn room() -> LogId {
    LogId(Uuid::from_u128(100))
}

/// A server that does what the test says, one connection after the other.
pub(super) struct Server(pub(super) TcpListener, Codec);

pub(super) struct Peer {
    stream: WebSocketStream<TcpStream>,
    codec: Codec,
    asked: VecDeque<wire::ClientFrame>,
}

impl Server {
    pub(super) async fn start(codec: Codec) -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"), codec)
    }

    pub(super) fn client(&self, token: TokenSource, events: usize) -> (Client, Events) {
        let url = format!("http://{}", self.0.local_addr().expect("bound"));
        let backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(5), ..Backoff::default() };
        let codec = self.1;
        Client::start(Config { codec, backoff, events, ..Config::new(url, token) }).expect("a client")
    }

    #[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    pub(super) async fn accept(&self) -> Peer {
        let (tcp, _) = self.0.accept().await.expect("a connection");
        let codec = self.1;
        let choose = move |_: &Request, mut response: Response| {
            let name = HeaderValue::from_static(codec.subprotocol());
            response.headers_mut().insert("sec-websocket-protocol", name);
            Ok(response)
        };
        let stream = accept_hdr_async(tcp, choose).await.expect("a websocket");
        Peer { stream, codec, asked: VecDeque::new() }
    }

    /// Takes a connection up to the end of resume; gives the cursors that were named.
    pub(super) async fn resumed(&self, heartbeat_interval_ms: u64) -> (Peer, Option<Seq>, Vec<(LogId, Seq)>) {
        let mut peer = self.accept().await;
        let (id, ask) = peer.next().await;
        let Ask::Connect(connect) = ask else { panic!("not connect: {ask:?}") };
        let connected = wire::Connected {
            session_id: vec![9; 16],
            user_id: me().to_wire(),
            epoch: 1,
            heartbeat_interval_ms,
            ..Default::default()
        };
        peer.push(Some(id), Push::Connected(connected)).await;
        let (id, ask) = peer.next().await;
        let Ask::Resume(resume) = ask else { panic!("not resume: {ask:?}") };
        peer.push(Some(id), Push::Resumed(wire::Resumed { logs: resume.cursors.len() as u64 })).await;
        let cursor = |c: &wire::Cursor| (LogId::from_wire(&c.log_id).expect("an id"), c.seq);
        (peer, connect.user_cursor.map(|c| c.seq), resume.cursors.iter().map(cursor).collect())
    }
}

impl Peer {
    pub(super) async fn next(&mut self) -> (u64, Ask) {
        loop {
            if let Some(frame) = self.asked.pop_front() {
                return (frame.id, frame.kind.expect("a kind"));
            }
            let message = self.stream.next().await.expect("still there").expect("a message");
            if message.is_binary() || message.is_text() {
                let frames = self.codec.read_client(&message.into_data());
                self.asked.extend(frames.into_iter().map(|frame| frame.expect("a frame")));
            }
        }
    }

    pub(super) async fn push(&mut self, id: Option<u64>, kind: Push) {
        let mut bytes = BytesMut::new();
        self.codec.write(&wire::ServerFrame { id, kind: Some(kind) }, &mut bytes);
        let message = match self.codec {
            Codec::Proto => Message::Binary(bytes.freeze()),
            Codec::Json => Message::Text(String::from_utf8(bytes.to_vec()).expect("text").into()),
        };
        self.stream.send(message).await.expect("written");
    }

    pub(super) async fn entries(&mut self, after_seq: Seq, to_seq: Seq) {
        let items = (after_seq + 1..=to_seq)
            .map(|seq| wire::Entry { seq, sender_id: vec![1; 16], client_id: vec![2; 16], ..Default::default() })
            .collect();
        self.push(None, Push::Entries(wire::Entries { log_id: room().to_wire(), after_seq, to_seq, items })).await;
    }

    pub(super) async fn next_send(&mut self) -> (u64, wire::Send) {
        match self.next().await {
            (id, Ask::Send(send)) => (id, send),
            (_, other) => panic!("not a send: {other:?}"),
        }
    }

    pub(super) async fn stored(&mut self, id: u64, seq: Seq) {
        let stored = wire::Stored { log_id: room().to_wire(), seq, ..Default::default() };
        self.push(Some(id), Push::Sent(stored)).await;
    }

    pub(super) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "told".into() };
        self.stream.close(Some(frame)).await.expect("closed");
    }

    pub(super) fn cut(self) {
        self.stream.get_ref().set_zero_linger().expect("linger");
    }
}
