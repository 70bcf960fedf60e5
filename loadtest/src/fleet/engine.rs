//! The loop that owns a worker's sockets: one thread, no task and no timer a socket.
//!
//! Sockets are registered edge-triggered once: whoever stops reading before the kernel is empty must be looked at again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::clock;
use super::link::{End, Heard, Link, Out};
use super::machine;
use super::order::{Order, Plan, Report, Server};
use super::session::{Session, Shared, Who};
use super::tally::Kind;

/// Gives orders to an engine, and wakes it.
#[derive(Clone)]
pub(crate) struct Orders {
    sender: Sender<Order>,
    waker: Arc<Waker>,
}

impl Orders {
    pub(crate) fn give(&self, order: Order) {
        // An engine that has ended says so by its answers, which end.
        if self.sender.send(order).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

pub(crate) struct Engine {
    poll: Poll,
    timer: TimerFd,
    timer_ns: Option<u64>,
    orders: Receiver<Order>,
    sockets: Vec<Socket>,
    servers: Vec<Server>,
    shared: Shared,
    buffer: Vec<u8>,
    /// Sockets that may have more to be read.
    again: Vec<usize>,
    dialling: Dialling,
    stopped: bool,
    done: u64,
    alive_ns: u64,
}

struct Socket {
    link: Link,
    session: Session,
    attempts: u16,
    /// Does not read.
    stopped: bool,
}

/// Who is to connect, and how fast.
#[derive(Default)]
struct Dialling {
    /// By when.
    wanted: BinaryHeap<Reverse<(u64, usize)>>,
    under_way: u32,
    /// When the next one may begin.
    next_ns: f64,
}

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const EVENTS: usize = 1_024;
const BUFFER_BYTES: usize = 128 * 1024;
/// Sockets of one source address; more would look long for a free port.
const PER_SOURCE: u32 = 2_000;
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Connects begun in one turn.
const DIALS: usize = 64;
/// Attempts of one socket in a row.
const ATTEMPTS: u16 = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A publisher with this much unwritten waits.
const UNWRITTEN_BYTES: usize = 256 * 1024;
/// What is sent in one turn.
const SENDS: usize = 4_096;

impl Engine {
    pub(crate) fn new(plan: Plan) -> anyhow::Result<(Self, Orders)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        let (sender, orders) = std::sync::mpsc::channel();
        let reader = |n| Socket::new(Session::new(Who::Reader(n), plan.seats.follows(n)));
        let publisher = |n| Socket::new(Session::new(Who::Publisher(n), std::iter::empty()));
        let sockets = (plan.first..plan.first + plan.count).map(reader).chain((0..plan.publishers).map(publisher));
        let engine = Self {
            poll,
            timer,
            timer_ns: None,
            orders,
            sockets: sockets.collect(),
            servers: plan.servers.clone(),
            shared: Shared::new(plan),
            buffer: vec![0; BUFFER_BYTES],
            again: Vec::new(),
            dialling: Dialling::default(),
            stopped: false,
            done: 0,
            alive_ns: 0,
        };
        Ok((engine, Orders { sender, waker }))
    }

    /// Until it is told to end, whoever gives orders is gone, or nobody takes its answers.
    pub(crate) fn run(mut self, mut answer: impl FnMut(Report) -> bool) {
        loop {
            match self.work(&mut answer) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    answer(Report { failed: Some(format!("{error:#}")), ..Report::default() });
                    return;
                }
            }
        }
    }

    /// Works until the next report is given; whether there will be another one.
    fn work(&mut self, answer: &mut impl FnMut(Report) -> bool) -> anyhow::Result<bool> {
        let report_at = clock::now_ns() + clock::ns(REPORT_EVERY);
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let before = self.done;
            if !self.obey()? {
                answer(self.report());
                return Ok(false);
            }
            let now = clock::now_ns();
            if now > self.shared.plan.until_ns {
                anyhow::bail!("not done within --timeout");
            }
            if now >= report_at || self.done > before {
                return Ok(answer(self.report()));
            }
            self.dial(now);
            self.publish()?;
            self.live(now);
            let timeout = self.timeout(report_at);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.context("epoll")?,
            }
            for at in std::mem::take(&mut self.again) {
                self.turn(at, false);
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    TIMER => _ = self.timer.wait(),
                    Token(at) => self.turn(at, event.is_read_closed() || event.is_error()),
                }
            }
        }
    }

    fn timeout(&self, report_at: u64) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let now = clock::now_ns();
        Duration::from_nanos(
            self.dialling.due_ns(&self.shared.plan).unwrap_or(u64::MAX).min(report_at).saturating_sub(now),
        )
    }

    fn obey(&mut self) -> anyhow::Result<bool> {
        loop {
            match self.orders.try_recv() {
                Ok(Order::End) | Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => return Ok(true),
                Ok(order) => self.carry_out(order),
            }
            self.done += 1;
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = clock::now_ns();
        match order {
            Order::Logs(logs) => self.shared.set_logs(&logs),
            Order::Connect => {
                for (at, socket) in self.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.link.is_away()) {
                    socket.session.wanted_ns = now;
                    socket.attempts = 0;
                    self.dialling.wanted.push(Reverse((now, at)));
                }
                self.dialling.next_ns = now as f64;
            }
            Order::Publish(streams) => self.shared.publishing.begin(streams, now),
            Order::StopReading { one_of } => {
                let first = self.shared.plan.first;
                self.stopped = true;
                for socket in &mut self.sockets {
                    let Who::Reader(n) = socket.session.who else { continue };
                    if (n.max(first)) % one_of.max(1) == 0 && !self.shared.plan.seats.is_beside(n) {
                        (socket.stopped, socket.session.slow) = (true, true);
                    }
                }
            }
            Order::ReadOn => {
                self.stopped = false;
                for (at, socket) in self.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.stopped) {
                    socket.stopped = false;
                    self.again.push(at);
                }
            }
            Order::Cut => self.cut(),
            Order::Expect(expected) => self.expect(expected),
            Order::Plan(_) | Order::Report | Order::End => {}
        }
    }

    fn cut(&mut self) {
        self.dialling.wanted.clear();
        for socket in &mut self.sockets {
            if let Who::Reader(_) = socket.session.who {
                if !socket.link.is_away() && !socket.session.present {
                    self.dialling.under_way -= 1;
                }
                socket.link.reset();
                socket.session.leave(&mut self.shared);
            }
        }
    }

    fn expect(&mut self, mut expected: Vec<u64>) {
        if self.shared.plan.topics {
            expected.iter_mut().zip(&self.shared.starts).for_each(|(expected, start)| *expected += start);
        }
        self.shared.expected = expected;
        self.shared.whole = 0;
        for socket in self.sockets.iter_mut().filter(|socket| matches!(socket.session.who, Who::Reader(_))) {
            socket.session.whole = socket.session.behind(&self.shared.expected) == 0;
            self.shared.whole += u32::from(socket.session.whole);
        }
        self.shared.whole_at_ns = clock::now_ns();
    }

    fn turn(&mut self, at: usize, closed: bool) {
        let Self { sockets, servers, shared, buffer, again, dialling, .. } = self;
        let Some(socket) = sockets.get_mut(at).filter(|socket| !socket.link.is_away()) else { return };
        if socket.stopped {
            // What is to be read waits; what is to be written does not.
            if let Err(error) = socket.link.write() {
                self.over(at, error.into());
            }
            return;
        }
        let (was_present, session) = (socket.session.present, &mut socket.session);
        let (codec, server) = (shared.codec, &servers[shared.server_of(session.who)]);
        let heard = |heard: Heard<'_>, out: &mut Out| session.hear(heard, out, shared);
        let turned = socket.link.turn((codec, &server.authority), closed, buffer, heard);
        let session = &mut socket.session;
        if !was_present && session.present {
            dialling.under_way -= 1;
            socket.attempts = 0;
        }
        if !shared.expected.is_empty() && !session.whole && matches!(session.who, Who::Reader(_)) {
            session.whole = session.behind(&shared.expected) == 0;
            if session.whole {
                shared.whole += 1;
                shared.whole_at_ns = clock::now_ns();
            }
        }
        match turned {
            Ok(true) => again.push(at),
            Ok(false) => {}
            Err(end) => self.over(at, end),
        }
    }

    /// A connection has ended unasked.
    fn over(&mut self, at: usize, end: End) {
        let Self { sockets, shared, dialling, .. } = self;
        let socket = &mut sockets[at];
        let was_present = socket.session.present;
        socket.link = Link::default();
        socket.session.leave(shared);
        if let Who::Publisher(n) = socket.session.who {
            shared.counts.unanswered += shared.publishing.abandon(n);
        }
        if was_present {
            shared.counts.sockets_lost += 1;
            shared.complain(|| format!("a socket was lost: {}", end.why));
        } else {
            dialling.under_way -= 1;
        }
        if socket.attempts >= ATTEMPTS {
            shared.complain(|| format!("no connection after {ATTEMPTS} attempts: {}", end.why));
            return;
        }
        if !was_present {
            shared.counts.retries += 1;
            if end.retry_after.is_none() {
                shared.complain(|| format!("an attempt to connect: {}", end.why));
            }
        }
        let now = clock::now_ns();
        if socket.session.wanted_ns == 0 {
            socket.session.wanted_ns = now;
        }
        let grown = FIRST_PAUSE.saturating_mul(1 << socket.attempts.min(10)).min(LONGEST_PAUSE);
        let pause = end.retry_after.unwrap_or(grown).mul_f64(1.0 + rand::random::<f64>());
        socket.attempts += 1;
        dialling.wanted.push(Reverse((now + clock::ns(pause), at)));
    }

    /// Begins as many connects as may be under way and the rate allows.
    fn dial(&mut self, now: u64) {
        for _ in 0..DIALS {
            if self.dialling.due_ns(&self.shared.plan).is_none_or(|due| due > now) {
                return;
            }
            let Some(Reverse((_, at))) = self.dialling.wanted.pop() else { return };
            if self.shared.plan.connect_rate > 0.0 {
                self.dialling.next_ns += 1e9 / self.shared.plan.connect_rate;
            }
            self.dialling.under_way += 1;
            let plan = &self.shared.plan;
            let who = self.sockets[at].session.who;
            let server = &self.servers[self.shared.server_of(who)];
            let (source, window) = (source(who), plan.receive_buffer);
            let source = Some(source).filter(|_| server.address.is_ipv4() && server.address.ip().is_loopback());
            let window = window.filter(|_| matches!(who, Who::Reader(_)));
            match Link::dial(server, source, window, self.poll.registry(), Token(at)) {
                Ok(link) => self.sockets[at].link = link,
                Err(error) => self.over(at, error.into()),
            }
        }
    }

    /// Sends what is due, and sets the timer for what comes next.
    fn publish(&mut self) -> anyhow::Result<()> {
        let readers = self.shared.plan.count as usize;
        for stream in 0..self.shared.publishing.streams() {
            for _ in 0..SENDS {
                let now = clock::now_ns();
                let Some(due) = self.shared.publishing.due(stream, now) else { break };
                let at = readers + due.publisher as usize;
                let present = self.sockets.get(at).is_some_and(|socket| socket.session.present);
                if present && self.sockets[at].link.out().len() > UNWRITTEN_BYTES {
                    break;
                }
                let topic = |target| format!("lt-{}-{target}", self.shared.plan.identity.run.simple());
                let command = self.shared.publishing.command(&due, topic);
                self.shared.counts.sent += 1;
                if !present {
                    self.shared.counts.unanswered += 1;
                    continue;
                }
                let socket = &mut self.sockets[at];
                let id = socket.link.out().ask(self.shared.codec, command);
                self.shared.publishing.opened(&due, id);
                if let Err(error) = socket.link.write() {
                    self.over(at, error.into());
                }
                self.shared.times.record(Kind::Late, due.meant_ns, clock::now_ns());
            }
        }
        let next = self.shared.publishing.next_ns();
        if next != self.timer_ns {
            self.timer_ns = next;
            match next {
                // A time in the past fires at once.
                Some(ns) => self.timer.set(
                    Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(ns))),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?,
                None => self.timer.unset()?,
            }
        }
        Ok(())
    }

    /// Those who do not read answer no pings; a sign of life shows that they are slow, and not dead.
    fn live(&mut self, now: u64) {
        if !self.stopped || now < self.alive_ns {
            return;
        }
        self.alive_ns = now + clock::ns(self.shared.heartbeat / 2);
        for at in 0..self.sockets.len() {
            let socket = &mut self.sockets[at];
            if socket.stopped && socket.session.present {
                socket.link.out().sign_of_life();
                if let Err(error) = socket.link.write() {
                    self.over(at, error.into());
                }
            }
        }
    }

    fn report(&mut self) -> Report {
        let behind = match self.shared.expected.is_empty() {
            true => 0,
            false => self.sockets.iter().map(|socket| socket.session.behind(&self.shared.expected)).sum(),
        };
        Report {
            orders: self.done,
            counts: self.shared.counts,
            times: self.shared.times.drain(),
            present: self.shared.present,
            behind,
            whole: self.shared.whole,
            whole_at_ns: self.shared.whole_at_ns,
            published: self.shared.publishing.done(),
            rss_bytes: machine::resident_bytes(),
            complaints: self.shared.complaints.clone(),
            failed: None,
        }
    }
}

impl Socket {
    fn new(session: Session) -> Self {
        Self { link: Link::default(), session, attempts: 0, stopped: false }
    }
}

impl Dialling {
    /// When the next connect may begin; none while nobody waits, or as many as may be are under way.
    fn due_ns(&self, plan: &Plan) -> Option<u64> {
        let Reverse((wanted, _)) = self.wanted.peek().filter(|_| self.under_way < plan.handshakes)?;
        Some((*wanted).max(self.next_ns as u64))
    }
}

fn source(who: Who) -> Ipv4Addr {
    let (net, n) = match who {
        Who::Reader(n) => (1, n / PER_SOURCE),
        Who::Publisher(n) => (2, n / PER_SOURCE),
    };
    Ipv4Addr::new(127, net, (n / 250) as u8, (n % 250) as u8 + 1)
}
