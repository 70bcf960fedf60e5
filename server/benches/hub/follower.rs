//! The smallest application: sockets that follow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline::tail::Spans;
use bowline::wire::{Address, Application, Follow, Io};
use bowline_protocol::{LogId, Seq, wire};

/// Follows what its ticket says, from the first entry on.
pub(crate) struct Follower(pub(crate) Arc<Shared>);

/// What the sockets tell the bench.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) addresses: Mutex<Vec<Address>>,
    pub(crate) messages: AtomicU64,
    pub(crate) replayed: AtomicU64,
}

/// A log to follow from its first entry on; what is there already is replayed.
pub(crate) struct Place {
    log: LogId,
    head: Seq,
}

impl Place {
    pub(crate) fn live(log: LogId) -> Self {
        Self { log, head: 0 }
    }

    pub(crate) fn stored(log: LogId, head: Seq) -> Self {
        Self { log, head }
    }
}

/// Leaves a log, or comes back to where it left.
pub(crate) struct Turn(pub(crate) LogId);

impl Application for Follower {
    /// Where a log was left, and when.
    type Slot = Option<(Seq, Instant)>;
    type Ticket = Vec<Place>;
    type Done = Turn;

    fn open(&mut self, places: Vec<Place>, io: &mut Io<'_>) -> Self::Slot {
        self.0.addresses.lock().expect("no holder panics").push(io.address());
        for Place { log, head } in places {
            io.follow(log, follow(0, head, Instant::now()));
        }
        None
    }

    fn message(&mut self, _: &mut Self::Slot, _: bool, _: &[u8], _: &mut Io<'_>) {
        self.0.messages.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&mut self, left: &mut Self::Slot, Turn(log): Turn, io: &mut Io<'_>) {
        match left.take() {
            Some((seq, at)) => io.follow(log, follow(seq, seq, at)),
            None => {
                *left = io.cursor(log).map(|seq| (seq, Instant::now()));
                io.unfollow(log);
            }
        }
    }

    fn level(&mut self, _: &mut Self::Slot, _: LogId, _: Seq, _: bool, _: &mut Io<'_>) {
        self.0.replayed.fetch_add(1, Ordering::Relaxed);
    }

    fn passed(&mut self, _: &mut Self::Slot, _: LogId, _: &wire::Entry, _: &mut Io<'_>) {}
    fn foreseen(&mut self, _: &mut Self::Slot, _: LogId, _: &wire::Entry, _: &mut Io<'_>) {}
    fn taken(&mut self, _: &mut Self::Slot, _: &mut Io<'_>) {}
    fn sweep(&mut self, _: &mut Self::Slot, _: Instant, _: &mut Io<'_>) {}
    fn drain(&mut self, _: &mut Self::Slot, _: Duration, _: &mut Io<'_>) {}
    fn closed(&mut self, _: Self::Slot) {}
}

fn follow(from: Seq, as_of_seq: Seq, read_at: Instant) -> Follow {
    Follow { from, as_of_seq, read_at, spans: Spans::whole(), watch: false, announce: as_of_seq > from }
}
