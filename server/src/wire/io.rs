//! What an application may do with the socket that it is called for.

use std::collections::VecDeque;
use std::time::Instant;

use bowline_protocol::wire::ServerFrame;
use bowline_protocol::{Close, Codec, LogId, Seq, UserId};
use bytes::BytesMut;

use crate::tail::{Opcode, Spans, frame_header};

use super::fanout::Fanouts;
use super::inbox::Address;
use super::named::Subscription;
use super::registry::Registry;
use super::slab::Key;
use super::slot::{Flag, Socket};

/// How a socket follows a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// The last seq that the reader has.
    pub from: Seq,
    /// The log's head in the snapshot in which `spans` were read.
    pub as_of_seq: Seq,
    /// When that read was begun: what was published since is found, whenever it came.
    pub read_at: Instant,
    /// The stays of this user; a log whose last stay has ended is replayed to its end and not followed.
    pub spans: Spans,
    /// Every entry goes to [`super::Application::passed`].
    pub watch: bool,
    /// The end of the replay goes to [`super::Application::level`].
    pub announce: bool,
}

/// One socket, for the time of one call. Frames that are sent go out in order; following, unfollowing and closing take
/// effect when the call returns, after what it sent.
pub struct Io<'a> {
    pub(super) address: Address,
    pub(super) socket: &'a mut Socket,
    pub(super) fanouts: &'a Fanouts,
    pub(super) registry: &'a Registry,
    pub(super) out: &'a mut Out,
    pub(super) orders: &'a mut VecDeque<(Key, Order)>,
}

/// Private frames of the call that runs, and room to make them in.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub framed: Vec<u8>,
    payload: BytesMut,
}

#[derive(Debug)]
pub(super) enum Order {
    Follow(LogId, Follow),
    Unfollow(LogId),
    Subscribe(Subscription),
    Close(Close),
}

impl Io<'_> {
    /// Where outcomes of work for this socket are to be sent.
    pub fn address(&self) -> Address {
        self.address
    }

    pub fn codec(&self) -> Codec {
        self.socket.codec()
    }

    /// A frame for this socket alone, a message of its own.
    pub fn send(&mut self, frame: &ServerFrame) {
        self.out.add(self.socket.codec(), frame);
    }

    /// A message that is no frame of the contract.
    pub fn send_raw(&mut self, text: bool, payload: &[u8]) {
        self.out.add_raw(if text { Opcode::Text } else { Opcode::Binary }, payload);
    }

    /// Whether something that was sent before still waits for the peer.
    pub fn is_behind(&self) -> bool {
        self.socket.unsent_private() > 0
    }

    /// Calls [`super::Application::taken`] once everything that was sent has left for the kernel.
    pub fn call_when_taken(&mut self) {
        self.socket.set(Flag::TellTaken);
    }

    /// Follows a log, or moves in one that is followed already: from `follow.from` on, whatever was delivered before.
    pub fn follow(&mut self, log: LogId, follow: Follow) {
        self.order(Order::Follow(log, follow));
    }

    pub fn unfollow(&mut self, log: LogId) {
        self.order(Order::Unfollow(log));
    }

    /// Follows a topic, if it is not followed already; returns how far this socket has got in it. What is sent from here
    /// on has higher seqs.
    pub fn subscribe(&mut self, topic: &str) -> Seq {
        if let Some(seq) = self.topic(topic) {
            return seq;
        }
        let subscription = self.registry.named.enter(topic, self.address.shard);
        let seq = subscription.seq;
        self.order(Order::Subscribe(subscription));
        seq
    }

    pub fn unsubscribe(&mut self, topic: &str) {
        if let Some(log) = self.registry.named.log(topic) {
            self.unfollow(log);
        }
    }

    /// How far this socket has got in a topic that it follows. What was ordered in this call counts.
    pub fn topic(&self, topic: &str) -> Option<Seq> {
        let log = self.registry.named.log(topic)?;
        let ordered = self.orders.iter().rev().filter(|(key, _)| *key == self.address.key);
        let mut ordered = ordered.filter_map(|(_, order)| match order {
            Order::Subscribe(subscription) if subscription.log == log => Some(Some(subscription.seq)),
            Order::Unfollow(unfollowed) if *unfollowed == log => Some(None),
            _ => None,
        });
        ordered.next().unwrap_or_else(|| self.cursor(log))
    }

    /// How far this socket has got in a log that it follows.
    pub fn cursor(&self, log: LogId) -> Option<Seq> {
        let fanout = self.fanouts.find(log)?;
        self.socket.follows.iter().find(|follow| follow.fanout == fanout.index).map(|follow| follow.seq())
    }

    /// A command was begun, or answered. A socket with too many open ones is not read.
    pub fn command_opened(&mut self) {
        self.socket.open_commands = self.socket.open_commands.saturating_add(1);
    }

    pub fn command_answered(&mut self) {
        self.socket.open_commands = self.socket.open_commands.saturating_sub(1);
    }

    /// Whose socket this is: entries that remove this user end what it follows.
    pub fn identify(&mut self, user: UserId) {
        self.socket.identify(user);
    }

    /// Messages over this are refused; at first it is the shard's own limit.
    pub fn set_message_bytes(&mut self, limit: usize) {
        self.socket.message_bytes = u32::try_from(limit).unwrap_or(u32::MAX);
    }

    pub fn close(&mut self, close: Close) {
        self.order(Order::Close(close));
    }

    fn order(&mut self, order: Order) {
        self.orders.push_back((self.address.key, order));
    }
}

/// Adds a frame, framed as a message of its own.
pub(super) fn add_frame(codec: Codec, frame: &ServerFrame, out: &mut Vec<u8>) {
    let mut payload = BytesMut::new();
    codec.write(frame, &mut payload);
    frame_header(Opcode::of(codec), payload.len(), out);
    out.extend_from_slice(&payload);
}

impl Out {
    pub(super) fn add(&mut self, codec: Codec, frame: &ServerFrame) {
        self.payload.clear();
        codec.write(frame, &mut self.payload);
        frame_header(Opcode::of(codec), self.payload.len(), &mut self.framed);
        self.framed.extend_from_slice(&self.payload);
    }

    pub(super) fn add_raw(&mut self, opcode: Opcode, payload: &[u8]) {
        frame_header(opcode, payload.len(), &mut self.framed);
        self.framed.extend_from_slice(payload);
    }
}
