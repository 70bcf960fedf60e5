//! Who is to connect, how fast, and what happens when a connection ends unasked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::time::Duration;

use mio::Token;

use super::{Engine, Socket};
use crate::fleet::clock;
use crate::fleet::link::{End, Link};
use crate::fleet::order::Plan;
use crate::fleet::shared::Who;

#[derive(Default)]
pub(super) struct Dialling {
    /// By when.
    pub(super) wanted: BinaryHeap<Reverse<(u64, usize)>>,
    pub(super) under_way: u32,
    /// When the next one may begin.
    pub(super) next_ns: f64,
}

/// Sockets of one source address; more would look long for a free port.
const PER_SOURCE: u32 = 2_000;
/// Connects begun in one turn.
const DIALS: usize = 64;
/// Attempts of one socket in a row.
const ATTEMPTS: u16 = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn cut(&mut self) {
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

    /// A connection has ended unasked.
    pub(super) fn over(&mut self, at: usize, end: End) {
        let Self { sockets, shared, dialling, .. } = self;
        let socket = &mut sockets[at];
        let was_present = socket.session.present;
        socket.link = Link::default();
        socket.session.leave(shared);
        if let Who::Publisher(n) = socket.session.who {
            shared.publishing.abandon(n);
        }
        if was_present {
            shared.counts.sockets_lost += 1;
            shared.complain(|| format!("a socket was lost: {}", end.why));
        } else {
            dialling.under_way -= 1;
        }
        if !was_present {
            shared.failures.count(&end.why, 1);
        }
        if socket.attempts >= ATTEMPTS {
            shared.complain(|| format!("no connection after {ATTEMPTS} attempts: {}", end.why));
            return;
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
    pub(super) fn dial(&mut self, now: u64) {
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
                Ok(link) => {
                    self.sockets[at].link = link;
                    self.sockets[at].dialled_ns = now;
                }
                Err(error) => self.over(at, error.into()),
            }
        }
    }

    /// Gives up connects that take too long, so that those who wait get their turn.
    pub(super) fn give_up(&mut self, now: u64) {
        let patience = self.shared.plan.connect_timeout;
        let late = |socket: &Socket| {
            let under_way = !socket.link.is_away() && !socket.session.present;
            under_way && now.saturating_sub(socket.dialled_ns) > clock::ns(patience)
        };
        let late: Vec<usize> = (0..self.sockets.len()).filter(|at| late(&self.sockets[*at])).collect();
        for at in late {
            self.over(at, anyhow::anyhow!("no session within {patience:?}").into());
        }
    }
}

impl Dialling {
    /// When the next connect may begin; none while nobody waits, or as many as may be are under way.
    pub(super) fn due_ns(&self, plan: &Plan) -> Option<u64> {
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
