//! The loop that owns a worker's sockets: one thread, no task and no timer a socket.
//!
//! Sockets are registered edge-triggered once: whoever stops reading before the kernel is empty must be looked at again.

mod dialling;
mod sending;

use std::cmp::Reverse;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use dialling::Dialling;

use super::clock;
use super::link::{Heard, Link, Out};
use super::machine;
use super::order::{Order, Plan, Report, Server};
use super::session::Session;
use super::shared::{Shared, Who};

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
    /// Orders carried out.
    done: u64,
    complete: (bool, bool),
    alive_ns: u64,
    resident_before: u64,
}

struct Socket {
    link: Link,
    session: Session,
    attempts: u16,
    /// When its last attempt to connect began.
    dialled_ns: u64,
    /// Does not read.
    stopped: bool,
}

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const EVENTS: usize = 1_024;
const BUFFER_BYTES: usize = 128 * 1024;
const REPORT_EVERY: Duration = Duration::from_millis(200);

impl Engine {
    pub(crate) fn new(plan: Plan) -> anyhow::Result<(Self, Orders)> {
        let resident_before = machine::resident_bytes();
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
            complete: (false, false),
            alive_ns: 0,
            resident_before,
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
            let complete = self.complete();
            if now >= report_at || self.done > before || complete != self.complete {
                self.complete = complete;
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

    /// Everybody is there; everybody has everything. Told at once, so that how long it took is known exactly.
    fn complete(&self) -> (bool, bool) {
        (self.shared.present as usize == self.sockets.len(), self.shared.whole == self.shared.plan.count)
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

    fn report(&mut self) -> Report {
        self.give_up(clock::now_ns());
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
            grown_bytes: machine::resident_bytes().saturating_sub(self.resident_before),
            failures: self.shared.failures.clone(),
            complaints: self.shared.complaints.clone(),
            failed: None,
        }
    }
}

impl Socket {
    fn new(session: Session) -> Self {
        Self { link: Link::default(), session, attempts: 0, dialled_ns: 0, stopped: false }
    }
}
