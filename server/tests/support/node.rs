//! Shards with a small protocol of their own, on a listener of this machine.
//!
//! A message that begins with `!` is an order to the test's application, every other one is echoed.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline::tail::{MemoryLog, PageRead, PageSource, Span, Spans};
use bowline::telemetry::Metrics;
use bowline::wire::{Address, Application, Config, Follow, Io, Shards};
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::wire::{self, CaughtUp, Drain, Message, Notice, ServerFrame};
use bowline_protocol::{ClientId, Close, Code, Codec, Failure, LogId, Seq, UserId};
use tokio::runtime::Handle;

use super::upgrade;

pub struct Node {
    pub shards: Shards<App>,
    pub log: MemoryLog,
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    pub metrics: Metrics,
    /// Reads of pages that fail before the next one succeeds, and how many were made.
    pub source: Source,
}

/// What the application saw.
#[derive(Default)]
pub struct Seen {
    work: Mutex<Vec<(Address, String)>>,
    passed: Mutex<Vec<(UserId, Seq)>>,
    foreseen: Mutex<Vec<(UserId, Seq)>>,
    closed: AtomicUsize,
    heard: AtomicUsize,
}

#[derive(Clone, Default)]
pub struct Source {
    log: MemoryLog,
    failures: Arc<AtomicUsize>,
    reads: Arc<Mutex<HashMap<LogId, usize>>>,
}

impl Node {
    pub fn start(config: Config) -> Self {
        let log = MemoryLog::default();
        let source = Source { log: log.clone(), ..Source::default() };
        let seen = Arc::new(Seen::default());
        let metrics = Metrics::default();
        let app = App { seen: Arc::clone(&seen), log: log.clone() };
        let shards = Shards::start(config, source.clone(), &Handle::current(), &metrics, |_| app.clone());
        let shards = shards.expect("shards start");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let doors = shards.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Ok(upgraded) = upgrade::accept(&mut stream) else { continue };
                let codec = Codec::negotiate(upgraded.protocol.as_deref().unwrap_or("")).unwrap_or(Codec::Proto);
                let user = upgraded.path[1..].parse().unwrap_or_else(|_| UserId::new());
                // Refused ones see their connection end.
                drop(doors.adopt(stream, upgraded.read, codec, user));
            }
        });
        Self { shards, log, address, seen, metrics, source }
    }

    /// Stores a message and publishes it.
    pub fn send(&self, log: LogId, body: impl Into<String>) -> Seq {
        let entry = self.store(log, body);
        self.shards.publish(log, std::slice::from_ref(&entry));
        entry.seq
    }

    /// Stores a message of which the node does not hear.
    pub fn store(&self, log: LogId, body: impl Into<String>) -> wire::Entry {
        let message = Message { body: Some(body.into()), ..Default::default() };
        self.log.append(log, entry(wire::entry::Content::Message(message)))
    }

    /// A metric as it is now.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("bowline_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name}:\n{text}")).parse().expect("a number")
    }

    pub fn fail_reads(&self, n: usize) {
        self.source.failures.store(n, Ordering::SeqCst);
    }

    /// Statements that read any log.
    pub fn all_reads(&self) -> usize {
        self.source.reads.lock().expect("not poisoned").values().sum()
    }

    /// Statements that read a log.
    pub fn reads(&self, log: LogId) -> usize {
        self.source.reads.lock().expect("not poisoned").get(&log).copied().unwrap_or(0)
    }

    /// Ends the first piece of work that waits, if one does.
    pub fn finish_work(&self) -> bool {
        let next = {
            let mut work = self.seen.work.lock().expect("not poisoned");
            (!work.is_empty()).then(|| work.remove(0))
        };
        next.map(|(address, done)| self.shards.complete(address, done)).is_some()
    }

    pub fn open_work(&self) -> usize {
        self.seen.work.lock().expect("not poisoned").len()
    }

    pub fn passed(&self, user: UserId) -> Vec<Seq> {
        let passed = self.seen.passed.lock().expect("not poisoned");
        passed.iter().filter(|(who, _)| *who == user).map(|(_, seq)| *seq).collect()
    }

    pub fn foreseen(&self, user: UserId) -> Vec<Seq> {
        let foreseen = self.seen.foreseen.lock().expect("not poisoned");
        foreseen.iter().filter(|(who, _)| *who == user).map(|(_, seq)| *seq).collect()
    }

    pub fn closed(&self) -> usize {
        self.seen.closed.load(Ordering::SeqCst)
    }

    /// Messages that reached the application.
    pub fn heard(&self) -> usize {
        self.seen.heard.load(Ordering::SeqCst)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shards.stop();
    }
}

/// An entry of a log, without a seq.
pub fn entry(content: wire::entry::Content) -> wire::Entry {
    wire::Entry {
        sender_id: UserId::new().to_wire(),
        client_id: ClientId::new().to_wire(),
        content: Some(content),
        ..Default::default()
    }
}

/// Waits until something holds; fails when it does not within half a minute.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl PageSource for Source {
    async fn read_pages(&self, log: LogId, pages: &[u64]) -> Result<PageRead, Failure> {
        let fails = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(Failure::new(Code::Unavailable));
        }
        *self.reads.lock().expect("not poisoned").entry(log).or_default() += 1;
        Ok(self.log.read(log, pages))
    }
}

#[derive(Clone)]
pub struct App {
    seen: Arc<Seen>,
    log: MemoryLog,
}

impl App {
    fn order(&self, order: &str, io: &mut Io<'_>) {
        let words: Vec<&str> = order.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let log = || words.get(1).and_then(|word| word.parse::<LogId>().ok()).expect("a log");
        match words[0] {
            // !follow LOG FROM [AS_OF VISIBLE_FROM LEFT]
            "!follow" | "!watch" => {
                let as_of_seq = number(3).unwrap_or_else(|| self.log.read(log(), &[]).as_of_seq);
                let span = Span { visible_from: number(4).unwrap_or(1), left_seq: number(5) };
                let follow = Follow {
                    from: number(2).unwrap_or(as_of_seq),
                    as_of_seq,
                    read_at: Instant::now() - Duration::from_secs(1),
                    spans: Spans::new([span]),
                    watch: words[0] == "!watch",
                    announce: true,
                };
                io.follow(log(), follow);
            }
            "!unfollow" => io.unfollow(log()),
            // Each is answered with where the socket stands in the topic then.
            "!subscribe" | "!unsubscribe" | "!again" | "!topic" => {
                let topic = words[1];
                match words[0] {
                    "!subscribe" => drop(io.subscribe(topic)),
                    "!unsubscribe" => io.unsubscribe(topic),
                    "!again" => {
                        io.unsubscribe(topic);
                        io.subscribe(topic);
                        io.unsubscribe(topic);
                        io.subscribe(topic);
                    }
                    _ => {}
                }
                let seq = io.topic(topic);
                io.send(&notice(format!("{seq:?}")));
            }
            "!cursor" => {
                let seq = io.cursor(log());
                io.send(&notice(format!("{seq:?}")));
            }
            "!work" => {
                io.command_opened();
                self.seen.work.lock().expect("not poisoned").push((io.address(), words[1].to_owned()));
            }
            "!big" => {
                let text = "x".repeat(number(1).unwrap_or(0) as usize);
                (0..number(2).unwrap_or(1)).for_each(|_| io.send(&notice(text.clone())));
            }
            "!taken" => io.call_when_taken(),
            "!limit" => io.set_message_bytes(number(1).unwrap_or(0) as usize),
            "!close" => io.close(Close::Revoked),
            other => panic!("no such order: {other}"),
        }
    }
}

pub fn notice(text: impl Into<String>) -> ServerFrame {
    ServerFrame { id: None, kind: Some(Kind::Notice(Notice { text: text.into() })) }
}

impl Application for App {
    type Slot = UserId;
    type Ticket = UserId;
    type Done = String;

    fn open(&mut self, user: UserId, io: &mut Io<'_>) -> UserId {
        io.identify(user);
        user
    }

    fn message(&mut self, _: &mut UserId, text: bool, payload: &[u8], io: &mut Io<'_>) {
        self.seen.heard.fetch_add(1, Ordering::SeqCst);
        match payload {
            [b'!', ..] => self.order(std::str::from_utf8(payload).expect("an order"), io),
            _ => io.send_raw(text, payload),
        }
    }

    fn done(&mut self, _: &mut UserId, done: String, io: &mut Io<'_>) {
        io.command_answered();
        io.send(&notice(done));
    }

    fn passed(&mut self, user: &mut UserId, _: LogId, entry: &wire::Entry, _: &mut Io<'_>) {
        self.seen.passed.lock().expect("not poisoned").push((*user, entry.seq));
    }

    fn foreseen(&mut self, user: &mut UserId, _: LogId, entry: &wire::Entry, _: &mut Io<'_>) {
        self.seen.foreseen.lock().expect("not poisoned").push((*user, entry.seq));
    }

    fn level(&mut self, _: &mut UserId, log: LogId, seq: Seq, ended: bool, io: &mut Io<'_>) {
        let caught_up = CaughtUp { log_id: log.to_wire(), seq, read_seq: u64::from(ended), unread: 0 };
        io.send(&ServerFrame { id: None, kind: Some(Kind::CaughtUp(caught_up)) });
    }

    fn taken(&mut self, _: &mut UserId, io: &mut Io<'_>) {
        io.send(&notice("taken"));
    }

    fn sweep(&mut self, _: &mut UserId, _: Instant, _: &mut Io<'_>) {}

    fn drain(&mut self, _: &mut UserId, reconnect_after: Duration, io: &mut Io<'_>) {
        let drain = Drain { reconnect_after_ms: reconnect_after.as_millis() as u64, ticket: None };
        io.send(&ServerFrame { id: None, kind: Some(Kind::Drain(drain)) });
    }

    fn closed(&mut self, _: UserId) {
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
    }
}
