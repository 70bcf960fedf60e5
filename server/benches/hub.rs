//! What only the hub alone can show, without sessions, a database and a protocol: memory a socket, and the cost of what it does
//! beside plain fan-out. The readers are a process of their own. How the whole server does beside a bare writer is
//! `cargo xtask bench-hub`.
//!
//! `cargo bench -p bowline --bench hub [-- ROUNDS SECONDS [memory|more]]`

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline::tail::MemoryLog;
use bowline::telemetry::Metrics;
use bowline::wire::{Config, Shards};
use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::{self, Message};
use bowline_protocol::{ClientId, Codec, LogId, Seq, UserId};
use bytes::Bytes;
use tokio::runtime::Runtime;

#[path = "hub/follower.rs"]
mod follower;
#[path = "hub/more.rs"]
mod more;
#[path = "hub/readers.rs"]
mod readers;
#[path = "../tests/support/upgrade.rs"]
mod upgrade;

use follower::{Follower, Place, Shared};
use readers::Readers;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SOCKETS: usize = 1_000;
const IDLE_SOCKETS: usize = 8_000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().filter(|arg| arg != "--bench").collect();
    if args.get(1).is_some_and(|arg| arg == "read") {
        return readers::run(args[2].parse()?, args[3].parse()?);
    }
    let number = |at: usize, default: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let (rounds, time) = (number(1, 5), Duration::from_secs(number(2, 3)));
    let only = args.get(3).map_or("", String::as_str);
    let runtime = Runtime::new()?;
    if matches!(only, "" | "memory") {
        memory(&runtime)?;
    }
    if matches!(only, "" | "more") {
        more::all(&runtime, rounds, time)?;
    }
    Ok(())
}

/// What a socket adds that follows its own log and five of 1,000 others.
fn memory(runtime: &Runtime) -> anyhow::Result<()> {
    let logs: Vec<LogId> = (0..1_000).map(|_| LogId::new()).collect();
    let before = anonymous_bytes()?;
    let hub = Hub::start(runtime, Config::default(), MemoryLog::default(), IDLE_SOCKETS, |socket| {
        let others = (0..5).map(|i| logs[(socket + i * 251) % logs.len()]);
        others.chain([LogId::new()]).map(Place::live).collect()
    })?;
    hub.readers.count()?;
    // What the handshakes freed goes back to the system within a second, as the server's allocator is set.
    std::thread::sleep(Duration::from_secs(3));
    let each = (anonymous_bytes()? - before) / IDLE_SOCKETS as u64;
    println!(
        "{IDLE_SOCKETS} sockets, each following its own log and 5 of 1,000: {each} B of anonymous memory a socket"
    );
    hub.shards.stop();
    Ok(())
}

/// A hub with its readers.
struct Hub {
    shards: Shards<Follower>,
    readers: Readers,
    shared: Arc<Shared>,
}

impl Hub {
    fn start(
        runtime: &Runtime,
        config: Config,
        source: MemoryLog,
        sockets: usize,
        followed: impl Fn(usize) -> Vec<Place>,
    ) -> anyhow::Result<Self> {
        let most_waiting = config.inbox_sockets / 2;
        let shared = Arc::new(Shared::default());
        let app = |_: &Shards<Follower>| Follower(Arc::clone(&shared));
        let shards = Shards::start(config, source, runtime.handle(), &Metrics::default(), app)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let readers = Readers::start(listener.local_addr()?, sockets)?;
        for socket in 0..sockets {
            let (stream, read) = accept(&listener)?;
            shards.adopt(stream, read, Codec::Proto, followed(socket))?;
            let least = if socket + 1 == sockets { sockets } else { socket.saturating_sub(most_waiting) };
            while shards.sockets() < least {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(Self { shards, readers, shared })
    }
}

fn accept(listener: &TcpListener) -> anyhow::Result<(TcpStream, Bytes)> {
    let (mut stream, _) = listener.accept()?;
    let read = upgrade::accept(&mut stream)?.read;
    Ok((stream, read))
}

/// A message with a body of 128 bytes.
fn entry(seq: Seq) -> wire::Entry {
    let message = Message { body: Some("x".repeat(128)), ..Default::default() };
    wire::Entry {
        seq,
        message_no: seq,
        version: seq,
        sender_id: UserId::new().to_wire(),
        client_id: ClientId::new().to_wire(),
        content: Some(Content::Message(message)),
        ..Default::default()
    }
}

/// Calls `send` at an even rate; returns how often.
fn paced(rate: u32, time: Duration, mut send: impl FnMut(u64)) -> u64 {
    let start = Instant::now();
    let every = Duration::from_secs(1) / rate;
    let calls = (time.as_secs_f64() * f64::from(rate)) as u64;
    for n in 0..calls {
        let due = start + every * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(n);
    }
    calls
}

/// What the threads of this process whose names begin so have spent on a CPU.
fn cpu_time(name: &str) -> anyhow::Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
            let spent = std::fs::read_to_string(task.join("schedstat"))?;
            sum += spent.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
        }
    }
    anyhow::ensure!(sum > 0, "no thread {name}");
    Ok(Duration::from_nanos(sum))
}

fn anonymous_bytes() -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap_or("");
    Ok(line.split_whitespace().nth(1).unwrap_or("0").parse::<u64>()? * 1024)
}

/// This program again, as the process of the readers.
fn reader_process() -> std::io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}
