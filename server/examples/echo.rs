//! An echo on the server's own sockets, for the Autobahn cases: `echo 127.0.0.1:29900`.
//!
//! Its limits are raised to what the cases send (16 MiB); everything else is as the server has it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bowline::tail::MemoryLog;
use bowline::telemetry::Metrics;
use bowline::wire::{Application, Config, Io, Shards};
use bowline_protocol::{Codec, LogId, Seq, wire};

#[path = "../tests/support/upgrade.rs"]
mod upgrade;

struct Echo;

impl Application for Echo {
    type Slot = ();
    type Ticket = ();
    type Done = ();

    fn open(&mut self, (): (), _: &mut Io<'_>) {}

    fn message(&mut self, (): &mut (), text: bool, payload: &[u8], io: &mut Io<'_>) {
        io.send_raw(text, payload);
    }

    fn done(&mut self, (): &mut (), (): (), _: &mut Io<'_>) {}
    fn passed(&mut self, (): &mut (), _: LogId, _: &wire::Entry, _: &mut Io<'_>) {}
    fn foreseen(&mut self, (): &mut (), _: LogId, _: &wire::Entry, _: &mut Io<'_>) {}

    fn level(&mut self, (): &mut (), _: LogId, _: Seq, _: bool, _: &mut Io<'_>) {}
    fn taken(&mut self, (): &mut (), _: &mut Io<'_>) {}
    fn sweep(&mut self, (): &mut (), _: Instant, _: &mut Io<'_>) {}
    fn drain(&mut self, (): &mut (), _: Duration, _: &mut Io<'_>) {}
    fn closed(&mut self, (): ()) {}
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let most = 64 << 20;
    let config = Config { message_bytes: most, unsent_max_bytes: most, ..Config::default() };
    let shards = Shards::start(config, MemoryLog::default(), runtime.handle(), &Metrics::default(), |_| Echo)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        match upgrade::accept(&mut stream) {
            Ok(upgraded) => shards.adopt(stream, upgraded.read, Codec::Proto, ())?,
            Err(error) => eprintln!("not a WebSocket: {error}"),
        }
    }
    Ok(())
}
