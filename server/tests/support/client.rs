//! A client on tokio-tungstenite, which shares no code with the server's sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::wire::{Entries, ServerFrame};
use bowline_protocol::{Codec, LogId, Seq, UserId};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub codec: Codec,
    frames: VecDeque<ServerFrame>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    pub async fn connect(address: SocketAddr, user: UserId, codec: Codec) -> Self {
        Self::with_window(address, user, codec, None).await
    }

    /// `window`: bytes that this end takes without reading.
    pub async fn with_window(address: SocketAddr, user: UserId, codec: Codec, window: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes).expect("a window");
        }
        let stream = socket.connect(address).await.expect("connected");
        let mut request = format!("ws://{address}/{user}").into_client_request().expect("a request");
        let protocol = HeaderValue::from_static(codec.subprotocol());
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("upgraded");
        Self { socket, codec, frames: VecDeque::new() }
    }

    pub async fn order(&mut self, order: impl Into<String>) {
        let order = order.into();
        let message = match self.codec {
            Codec::Proto => Message::binary(order),
            Codec::Json => Message::text(order),
        };
        self.socket.send(message).await.expect("sent");
    }

    pub async fn follow(&mut self, log: LogId, from: Seq) {
        self.order(format!("!follow {log} {from}")).await;
    }

    /// The next message that is no ping or pong.
    pub async fn message(&mut self) -> Message {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(message)) => return message,
                    Some(Err(error)) => panic!("the socket broke: {error}"),
                    None => panic!("the socket ended"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a message in time")
    }

    /// The next frame of the contract.
    pub async fn frame(&mut self) -> Kind {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame.kind.expect("a kind that is known");
            }
            match self.message().await {
                message @ (Message::Binary(_) | Message::Text(_)) => {
                    assert_eq!(message.is_text(), self.codec == Codec::Json);
                    self.frames.extend(self.codec.read_server(&message.into_data()).expect("of the contract"));
                }
                other => panic!("not a frame: {other:?}"),
            }
        }
    }

    pub async fn notice(&mut self) -> String {
        match self.frame().await {
            Kind::Notice(notice) => notice.text,
            other => panic!("not a notice: {other:?}"),
        }
    }

    pub async fn entries(&mut self) -> Entries {
        match self.frame().await {
            Kind::Entries(entries) => entries,
            other => panic!("not entries: {other:?}"),
        }
    }

    /// The code with which the server closes; frames before it are skipped.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }
}

/// A reader's place in one log, and the rule for what may come.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub seq: Seq,
    pub seqs: Vec<Seq>,
    pub caught_up: Option<Seq>,
}

impl Place {
    pub fn at(seq: Seq) -> Self {
        Self { seq, ..Self::default() }
    }

    /// Takes a range: it must begin where the last one ended.
    pub fn take(&mut self, range: &Entries) {
        assert_eq!(range.after_seq, self.seq, "a hole or a step back");
        assert!(range.to_seq > range.after_seq, "an empty range");
        for item in &range.items {
            assert!(
                item.seq > self.seq && item.seq <= range.to_seq,
                "{} in ({}, {}]",
                item.seq,
                self.seq,
                range.to_seq
            );
            self.seq = item.seq;
            self.seqs.push(item.seq);
        }
        self.seq = range.to_seq;
    }

    /// Reads until the place is `seq`.
    pub async fn reach(&mut self, seq: Seq, client: &mut Client) {
        while self.seq < seq {
            match client.frame().await {
                Kind::Entries(range) => self.take(&range),
                Kind::CaughtUp(caught_up) => self.caught_up = Some(caught_up.seq),
                other => panic!("not for this reader: {other:?}"),
            }
        }
    }
}
