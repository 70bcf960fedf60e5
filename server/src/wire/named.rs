//! Topics of the contract: logs that are found by name and are in no store.
//!
//! A topic is there while some socket of the node subscribes to it. Its log id is made with it and crosses no wire, so
//! no client can mean a topic where a conversation is meant, or the other way round.

use std::sync::Arc;

use bowline_protocol::{LogId, Seq};
use dashmap::DashMap;

use super::registry::Shards;

#[derive(Debug, Default)]
pub(super) struct Named {
    topics: DashMap<Arc<str>, State>,
}

#[derive(Debug)]
struct State {
    log: LogId,
    seq: Seq,
    /// Subscriptions, a shard.
    subscriptions: Vec<u32>,
}

/// What a subscription is: what is published from here on comes to the shard as entries of `log` above `seq`.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub name: Arc<str>,
    pub log: LogId,
    pub seq: Seq,
}

impl Named {
    /// One subscription more in this shard; whoever enters also leaves.
    pub(super) fn enter(&self, name: &str, shard: u16) -> Subscription {
        if let Some(mut topic) = self.topics.get_mut(name) {
            let name = Arc::clone(topic.key());
            return topic.enter(name, shard);
        }
        let name: Arc<str> = name.into();
        let mut topic = self.topics.entry(Arc::clone(&name)).or_insert_with(State::new);
        topic.enter(name, shard)
    }

    pub(super) fn leave(&self, name: &str, shard: u16) {
        self.topics.remove_if_mut(name, |_, topic| {
            topic.subscriptions[usize::from(shard)] -= 1;
            topic.subscriptions.iter().all(|n| *n == 0)
        });
    }

    pub(super) fn log(&self, name: &str) -> Option<LogId> {
        self.topics.get(name).map(|topic| topic.log)
    }

    /// Gives the next seq and hands out, if anybody subscribes. Under the topic's lock, so that all shards get one order.
    pub(super) fn publish(&self, name: &str, hand_out: impl FnOnce(LogId, Seq, Shards)) {
        if let Some(mut topic) = self.topics.get_mut(name) {
            topic.seq += 1;
            hand_out(topic.log, topic.seq, topic.shards());
        }
    }
}

impl State {
    fn new() -> Self {
        Self { log: LogId::new(), seq: 0, subscriptions: Vec::new() }
    }

    fn enter(&mut self, name: Arc<str>, shard: u16) -> Subscription {
        let shard = usize::from(shard);
        if self.subscriptions.len() <= shard {
            self.subscriptions.resize(shard + 1, 0);
        }
        self.subscriptions[shard] += 1;
        Subscription { name, log: self.log, seq: self.seq }
    }

    fn shards(&self) -> Shards {
        let shards = self.subscriptions.iter().enumerate().filter(|(_, n)| **n > 0);
        shards.map(|(shard, _)| shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seq and shards of the next message.
    fn publish(named: &Named, name: &str) -> Option<(Seq, Vec<usize>)> {
        let mut handed = None;
        named.publish(name, |_, seq, shards| handed = Some((seq, shards.iter().collect())));
        handed
    }

    #[test]
    fn a_topic_counts_from_its_first_subscription_to_its_last() {
        let named = Named::default();
        assert_eq!(publish(&named, "a"), None, "nobody is there");
        let first = named.enter("a", 2);
        assert_eq!(first.seq, 0);
        assert_eq!(publish(&named, "a"), Some((1, vec![2])));
        let second = named.enter("a", 0);
        assert_eq!((second.seq, second.log), (1, first.log));
        named.enter("a", 2);
        named.leave("a", 2);
        assert_eq!(publish(&named, "a"), Some((2, vec![0, 2])), "one of two has left");
        named.leave("a", 2);
        assert_eq!(publish(&named, "a"), Some((3, vec![0])));
        assert_eq!(publish(&named, "b"), None);
        named.leave("a", 0);
        assert_eq!((publish(&named, "a"), named.log("a")), (None, None));
        let again = named.enter("a", 1);
        assert!(again.seq == 0 && again.log != first.log, "another life");
    }
}
