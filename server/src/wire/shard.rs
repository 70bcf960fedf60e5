//! The loop of one shard.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc::UnboundedSender;

use super::application::Application;
use super::close::Ending;
use super::config::Config;
use super::drain::Drain;
use super::fanout::{Fanouts, Run};
use super::fetch::Ask;
use super::inbox::{Address, Adopted, Inbox, Mail, Notice};
use super::io::{Io, Order, Out};
use super::metrics::{Counts, Tally};
use super::registry::Registry;
use super::slab::{Key, Slab};
use super::slot::{Flag, Slot, Socket};
use super::sweep::Sweep;

/// Everything that a shard's thread owns.
pub(super) struct Shard<A: Application> {
    pub app: A,
    pub index: u16,
    pub poll: Poll,
    pub inbox: Arc<Inbox<A::Ticket, A::Done>>,
    pub registry: Arc<Registry>,
    pub asks: UnboundedSender<Vec<Ask>>,
    pub config: Arc<Config>,
    pub counts: Counts,
    pub tally: Tally,
    pub slots: Slab<Slot<A::Slot>>,
    pub fanouts: Fanouts,
    /// Sockets that have something to do without an edge.
    pub serving: VecDeque<Key>,
    /// Outcomes that wait for room for their frames.
    pub outcomes: VecDeque<(Key, A::Done)>,
    /// Closing handshakes, the oldest first.
    pub closing: VecDeque<(Instant, Key)>,
    pub orders: VecDeque<(Key, Order)>,
    pub out: Out,
    pub scratch: Vec<u8>,
    pub read_buffer: Vec<u8>,
    /// Bytes of private frames made in this turn.
    pub made: usize,
    pub sweep: Sweep,
    pub drain: Option<Drain>,
    pub stopped: bool,
}

/// The token of the inbox's waker; no key is as large.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Sockets served and writes of runs in one turn, so that readiness is looked at again soon.
const TURN_SOCKETS: usize = 64;
const TURN_WRITES: usize = 256;
/// Outcomes for which room is kept; what a storm took beyond it is given back.
const KEPT_OUTCOMES: usize = 1024;
/// Writes of one log before the next log has its turn.
const RUN_WRITES: usize = 64;

impl<A: Application> Shard<A> {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut mail = Mail::default();
        while !self.stopped {
            if let Err(error) = self.turn(&mut events, &mut mail) {
                // The poll itself is broken: no socket of this shard can be served any more.
                tracing::error!(%error, shard = self.index, "a shard has stopped");
                break;
            }
        }
        for index in 0..self.slots.bound() {
            if let Some(key) = self.slots.key_at(index) {
                self.remove(key);
            }
        }
        self.report();
    }

    fn turn(&mut self, events: &mut Events, mail: &mut Mail<A::Ticket, A::Done>) -> io::Result<()> {
        let asleep = self.inbox.take(mail, !self.has_work());
        let now = Instant::now();
        let timeout = if asleep { self.next_due(now) } else { Duration::ZERO };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() != WAKE) {
            self.ready(event);
        }
        if asleep {
            self.inbox.take(mail, false);
        }
        self.made = 0;
        self.read_mail(mail);
        self.serve_sockets();
        self.hand_out_outcomes();
        self.take_runs();
        self.ask_for_pages();
        self.keep_time();
        self.report();
        Ok(())
    }

    fn has_work(&self) -> bool {
        !self.serving.is_empty() || !self.fanouts.runs.is_empty() || !self.outcomes.is_empty()
    }

    fn ready(&mut self, event: &Event) {
        let key = Key::of_token(event.token());
        let Some(slot) = self.slots.get_mut(key) else { return };
        if event.is_readable() || event.is_error() {
            slot.socket.set(Flag::Readable);
        }
        if event.is_read_closed() {
            slot.socket.set(Flag::Readable);
            slot.socket.set(Flag::Ended);
        }
        if event.is_writable() && slot.socket.has(Flag::Blocked) {
            slot.socket.set(Flag::Writable);
        }
        self.queue(key);
    }

    /// Puts a socket into the queue of those that have something to do.
    pub(super) fn queue(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.socket.has(Flag::Queued) {
            slot.socket.set(Flag::Queued);
            self.serving.push_back(key);
        }
    }

    fn read_mail(&mut self, mail: &mut Mail<A::Ticket, A::Done>) {
        for adopted in mail.sockets.drain(..) {
            self.adopt(adopted);
        }
        for (log, entry) in mail.entries.drain(..) {
            self.fanouts.push(log, entry);
        }
        for (log, seq) in mail.heads.drain() {
            self.fanouts.reached(log, seq);
        }
        for arrived in mail.pages.drain(..) {
            self.tally.pages += 1;
            self.fanouts.arrived(arrived.log, arrived.page);
        }
        self.outcomes.extend(mail.done.drain(..));
        for (log, signal) in mail.signals.drain(..) {
            self.signal(log, signal);
        }
        for notice in mail.notices.drain(..) {
            match notice {
                Notice::EpochChanged => self.change_epoch(),
                Notice::Drain { window } => self.begin_drain(window),
                Notice::Stop => self.stopped = true,
            }
        }
        mail.give_back_room();
    }

    fn adopt(&mut self, adopted: Adopted<A::Ticket>) {
        let Adopted { stream, read, codec, ticket } = adopted;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = self.slots.next_key().to_token();
        if let Err(error) = self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "a socket could not be registered");
            return;
        }
        let socket = Socket::new(stream, codec, self.config.message_bytes);
        let key = self.slots.insert(Slot { app: None, socket });
        self.counts.sockets.inc();
        if codec == bowline_protocol::Codec::Json {
            self.fanouts.budget.expect_json();
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        let mut io = Io {
            address: Address { shard: self.index, key },
            socket: &mut slot.socket,
            fanouts: &self.fanouts,
            registry: &self.registry,
            out: &mut self.out,
            orders: &mut self.orders,
        };
        slot.app = Some(self.app.open(ticket, &mut io));
        self.finish_call(key);
        // What came behind the handshake is here, and no edge will tell.
        self.hear(key, &mut read.to_vec());
    }

    /// Calls the application for a socket that is open for it.
    pub(super) fn call(&mut self, key: Key, f: impl FnOnce(&mut A, &mut A::Slot, &mut Io<'_>)) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(app) = &mut slot.app else { return };
        let mut io = Io {
            address: Address { shard: self.index, key },
            socket: &mut slot.socket,
            fanouts: &self.fanouts,
            registry: &self.registry,
            out: &mut self.out,
            orders: &mut self.orders,
        };
        f(&mut self.app, app, &mut io);
        self.finish_call(key);
    }

    /// Writes what was sent, then does what was ordered.
    fn finish_call(&mut self, key: Key) {
        self.send_out(key);
        while let Some((key, order)) = self.orders.pop_front() {
            match order {
                Order::Follow(log, follow) => self.follow(key, log, follow),
                Order::Unfollow(log) => self.unfollow(key, log),
                Order::Subscribe(subscription) => self.subscribe(key, subscription),
                Order::Close(close) => self.close(key, Ending::Ours(close)),
            }
        }
        self.go_on(key);
    }

    fn serve_sockets(&mut self) {
        for _ in 0..self.serving.len().min(TURN_SOCKETS) {
            let Some(key) = self.serving.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(key) else { continue };
            slot.socket.clear(Flag::Queued);
            if slot.socket.take(Flag::Writable) {
                self.unblock(key);
            }
            self.tell_taken(key);
            self.hear_unread(key);
            self.read(key);
            if self.catch_up(key) {
                self.queue(key);
            }
        }
    }

    fn hand_out_outcomes(&mut self) {
        while self.made < self.config.turn_private_bytes {
            let Some((key, done)) = self.outcomes.pop_front() else { return self.outcomes.shrink_to(KEPT_OUTCOMES) };
            self.call(key, |app, slot, io| app.done(slot, done, io));
        }
    }

    fn take_runs(&mut self) {
        let mut left = TURN_WRITES;
        while left > 0 {
            let Some(run) = self.fanouts.runs.pop_front() else { return };
            let allowed = left.min(RUN_WRITES);
            let used = match run {
                Run::Entries(fanout) => self.run_entries(fanout, allowed),
                Run::Signal(run) => self.run_signal(run, allowed),
            };
            left = left.saturating_sub(used.max(1));
        }
    }

    fn ask_for_pages(&mut self) {
        if self.fanouts.asks.is_empty() {
            return;
        }
        let asks = self.fanouts.asks.drain(..).map(|(log, page)| Ask { log, page, shard: self.index });
        // The fetcher outlives the shards, unless the runtime is going down; then nothing is read any more.
        let _ = self.asks.send(asks.collect());
    }

    fn report(&mut self) {
        self.counts.add(&mut self.tally);
    }
}
