//! Topics: which ones a connection is subscribed to is known by its shard; how many it may be is decided here.

use bowline_protocol::Failure;
use bowline_protocol::wire::{self, ServerFrame, server_frame::Kind as Push};

use super::action::Action;
use super::live::Live;
use super::{Context, fail, reply};

pub(super) fn subscribe(live: &mut Live, id: u64, topic: String, cx: &Context<'_>, out: &mut Vec<Action>) {
    if (cx.topic)(&topic).is_none() {
        let limit = cx.rules.limits.topics;
        if u64::from(live.topics) >= limit {
            let message = Some("too many topics on one connection".to_owned());
            return fail(id, Failure { message, ..Failure::too_large("topic_subscribe.topic", limit) }, out);
        }
        live.topics = live.topics.saturating_add(1);
    }
    out.push(Action::Subscribe { id, topic });
}

pub(super) fn unsubscribe(live: &mut Live, id: u64, topic: String, cx: &Context<'_>, out: &mut Vec<Action>) {
    if (cx.topic)(&topic).is_some() {
        live.topics = live.topics.saturating_sub(1);
        out.push(Action::Unsubscribe { topic });
    }
    reply(id, Push::Done(wire::Done {}), out);
}

/// The reply to [`Action::Subscribe`].
pub(crate) fn subscribed(id: u64, topic: String, seq: u64) -> ServerFrame {
    ServerFrame { id: Some(id), kind: Some(Push::TopicSubscribed(wire::TopicSubscribed { topic, seq })) }
}
