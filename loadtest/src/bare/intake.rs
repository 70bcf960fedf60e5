//! The thread that listens: accepts, answers the few commands that a fleet of topics gives, and turns a publish into a frame.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{Codec, wire};
use bytes::{Bytes, BytesMut};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use nix::libc;
use socket2::{Domain, Socket, Type};

use super::writer::{Told, Writer};

struct Client {
    stream: mio::net::TcpStream,
    /// What came and is not whole.
    rest: Vec<u8>,
    upgraded: bool,
    /// Its place among the sockets that are written to.
    reader: Option<usize>,
}

struct Intake {
    writer: Writer,
    readers: usize,
    topics: HashMap<String, Topic>,
}

struct Topic {
    number: usize,
    seq: u64,
}

const LISTENER: Token = Token(usize::MAX);
const BACKLOG: i32 = 1_024;
const READ_BYTES: usize = 64 * 1024;
const MESSAGE_BYTES: usize = 64 * 1024;
/// The answer to the one key that a fleet sends.
const ACCEPT: &str = "v/QZxlumJ2PWxxsGsRrG7ZfNEVY=";

pub(super) fn run() -> anyhow::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let mut listener = TcpListener::from_std(socket.into());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let mut intake = Intake { writer: Writer::start()?, readers: 0, topics: HashMap::new() };
    let mut clients: Vec<Option<Client>> = Vec::new();
    let (mut events, mut buffer) = (Events::with_capacity(1_024), vec![0; READ_BYTES]);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut clients)?;
            } else if let Some(client) = clients[event.token().0].as_mut()
                && client.read(&mut buffer, &mut intake).is_err()
            {
                clients[event.token().0] = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, clients: &mut Vec<Option<Client>>) -> anyhow::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The one who came has gone again.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => bail!("no descriptors are left"),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(clients.len()), Interest::READABLE)?;
        clients.push(Some(Client { stream, rest: Vec::new(), upgraded: false, reader: None }));
    }
}

impl Client {
    /// An error is the end of the connection, its own included.
    fn read(&mut self, buffer: &mut [u8], intake: &mut Intake) -> anyhow::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the connection ended"),
                Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if !self.upgraded {
            let Some(end) = self.rest.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(()) };
            self.rest.drain(..end + 4);
            self.upgraded = true;
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
                Codec::Proto.subprotocol()
            );
            self.stream.write_all(answer.as_bytes())?;
        }
        let mut used = 0;
        while let Some((payload, length)) = first(&self.rest[used..])? {
            used += length;
            for frame in Codec::Proto.read_client(&payload).into_iter().flatten() {
                self.answer(frame, intake)?;
            }
        }
        self.rest.drain(..used);
        Ok(())
    }

    fn answer(&mut self, asked: wire::ClientFrame, intake: &mut Intake) -> anyhow::Result<()> {
        let reply = match asked.kind {
            Some(Ask::Connect(_)) => {
                Push::Connected(wire::Connected { epoch: 1, heartbeat_interval_ms: 3_600_000, ..Default::default() })
            }
            Some(Ask::Resume(_)) => {
                self.write(&wire::ServerFrame { id: None, kind: Some(Push::Heads(wire::Heads::default())) })?;
                Push::Resumed(wire::Resumed { logs: 0 })
            }
            Some(Ask::TopicSubscribe(subscribe)) => {
                let topic = intake.topic(&subscribe.topic);
                let (number, seq) = (topic.number, topic.seq);
                let reader = self.reader(intake)?;
                intake.writer.tell(Told::Follow { topic: number, socket: reader })?;
                Push::TopicSubscribed(wire::TopicSubscribed { topic: subscribe.topic, seq })
            }
            Some(Ask::TopicPublish(publish)) => {
                intake.publish(publish)?;
                Push::Done(wire::Done {})
            }
            _ => return Ok(()),
        };
        self.write(&wire::ServerFrame { id: Some(asked.id), kind: Some(reply) })
    }

    /// From the first topic on, the writer has the socket too.
    fn reader(&mut self, intake: &mut Intake) -> anyhow::Result<usize> {
        if let Some(reader) = self.reader {
            return Ok(reader);
        }
        let twin = socket2::SockRef::from(&self.stream).try_clone()?;
        intake.writer.tell(Told::Socket(twin.into()))?;
        self.reader = Some(intake.readers);
        intake.readers += 1;
        Ok(intake.readers - 1)
    }

    /// Replies are few and small, and the socket is empty when they come: one that does not fit ends the connection.
    fn write(&mut self, frame: &wire::ServerFrame) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&served(frame)?)?)
    }
}

impl Intake {
    fn topic(&mut self, name: &str) -> &mut Topic {
        let number = self.topics.len();
        self.topics.entry(name.to_owned()).or_insert(Topic { number, seq: 0 })
    }

    fn publish(&mut self, publish: wire::TopicPublish) -> anyhow::Result<()> {
        let topic = self.topic(&publish.topic);
        topic.seq += 1;
        let (number, seq) = (topic.number, topic.seq);
        let message = wire::TopicMessage { topic: publish.topic, seq, sender_id: vec![7; 16], body: publish.body };
        let frame = served(&wire::ServerFrame { id: None, kind: Some(Push::TopicMessage(message)) })?;
        self.writer.tell(Told::Frame { topic: number, frame })
    }
}

/// As one WebSocket message, not masked.
fn served(frame: &wire::ServerFrame) -> anyhow::Result<Bytes> {
    let mut payload = BytesMut::new();
    Codec::Proto.write(frame, &mut payload);
    let mut message = vec![0x82];
    match payload.len() {
        length @ ..126 => message.push(length as u8),
        length => {
            message.push(126);
            message.extend_from_slice(&u16::try_from(length).context("too long a frame")?.to_be_bytes());
        }
    }
    message.extend_from_slice(&payload);
    Ok(message.into())
}

/// The payload of the first message, and how many bytes it took; control frames have an empty one.
fn first(bytes: &[u8]) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    let [start, second, ..] = *bytes else { return Ok(None) };
    ensure!(start & 0x80 != 0 && second & 0x80 != 0, "whole and masked frames only");
    let (length, header) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(b) => (usize::from(u16::from_be_bytes([b[0], b[1]])), 4),
            None => return Ok(None),
        },
        127 => bail!("too long a frame"),
        short => (usize::from(short), 2),
    };
    ensure!(length <= MESSAGE_BYTES, "too long a frame");
    let end = header + 4 + length;
    let Some(masked) = bytes.get(header..end) else { return Ok(None) };
    let (mask, payload) = masked.split_at(4);
    let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some((if start & 0x0f == 2 { unmasked } else { Vec::new() }, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_message_is_read_whole_or_not_at_all() {
        let message = [0x82, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3, 0x82];
        for cut in 0..9 {
            assert_eq!(first(&message[..cut]).expect("no error"), None, "{cut}");
        }
        assert_eq!(first(&message).expect("valid"), Some((b"abc".to_vec(), 9)));
        assert!(first(&[0x82, 0x03, 1]).is_err(), "a client masks");
        assert_eq!(first(&[0x8a, 0x80, 0, 0, 0, 0]).expect("valid"), Some((Vec::new(), 6)));
    }
}
