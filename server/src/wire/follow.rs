//! Entering and leaving the lists of logs.

use bowline_protocol::LogId;

use crate::tail::Cursor;

use super::application::Application;
use super::followers::Follower;
use super::io::Follow;
use super::named::Subscription;
use super::shard::Shard;
use super::slab::Key;
use super::slot::{Flag, Followed};

impl<A: Application> Shard<A> {
    /// A socket follows a log from a place on, or goes to another place in it.
    pub(super) fn follow(&mut self, key: Key, log: LogId, follow: Follow) {
        self.unfollow(key, log);
        if self.slots.get(key).is_none_or(|slot| slot.socket.has(Flag::Closing)) {
            return;
        }
        let fanout = self.fanout(log, &follow);
        let cursor = Cursor::new(follow.from, follow.as_of_seq, follow.spans, follow.announce);
        self.enter(key, fanout, cursor, follow.watch);
    }

    /// A socket follows a topic, in which its subscription was entered already.
    pub(super) fn subscribe(&mut self, key: Key, subscription: Subscription) {
        let Subscription { name, log, seq } = subscription;
        if self.slots.get(key).is_none_or(|slot| slot.socket.has(Flag::Closing)) {
            return self.registry.named.leave(&name, self.index);
        }
        let fanout = self.fanouts.find(log).unwrap_or_else(|| {
            self.counts.logs.inc();
            self.fanouts.insert_named(log, seq, name)
        });
        self.enter(key, fanout, Cursor::level(seq), false);
    }

    fn enter(&mut self, key: Key, fanout: Key, cursor: Cursor, watch: bool) {
        let (Some(slot), Some(list)) = (self.slots.get_mut(key), self.fanouts.get_mut(fanout)) else { return };
        let socket = &mut slot.socket;
        let nth = socket.follows.len();
        let place = list.add(Follower { slot: key.index, nth: nth as u32 });
        if nth == socket.follows.capacity() {
            socket.follows.reserve_exact(1 + nth / 4);
        }
        socket.follows.push(Followed::new(fanout.index, place, watch));
        socket.put_cursor(nth, cursor);
        if watch {
            socket.watched = nth as u32;
        }
        socket.set(Flag::Lags);
        self.queue(key);
    }

    pub(super) fn unfollow(&mut self, key: Key, log: LogId) {
        let Some(fanout) = self.fanouts.find(log) else { return };
        let Some(slot) = self.slots.get(key) else { return };
        if let Some(nth) = slot.socket.follows.iter().position(|followed| followed.fanout == fanout.index) {
            self.unfollow_nth(key, nth);
        }
    }

    pub(super) fn unfollow_all(&mut self, key: Key) {
        while let Some(last) = self.slots.get(key).and_then(|slot| slot.socket.follows.len().checked_sub(1)) {
            self.unfollow_nth(key, last);
        }
        if let Some(slot) = self.slots.get_mut(key) {
            slot.socket.follows = Vec::new();
        }
    }

    /// Takes one log out of a socket, and the socket out of the log's list.
    pub(super) fn unfollow_nth(&mut self, key: Key, nth: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(left) = slot.socket.take_out(nth) else { return };
        let moved = slot.socket.follows.get(nth).map(|followed| (followed.fanout, followed.place()));
        if let Some((fanout, place)) = moved
            && let Some((fanout, _)) = self.fanouts.at_mut(fanout)
        {
            fanout.followers.as_mut_slice()[place as usize].nth = nth as u32;
        }
        let Some(fanout_key) = self.fanouts.key_at(left.fanout) else { return };
        let name = self.fanouts.name(left.fanout);
        if let Some(name) = name {
            self.registry.named.leave(name, self.index);
        }
        let stored = name.is_none();
        let Some(fanout) = self.fanouts.get_mut(fanout_key) else { return };
        let moved = fanout.take_out(left.place());
        if fanout.followers.as_slice().is_empty() {
            if stored {
                self.registry.unfollow(fanout.log, self.index);
            }
            self.fanouts.remove(fanout_key);
            self.counts.logs.dec();
        } else if let Some(Follower { slot, nth }) = moved
            && let Some(slot) = self.slots.at_mut(slot)
        {
            slot.socket.follows[nth as usize].set_place(left.place());
        }
    }

    /// The log's fan-out here, made if this is its first follower.
    fn fanout(&mut self, log: LogId, follow: &Follow) -> Key {
        if let Some(fanout) = self.fanouts.find(log) {
            return fanout;
        }
        self.counts.logs.inc();
        let known = self.registry.follow(log, self.index, follow.read_at);
        let fanout = self.fanouts.insert(log, known.unwrap_or_default().max(follow.as_of_seq));
        if known.is_none() {
            self.fanouts.doubt(fanout);
        }
        fanout
    }
}
