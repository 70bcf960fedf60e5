//! What a worker is told, and what it answers: one JSON value a line where a pipe is between them.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failures::Failures;
use super::seats::Seats;
use super::tally::{Counts, Sparse};

/// All that a worker must know before it connects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) servers: Vec<Server>,
    pub(crate) identity: Identity,
    pub(crate) json: bool,
    /// Topics instead of conversations.
    pub(crate) topics: bool,
    pub(crate) seats: Seats,
    /// This worker's readers: so many, from this one on.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// This worker's publishers, counted from 0.
    pub(crate) publishers: u32,
    /// Connects begun a second; 0: as many as the next one allows.
    pub(crate) connect_rate: f64,
    /// Connects under way at a time.
    pub(crate) handshakes: u32,
    /// An attempt that has no session by then has failed.
    pub(crate) connect_timeout: Duration,
    /// SO_RCVBUF of readers.
    pub(crate) receive_buffer: Option<u32>,
    /// When the worker ends by itself, on the clock of [`super::clock`].
    pub(crate) until_ns: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
}

/// What tokens are minted from.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) secret: String,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) run: Uuid,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.run)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one, once.
    Plan(Box<Plan>),
    /// The conversations, in the order of their numbers.
    Logs(Vec<Uuid>),
    /// Everybody who is not there connects.
    Connect,
    Publish(Vec<Stream>),
    /// One of so many readers stops reading: 10 is every tenth, 1 everybody.
    StopReading {
        one_of: u32,
    },
    ReadOn,
    /// Every reader's connection is reset.
    Cut,
    /// By target, the seq up to which everything is to be seen; of topics, how many messages from where its readers began.
    Expect(Vec<u64>),
    /// Answer now.
    Report,
    End,
}

/// Messages at a pace, to each target of a range in turn. Target `t` is published to by publisher
/// `first_publisher + t / neighbours % publishers`, always.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) first_target: u32,
    pub(crate) targets: u32,
    pub(crate) first_publisher: u32,
    pub(crate) publishers: u32,
    pub(crate) neighbours: u32,
    pub(crate) pace: Pace,
    /// How many in all.
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// An open loop: each message has its time, whatever the server does.
    PerSecond(f64),
    /// As fast as acks come, with so many open a publisher. What a full server refuses is sent again.
    Window(u32),
}

/// Sent several times a second, and after each order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// How many orders were carried out.
    pub(crate) orders: u64,
    pub(crate) counts: Counts,
    /// Since the report before.
    pub(crate) times: Vec<Sparse>,
    /// Readers and publishers that are connected and follow what they are to follow.
    pub(crate) present: u32,
    /// Deliveries that are missing of what is expected, to readers that are there or not.
    pub(crate) behind: u64,
    /// Readers that have everything that is expected, and when the last of them got it.
    pub(crate) whole: u32,
    pub(crate) whole_at_ns: u64,
    /// Once all that was to be published has its answer: for each target what was acked.
    pub(crate) published: Option<Vec<Published>>,
    /// By how much the process has grown since before it had sockets, connected or not.
    pub(crate) grown_bytes: u64,
    /// Attempts to connect that did not succeed.
    pub(crate) failures: Failures,
    /// A few of the things that went wrong.
    pub(crate) complaints: Vec<String>,
    /// Why it can't go on.
    pub(crate) failed: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) target: u32,
    pub(crate) acked: u64,
    /// The highest that an ack named; 0 for topics, whose acks name none.
    pub(crate) seq: u64,
}
