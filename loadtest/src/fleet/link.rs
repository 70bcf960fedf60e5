//! One connection to a server, from the dialling on: TCP, the upgrade, messages. It waits for nothing; the engine tells it
//! when there may be something to do.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::{Codec, wire};
use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::frame::{self, Frame};
use super::framing::{self, Inbox, Message};
use super::order::Server;

#[derive(Default)]
pub(crate) struct Link {
    stream: Option<TcpStream>,
    stage: Stage,
    inbox: Inbox,
    out: Out,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Away,
    Dialling,
    Upgrading,
    Open,
}

/// What is to be written; without memory while nothing is.
#[derive(Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    last_id: u32,
}

pub(crate) enum Heard<'a> {
    /// Frames may be sent.
    Upgraded,
    Frame(Frame<'a>),
}

/// Why a connection is over.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) why: String,
    /// When the server said to come back.
    pub(crate) retry_after: Option<Duration>,
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self { why: format!("{error:#}"), retry_after: None }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self { why: error.to_string(), retry_after: None }
    }
}

/// Reads of one socket in a row.
const READS: usize = 32;
const HANDSHAKE_BYTES: usize = 8 * 1024;

impl Link {
    /// Begins to connect. `source` spreads many sockets over addresses of this machine, whose ports are few.
    pub(crate) fn dial(
        server: &Server,
        source: Option<Ipv4Addr>,
        receive_buffer: Option<u32>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server.address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        if let Some(source) = source {
            // The port is chosen when the whole connection is known: that of another server may be the same.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::V4(SocketAddrV4::new(source, 0)).into())?;
        }
        match socket.connect(&server.address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream: Some(stream), stage: Stage::Dialling, ..Self::default() })
    }

    pub(crate) fn is_away(&self) -> bool {
        self.stage == Stage::Away
    }

    /// The connection ends as if the machine had gone: a reset, no goodbye.
    pub(crate) fn reset(&mut self) {
        if let Some(stream) = &self.stream {
            // One that is gone already needs no reset.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        *self = Self::default();
    }

    pub(crate) fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Does what can be done: reads what is there, gives each frame, and writes. Whether more may be there to be read.
    pub(crate) fn turn(
        &mut self,
        (codec, authority): (Codec, &str),
        // Its end is there already, behind what may still be read.
        closed: bool,
        buffer: &mut [u8],
        mut each: impl FnMut(Heard<'_>, &mut Out) -> Result<(), End>,
    ) -> Result<bool, End> {
        if self.stage == Stage::Dialling && !self.dialled(codec, authority)? {
            return Ok(false);
        }
        self.write()?;
        let mut reads = 0;
        while reads < READS {
            reads += 1;
            let Some(stream) = &mut self.stream else { return Ok(false) };
            match stream.read(buffer) {
                Ok(0) => return Err(anyhow::anyhow!("the connection ended").into()),
                Ok(read) => {
                    self.take(codec, &buffer[..read], &mut each)?;
                    if read < buffer.len() && !closed {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.write()?;
        Ok(reads == READS)
    }

    /// Writes what can be written; whether that was all.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.stage != Stage::Dialling) else { return Ok(true) };
        while !self.out.bytes.is_empty() {
            match stream.write(&self.out.bytes) {
                Ok(written) if written == self.out.bytes.len() => self.out.bytes = Vec::new(),
                Ok(written) => drop(self.out.bytes.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn dialled(&mut self, codec: Codec, authority: &str) -> Result<bool, End> {
        let Some(stream) = &self.stream else { return Ok(false) };
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        match stream.peer_addr() {
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            other => other?,
        };
        self.stage = Stage::Upgrading;
        self.out.bytes = format!(
            "GET /v1/connect HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Ym93bGluZS1sb2FkdGVzdA==\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\n",
            codec.subprotocol()
        )
        .into_bytes();
        Ok(true)
    }

    fn take(
        &mut self,
        codec: Codec,
        mut bytes: &[u8],
        each: &mut impl FnMut(Heard<'_>, &mut Out) -> Result<(), End>,
    ) -> Result<(), End> {
        if self.stage == Stage::Upgrading {
            let Some(rest) = upgraded(&mut self.inbox, codec, bytes)? else { return Ok(()) };
            self.stage = Stage::Open;
            each(Heard::Upgraded, &mut self.out)?;
            bytes = &bytes[bytes.len() - rest..];
        }
        let (out, mut end) = (&mut self.out, None);
        let taken = self.inbox.take(bytes, |message| {
            match message {
                Message::Data(message) => {
                    return frame::read(codec, message, |frame| {
                        each(Heard::Frame(frame), out).map_err(|said| {
                            let why = anyhow::anyhow!("{}", said.why);
                            end = Some(said);
                            why
                        })
                    });
                }
                Message::Ping(payload) => framing::write_pong(payload, out.bytes.as_mut()),
                Message::Close(code, reason) => {
                    let why = format!("closed by the server: {code} {}", String::from_utf8_lossy(reason));
                    end = Some(End { retry_after: retry_after(reason), why });
                    anyhow::bail!("closed");
                }
                Message::Other => {}
            }
            Ok(())
        });
        match (taken, end) {
            (Err(_), Some(end)) => Err(end),
            (taken, _) => Ok(taken?),
        }
    }
}

/// Puts the answer to the upgrade together; how many of the bytes stand behind it, once it is whole.
fn upgraded(inbox: &mut Inbox, codec: Codec, bytes: &[u8]) -> Result<Option<usize>, End> {
    let head = inbox.gather(bytes);
    let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
        return match head.len() {
            ..HANDSHAKE_BYTES => Ok(None),
            _ => Err(anyhow::anyhow!("the answer to the upgrade is too long").into()),
        };
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    if !text.starts_with("http/1.1 101") {
        let why = format!("upgrade refused: {}", text.lines().next().unwrap_or_default());
        let in_header = || {
            let seconds = text.lines().find_map(|line| line.strip_prefix("retry-after:"))?;
            seconds.trim().parse().ok().map(Duration::from_secs)
        };
        return Err(End { why, retry_after: retry_after(&head[end..]).or_else(in_header) });
    }
    if !text.contains(codec.subprotocol()) {
        return Err(anyhow::anyhow!("the server did not choose {}", codec.subprotocol()).into());
    }
    let rest = head.len() - end;
    inbox.clear();
    Ok(Some(rest))
}

/// The first number behind this name in an answer's body or a close reason.
fn retry_after(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, behind) = text.split_once("retry_after_ms")?;
    let digits = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().map(Duration::from_millis)
}

impl Out {
    /// Puts a command into what is to be written; gives its id.
    pub(crate) fn ask(&mut self, codec: Codec, kind: Ask) -> u64 {
        self.last_id += 1;
        let id = u64::from(self.last_id);
        let mut message = BytesMut::new();
        codec.write_client(&wire::ClientFrame { id, kind: Some(kind) }, &mut message);
        framing::write_data(codec, &message, &mut self.bytes);
        id
    }

    /// A pong that nobody asked for: a sign of life that asks for no answer.
    pub(crate) fn sign_of_life(&mut self) {
        framing::write_pong(&[], &mut self.bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_read_wherever_it_stands() {
        let refused = |text: &str| {
            let end = upgraded(&mut Inbox::default(), Codec::Proto, text.as_bytes()).expect_err("refused");
            end.retry_after.map(|after| after.as_millis())
        };
        assert_eq!(refused("HTTP/1.1 503 x\r\nRetry-After: 2\r\n\r\n"), Some(2_000));
        assert_eq!(refused("HTTP/1.1 503 x\r\nretry-after: 1\r\n\r\n{\"error\":{\"retry_after_ms\":250}}"), Some(250));
        assert_eq!(refused("HTTP/1.1 401 x\r\n\r\n"), None);
        assert_eq!(retry_after(b"overloaded; retry_after_ms=40"), Some(Duration::from_millis(40)));
    }

    #[test]
    fn frames_right_behind_the_upgrade_are_kept() {
        let mut inbox = Inbox::default();
        let answer = b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: bowline.v1.proto\r\n\r\n\x82\x01x";
        let (first, second) = answer.split_at(20);
        assert_eq!(upgraded(&mut inbox, Codec::Proto, first).ok(), Some(None));
        assert_eq!(upgraded(&mut inbox, Codec::Proto, second).ok(), Some(Some(3)));
    }
}
