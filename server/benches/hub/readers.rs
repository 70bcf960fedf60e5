//! The readers: a process that holds sockets and counts the frames that come.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use super::reader_process;

pub(crate) struct Readers {
    child: Mutex<Child>,
    answers: Mutex<BufReader<std::process::ChildStdout>>,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Readers {
    pub(crate) fn start(address: SocketAddr, sockets: usize) -> anyhow::Result<Self> {
        let mut command = reader_process()?;
        command.args(["read".to_owned(), address.to_string(), sockets.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no answers"))?;
        Ok(Self { child: child.into(), answers: BufReader::new(answers).into() })
    }

    /// Frames that have come.
    pub(crate) fn count(&self) -> anyhow::Result<u64> {
        Ok(self.ask("count")?.parse()?)
    }

    /// Each sends a message of 1 KiB in this many frames, and so many of them.
    pub(crate) fn send(&self, messages: usize, frames: usize) -> anyhow::Result<()> {
        self.ask(&format!("send {messages} {frames}")).map(drop)
    }

    fn ask(&self, what: &str) -> anyhow::Result<String> {
        let mut child = self.child.lock().expect("one thread");
        let input = child.stdin.as_mut().ok_or_else(|| anyhow::anyhow!("no readers"))?;
        writeln!(input, "{what}")?;
        let mut line = String::new();
        self.answers.lock().expect("one thread").read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Waits until exactly this many have come.
    pub(crate) fn wait_for(&self, count: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.count()? < count {
            anyhow::ensure!(start.elapsed() < PATIENCE, "{} of {count} frames came", self.count()?);
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::ensure!(self.count()? == count, "more frames came than were sent");
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut child = self.child.lock().expect("one thread");
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

const WAKE: Token = Token(usize::MAX);

struct Reader {
    stream: mio::net::TcpStream,
    header: Vec<u8>,
    payload_left: usize,
}

/// The readers' process: connects, then reads until its input ends.
pub(crate) fn run(address: SocketAddr, sockets: usize) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let mut readers = Vec::new();
    for i in 0..sockets {
        let mut stream = mio::net::TcpStream::from_std(connect(address)?);
        poll.registry().register(&mut stream, Token(i), Interest::READABLE)?;
        readers.push(Reader { stream, header: Vec::new(), payload_left: 0 });
    }
    let (lines, asked) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = lines.send(line);
            let _ = waker.wake();
        }
        std::process::exit(0);
    });
    let mut frames = 0;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in events.iter().filter(|event| event.token() != WAKE) {
            frames += readers[event.token().0].read(&mut buffer);
        }
        while let Ok(line) = asked.try_recv() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["count"] => println!("{frames}"),
                ["send", messages, pieces] => {
                    let message = message(pieces.parse()?);
                    for _ in 0..messages.parse()? {
                        readers.iter_mut().for_each(|reader| reader.write(&message));
                    }
                    println!();
                }
                _ => anyhow::bail!("{line} is not known"),
            }
        }
    }
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A binary message of 1 KiB in masked frames; the mask is zero.
fn message(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in 0..frames {
        let opcode = if frame == 0 { 2 } else { 0 };
        let last = if frame + 1 == frames { 0x80 } else { 0 };
        let length = 1024 / frames;
        bytes.extend([opcode | last, 0x80 | 126, (length >> 8) as u8, length as u8, 0, 0, 0, 0]);
        bytes.resize(bytes.len() + length, 0);
    }
    bytes
}

impl Reader {
    /// Reads what is there, and answers pings; how many data frames began.
    fn read(&mut self, buffer: &mut [u8]) -> u64 {
        let mut frames = 0;
        while let Ok(n @ 1..) = self.stream.read(buffer) {
            let mut bytes = &buffer[..n];
            while !bytes.is_empty() {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                let Some((byte, rest)) = bytes.split_first() else { break };
                self.header.push(*byte);
                bytes = rest;
                let payload = match *self.header {
                    [_, length] if length < 126 => usize::from(length),
                    [_, 126, high, low] => usize::from(u16::from_be_bytes([high, low])),
                    _ => continue,
                };
                match self.header[0] {
                    0x82 => frames += 1,
                    0x89 => self.write(&[0x8a, 0x80, 0, 0, 0, 0]),
                    _ => {}
                }
                self.payload_left = payload;
                self.header.clear();
            }
        }
        frames
    }

    /// Writes all of it, however long that takes.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
    }
}
