//! Topics over reconnects.

use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Push;
use bowline_protocol::{Codec, Seq, wire};

use super::server::{Server, room};
use super::{fixed, next, why};
use crate::{Error, Event, Events};

/// The topic and seq of the next subscription, and of the next message with how many were missed before it.
async fn topic_event(events: &mut Events) -> (String, Seq, Option<u64>) {
    loop {
        match next(events).await {
            Event::Subscribed { topic, seq } => return (topic, seq, None),
            Event::Published { topic, seq, missed, .. } => return (topic, seq, Some(missed)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn topics_are_subscribed_again_after_a_cut_and_what_was_missed_is_told() {
    let topic = || "harbour/wind".to_owned();
    let message =
        |seq| Push::TopicMessage(wire::TopicMessage { topic: topic(), seq, sender_id: vec![7; 16], body: "6".into() });
    let subscribed = |seq| Push::TopicSubscribed(wire::TopicSubscribed { topic: topic(), seq });
    for codec in Codec::ALL {
        let server = Server::start(codec).await;
        let (client, mut events) = server.client(fixed(), 16);
        let (mut peer, ..) = server.resumed(30_000).await;
        let asking = client.clone();
        let subscribing = tokio::spawn(async move { asking.subscribe("harbour/wind").await });
        let (id, ask) = peer.next().await;
        assert_eq!(ask, Ask::TopicSubscribe(wire::TopicSubscribe { topic: topic() }));
        peer.push(Some(id), subscribed(41)).await;
        assert_eq!(subscribing.await.expect("ran").expect("subscribed"), 41);
        assert_eq!(topic_event(&mut events).await, (topic(), 41, None));
        for (seq, missed) in [(42, 0), (50, 7)] {
            peer.push(None, message(seq)).await;
            assert_eq!(topic_event(&mut events).await, (topic(), seq, Some(missed)));
        }
        peer.cut();
        let (mut peer, ..) = server.resumed(30_000).await;
        let (id, ask) = peer.next().await;
        assert_eq!(ask, Ask::TopicSubscribe(wire::TopicSubscribe { topic: topic() }), "by itself");
        peer.push(Some(id), subscribed(3)).await;
        assert_eq!(topic_event(&mut events).await, (topic(), 3, None), "counted anew");
        peer.push(None, message(4)).await;
        assert_eq!(topic_event(&mut events).await, (topic(), 4, Some(0)));

        let asking = client.clone();
        let ending = tokio::spawn(async move { asking.unsubscribe("harbour/wind").await });
        let (id, _) = peer.next().await;
        peer.push(Some(id), Push::Done(wire::Done {})).await;
        ending.await.expect("ran").expect("unsubscribed");
        peer.cut();
        let (mut peer, ..) = server.resumed(30_000).await;
        let asking = client.clone();
        let renaming = tokio::spawn(async move { asking.rename(room(), "new").await });
        let (id, ask) = peer.next().await;
        assert!(matches!(ask, Ask::ConversationRename(_)), "not subscribed again: {ask:?}");
        peer.push(Some(id), Push::Stored(wire::Stored { log_id: room().to_wire(), ..Default::default() })).await;
        renaming.await.expect("ran").expect("renamed");
    }
}

#[tokio::test]
async fn what_was_published_is_not_published_twice() {
    let server = Server::start(Codec::Proto).await;
    let (client, mut events) = server.client(fixed(), 16);
    let (mut peer, ..) = server.resumed(30_000).await;
    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish("harbour/wind", "6 Bft").await }
    });
    assert!(matches!(peer.next().await.1, Ask::TopicPublish(_)));
    peer.cut();
    assert!(matches!(publishing.await.expect("ran"), Err(Error::Disconnected)));
    why(&mut events).await;
    let (mut peer, ..) = server.resumed(30_000).await;
    let second = tokio::spawn(async move { client.publish("harbour/wind", "second").await });
    let (id, ask) = peer.next().await;
    assert!(matches!(ask, Ask::TopicPublish(publish) if publish.body == "second"));
    peer.push(Some(id), Push::Done(wire::Done {})).await;
    second.await.expect("ran").expect("published");
}
