//! Topics: who is answered by whom, and how many a connection may have.

use bowline::conversations::Attachment;
use bowline::session::{Action, Outcome};
use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, client_frame::Kind, server_frame::Kind as Push};
use bowline_protocol::{Code, LogId};

use crate::peer::{Peer, attached, attachment, error, frame, resume};

pub(crate) fn subscribe(topic: &str) -> Kind {
    Kind::TopicSubscribe(wire::TopicSubscribe { topic: topic.into() })
}

pub(crate) fn unsubscribe(topic: &str) -> Kind {
    Kind::TopicUnsubscribe(wire::TopicUnsubscribe { topic: topic.into() })
}

pub(crate) fn publish(topic: &str, body: &str) -> Kind {
    Kind::TopicPublish(wire::TopicPublish { topic: topic.into(), body: body.into() })
}

#[track_caller]
fn assert_done(actions: &[Action], id: u64) {
    let frame = frame(actions);
    assert_eq!((frame.id, &frame.kind), (Some(id), &Some(Push::Done(wire::Done {}))));
}

#[test]
fn a_subscription_is_the_shards_to_make_and_to_answer() {
    let mut peer = Peer::live();
    for _ in 0..2 {
        let (id, actions) = peer.send(subscribe("wind"));
        assert_eq!(actions, [Action::Subscribe { id, topic: "wind".into() }], "twice is once");
    }
    let (id, mut actions) = peer.send(unsubscribe("wind"));
    assert_done(&actions, id);
    assert_eq!(actions.remove(0), Action::Unsubscribe { topic: "wind".into() });
    let (id, actions) = peer.send(unsubscribe("wind"));
    assert_eq!(actions.len(), 1, "there is nothing to end: {actions:?}");
    assert_done(&actions, id);
}

#[test]
fn a_message_is_from_the_user_of_the_token_whether_he_subscribes_or_not() {
    let mut peer = Peer::live();
    let sender = peer.identity.user;
    let (id, actions) = peer.send(publish("wind", "6 Bft"));
    assert_eq!(actions[0], Action::Publish { topic: "wind".into(), sender, body: "6 Bft".into() });
    assert_done(&actions, id);
}

#[test]
fn subscriptions_are_counted_and_what_ended_or_came_twice_does_not_count() {
    let mut peer = Peer::live();
    peer.rules.limits = Limits { topics: 3, ..Limits::default() };
    let refused = |peer: &mut Peer, topic: &str| match frame(&peer.acts(subscribe(topic))).kind.clone() {
        Some(Push::Error(error)) => (error.code, error.field, error.limit),
        other => panic!("not refused: {other:?}"),
    };
    let over = (Code::TooLarge as u32, Some("topic_subscribe.topic".to_owned()), Some(3));
    for topic in ["a", "b", "a", "c", "c"] {
        assert!(matches!(peer.acts(subscribe(topic))[..], [Action::Subscribe { .. }]), "{topic}");
    }
    assert_eq!(refused(&mut peer, "d"), over);
    assert!(matches!(peer.acts(subscribe("b"))[..], [Action::Subscribe { .. }]), "subscribed already");
    peer.acts(unsubscribe("d"));
    assert_eq!(refused(&mut peer, "d"), over, "it was not subscribed");
    peer.acts(unsubscribe("b"));
    assert!(matches!(peer.acts(subscribe("d"))[..], [Action::Subscribe { .. }]));
    for i in 0..5_000 {
        assert_eq!(refused(&mut peer, &format!("more {i}")), over);
    }
}

#[test]
fn nothing_of_topics_before_the_last_resume_and_no_subscription_before_its_reply() {
    let mut peer = Peer::connected(None);
    for kind in [subscribe("wind"), unsubscribe("wind"), publish("wind", "6 Bft")] {
        assert_eq!(error(&peer.acts(kind)), Code::OutOfOrder);
    }
    let (id, _) = peer.send(resume(vec![], false));
    assert_eq!(error(&peer.acts(subscribe("wind"))), Code::OutOfOrder, "a revocation would go unheard");
    let user_replay = Some(attached(peer.identity.user.log()));
    peer.outcome(Outcome::Attached { id, result: Ok(Attachment { user_replay, ..attachment() }) });
    assert!(matches!(peer.acts(subscribe("wind"))[..], [Action::Subscribe { .. }]));
}

#[test]
fn a_topic_is_no_conversation() {
    let mut peer = Peer::live();
    let log = LogId::new();
    peer.acts(subscribe(&log.to_string()));
    let typing = Kind::Typing(wire::SetTyping { log_id: log.to_wire() });
    assert_eq!(error(&peer.acts(typing)), Code::NotFound);
    let mark = Kind::MarkRead(wire::MarkRead { log_id: log.to_wire(), seq: 0 });
    assert_eq!(error(&peer.acts(mark)), Code::NotFound);
}
