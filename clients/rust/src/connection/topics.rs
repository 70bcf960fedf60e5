//! The topics that this client is subscribed to, over all connections. No socket, no clock.

use std::collections::{HashMap, VecDeque};

use bowline_protocol::{Seq, UserId, wire};

use crate::event::Event;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// The last seq of each. As many as the server allows: it has accepted each of them.
    seqs: HashMap<String, Seq>,
    /// To be subscribed anew on this connection.
    due: VecDeque<String>,
}

impl Topics {
    pub(crate) fn subscribed(&mut self, subscribed: wire::TopicSubscribed) -> Event {
        let wire::TopicSubscribed { topic, seq } = subscribed;
        self.seqs.insert(topic.clone(), seq);
        Event::Subscribed { topic, seq }
    }

    /// Ended by this client, or refused when it came back.
    pub(crate) fn ended(&mut self, topic: &str) {
        self.seqs.remove(topic);
        self.due.retain(|due| due != topic);
    }

    /// None: it is of no topic of ours, or from nobody.
    pub(crate) fn message(&mut self, message: wire::TopicMessage) -> Option<Event> {
        let wire::TopicMessage { topic, seq, sender_id, body } = message;
        let sender = UserId::from_wire(&sender_id)?;
        let last = self.seqs.get_mut(&topic)?;
        let missed = seq.saturating_sub(*last + 1);
        *last = seq;
        Some(Event::Published { topic, seq, missed, sender, body })
    }

    /// The next one to be subscribed anew.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.due.pop_front()
    }

    /// Subscriptions ended with their connection.
    pub(crate) fn disconnected(&mut self) {
        self.due = self.seqs.keys().cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, seq: Seq) -> wire::TopicMessage {
        wire::TopicMessage { topic: topic.into(), seq, sender_id: vec![7; 16], body: String::new() }
    }

    /// How many were missed before this one; None if it was not for this client.
    fn missed(topics: &mut Topics, topic: &str, seq: Seq) -> Option<u64> {
        match topics.message(message(topic, seq))? {
            Event::Published { missed, .. } => Some(missed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_missed_is_counted_from_the_subscription_on() {
        let mut topics = Topics::default();
        assert_eq!(missed(&mut topics, "a", 1), None, "never subscribed");
        topics.subscribed(wire::TopicSubscribed { topic: "a".into(), seq: 4 });
        assert_eq!([5, 6, 9, 10].map(|seq| missed(&mut topics, "a", seq)), [Some(0), Some(0), Some(2), Some(0)]);
        assert_eq!(missed(&mut topics, "b", 1), None);
        assert_eq!(topics.message(wire::TopicMessage { sender_id: vec![], ..message("a", 11) }), None, "from nobody");
        topics.disconnected();
        assert_eq!((topics.next().as_deref(), topics.next()), (Some("a"), None));
        topics.subscribed(wire::TopicSubscribed { topic: "a".into(), seq: 0 });
        assert_eq!(missed(&mut topics, "a", 1), Some(0), "counted anew");
        topics.disconnected();
        topics.ended("a");
        assert_eq!((topics.next(), missed(&mut topics, "a", 2)), (None, None));
    }
}
