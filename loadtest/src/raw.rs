//! Sockets that cost little on this side, for scenarios with thousands of them: protobuf alone, no reconnecting, one read
//! buffer for all that wait, memory only while a message is partial.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{Codec, wire};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::fleet::framing::{self, Inbox, Message};

/// Where a raw socket connects to.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    authority: String,
}

impl Target {
    pub(crate) async fn resolve(url: &str) -> anyhow::Result<Self> {
        let authority =
            url.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default().to_owned();
        let address =
            lookup_host(&authority).await.with_context(|| format!("{url}: http://host:port is expected"))?.next();
        Ok(Self { address: address.with_context(|| format!("{url}: no such host"))?, authority })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

pub(crate) struct RawSocket {
    stream: TcpStream,
    inbox: Inbox,
    last_id: u64,
    out: Vec<u8>,
}

/// The most that is read at once; on the stack, so that no waiting socket owns it.
const READ_BYTES: usize = 16 * 1024;
const HANDSHAKE_BYTES: usize = 8 * 1024;

impl RawSocket {
    /// Connects, authenticates, and resumes with nothing; within this long, or not at all.
    pub(crate) async fn connect(target: &Target, token: &str, patience: Duration) -> anyhow::Result<Self> {
        let connecting = timeout(patience, Self::connect_in_time(target, token));
        let connected = connecting.await.unwrap_or_else(|_| Err(anyhow::anyhow!("no session within {patience:?}")));
        connected.with_context(|| format!("connecting to {}", target.authority))
    }

    async fn connect_in_time(target: &Target, token: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        upgrade(&mut stream, &target.authority).await?;
        let mut socket = Self { stream, inbox: Inbox::default(), last_id: 0, out: Vec::new() };
        let client = wire::ClientInfo { name: "bowline-loadtest".into(), version: env!("CARGO_PKG_VERSION").into() };
        let connect = wire::Connect { access_token: token.to_owned(), client: Some(client), ..Default::default() };
        let id = socket.ask(Ask::Connect(connect));
        socket.reply(id).await.context("connect")?;
        socket.ask(Ask::Resume(wire::Resume::default()));
        Ok(socket)
    }

    /// Right after [`Self::connect`]: waits until the server follows what it has to, so that more may be subscribed. Drops what it
    /// pushes meanwhile.
    pub(crate) async fn resumed(&mut self) -> anyhow::Result<()> {
        self.reply(self.last_id).await.context("resume").map(drop)
    }

    /// Puts a command into what is to be written; gives its id.
    pub(crate) fn ask(&mut self, kind: Ask) -> u64 {
        self.last_id += 1;
        let mut message = BytesMut::new();
        Codec::Proto.write_client(&wire::ClientFrame { id: self.last_id, kind: Some(kind) }, &mut message);
        framing::write_data(Codec::Proto, &message, &mut self.out);
        self.last_id
    }

    /// Writes what is to be written, waits for something, and gives each frame that is whole. Answers pings. Reads while
    /// it can't write, so that neither side waits for the other. An end of the connection is an error. May be dropped
    /// while it waits.
    pub(crate) async fn read(&mut self, mut each: impl FnMut(wire::ServerFrame)) -> anyhow::Result<()> {
        self.write()?;
        let waiting = if self.out.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        if self.stream.ready(waiting).await?.is_readable() {
            self.take(&mut each)?;
        }
        self.write()
    }

    /// The reply to a command, everything else dropped. A refusal is an error.
    pub(crate) async fn reply(&mut self, id: u64) -> anyhow::Result<Push> {
        match self.answer(id).await? {
            Push::Error(error) => bail!("{}: {}", error.name, error.message),
            reply => Ok(reply),
        }
    }

    /// The reply to a command or its refusal, everything else dropped.
    pub(crate) async fn answer(&mut self, id: u64) -> anyhow::Result<Push> {
        let mut reply = None;
        while reply.is_none() {
            self.read(|frame| {
                if frame.id == Some(id) {
                    reply = frame.kind;
                }
            })
            .await?;
        }
        reply.context("no reply")
    }

    fn write(&mut self) -> anyhow::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) if written == self.out.len() => self.out = Vec::new(),
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, each: &mut impl FnMut(wire::ServerFrame)) -> anyhow::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => bail!("the connection ended"),
            Ok(read) => {
                let out = &mut self.out;
                self.inbox.take(&buffer[..read], |message| deliver(message, out, each))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn deliver(message: Message<'_>, out: &mut Vec<u8>, each: &mut impl FnMut(wire::ServerFrame)) -> anyhow::Result<()> {
    match message {
        Message::Data(bytes) => Codec::Proto.read_server(bytes)?.into_iter().for_each(each),
        Message::Ping(payload) => framing::write_pong(payload, out),
        Message::Close(code, _) => bail!("closed by the server ({code})"),
        Message::Other => {}
    }
    Ok(())
}

/// The HTTP upgrade. The server says nothing after it before it is spoken to.
async fn upgrade(stream: &mut TcpStream, authority: &str) -> anyhow::Result<()> {
    let request = format!(
        "GET /v1/connect HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Ym93bGluZS1sb2FkdGVzdA==\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        Codec::Proto.subprotocol()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        ensure!(answer.len() < HANDSHAKE_BYTES, "the answer to the upgrade is too long");
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended in the upgrade");
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 101"), "upgrade refused: {}", head.lines().next().unwrap_or_default());
    ensure!(head.contains(Codec::Proto.subprotocol()), "the server did not choose {}", Codec::Proto.subprotocol());
    Ok(())
}
