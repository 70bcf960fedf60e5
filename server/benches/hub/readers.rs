//! The readers: a process that holds sockets, counts the frames that come and times them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use super::reader_process;

pub(crate) struct Readers {
    child: Mutex<Child>,
    answers: Mutex<BufReader<std::process::ChildStdout>>,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Readers {
    /// The first `small` of the sockets have receive buffers of 4 KiB.
    pub(crate) fn start(address: SocketAddr, sockets: usize, small: usize) -> anyhow::Result<Self> {
        let mut command = reader_process()?;
        command.args(["read".to_owned(), address.to_string(), sockets.to_string(), small.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no answers"))?;
        Ok(Self { child: child.into(), answers: BufReader::new(answers).into() })
    }

    /// Frames that have come.
    pub(crate) fn count(&self) -> anyhow::Result<u64> {
        Ok(self.ask("count")?.parse()?)
    }

    /// How long messages took, since this was last asked, to those with large buffers.
    pub(crate) fn times(&self) -> anyhow::Result<String> {
        self.ask("times")
    }

    /// Those with small buffers stop reading.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.ask("stop").map(drop)
    }

    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        self.ask("go").map(drop)
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

/// Marks, in a body, the time of sending that follows it.
pub(crate) const STAMP: &[u8; 2] = b"@t";
pub(crate) const STAMP_DIGITS: usize = 16;
const SMALL_BUFFER_BYTES: usize = 4 << 10;
const WAKE: Token = Token(usize::MAX);

struct Reader {
    stream: mio::net::TcpStream,
    header: Vec<u8>,
    payload_left: usize,
}

/// What the readers have seen.
struct Seen {
    frames: u64,
    times: Times,
}

/// A histogram in steps of 20 µs.
struct Times(Vec<u64>);

const STEP_US: usize = 20;
const STEPS: usize = 250_000;

/// The readers' process: connects, then reads until its input ends.
pub(crate) fn run(address: SocketAddr, sockets: usize, small: usize) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let mut readers = Vec::new();
    for i in 0..sockets {
        let mut stream = mio::net::TcpStream::from_std(connect(address, i < small)?);
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
    let mut seen = Seen { frames: 0, times: Times(vec![0; STEPS]) };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    let mut stopped = false;
    loop {
        poll.poll(&mut events, None)?;
        for event in events.iter().filter(|event| event.token() != WAKE) {
            let i = event.token().0;
            if i >= small || !stopped {
                readers[i].read(&mut buffer, &mut seen, i >= small);
            }
        }
        while let Ok(line) = asked.try_recv() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["count"] => println!("{}", seen.frames),
                ["times"] => println!("{}", seen.times.take()),
                ["stop"] => {
                    stopped = true;
                    println!();
                }
                ["go"] => {
                    stopped = false;
                    readers[..small].iter_mut().for_each(|reader| reader.read(&mut buffer, &mut seen, false));
                    println!();
                }
                ["send", messages, frames] => {
                    let message = message(frames.parse()?);
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

fn connect(address: SocketAddr, small: bool) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if small {
        socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
    }
    socket.connect(&address.into())?;
    let mut stream: TcpStream = socket.into();
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
    /// Reads what is there; counts data frames as they begin, and answers pings.
    fn read(&mut self, buffer: &mut [u8], seen: &mut Seen, timed: bool) {
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
                    0x82 => {
                        seen.frames += 1;
                        if let Some(payload) = bytes.get(..payload).filter(|_| timed) {
                            seen.times.note(payload);
                        }
                    }
                    0x89 => self.write(&[0x8a, 0x80, 0, 0, 0, 0]),
                    _ => {}
                }
                self.payload_left = payload;
                self.header.clear();
            }
        }
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

impl Times {
    fn note(&mut self, payload: &[u8]) {
        let Some(at) = payload.windows(STAMP.len()).position(|bytes| bytes == STAMP) else { return };
        let digits = payload.get(at + STAMP.len()..).and_then(|rest| rest.get(..STAMP_DIGITS));
        let Some(sent) = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()) else { return };
        let step = (now_us().saturating_sub(sent) as usize / STEP_US).min(STEPS - 1);
        self.0[step] += 1;
    }

    fn take(&mut self) -> String {
        let all: u64 = self.0.iter().sum();
        let below = |share: f64| {
            let mut left = (all as f64 * share).ceil() as u64;
            let step = self.0.iter().position(|n| {
                left = left.saturating_sub(*n);
                left == 0
            });
            (step.unwrap_or(0) + 1) as f64 * STEP_US as f64 / 1000.0
        };
        let text = format!("p50 {:.2}, p99 {:.2}, max {:.2} ms", below(0.5), below(0.99), below(1.0));
        self.0.fill(0);
        text
    }
}

/// Of the clock that both processes share.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
