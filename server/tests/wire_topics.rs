//! Topics over real sockets: what is in no log, on the path of what is.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bowline::wire::Config;
use bowline_protocol::wire::TopicMessage;
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::{Codec, Seq, UserId};
use support::client::Client;
use support::node::{Node, until};

const TOPIC: &str = "harbour/wind";

async fn client(node: &Node, codec: Codec) -> Client {
    Client::connect(node.address, UserId::new(), codec).await
}

/// Where the socket stands in the topic after an order.
async fn order(client: &mut Client, order: &str) -> Option<Seq> {
    client.order(format!("!{order} {TOPIC}")).await;
    match client.notice().await.as_str() {
        "None" => None,
        some => some.trim_start_matches("Some(").trim_end_matches(')').parse().ok(),
    }
}

async fn subscriber(node: &Node, codec: Codec) -> Client {
    let mut client = client(node, codec).await;
    order(&mut client, "subscribe").await.expect("subscribed");
    client
}

async fn next(client: &mut Client) -> TopicMessage {
    match client.frame().await {
        Kind::TopicMessage(message) => message,
        other => panic!("not a topic's message: {other:?}"),
    }
}

fn publish(node: &Node, sender: UserId, body: impl Into<String>) {
    node.shards.publish_topic(TOPIC.into(), sender, body.into());
}

/// Reads until this seq; the messages in between.
async fn read_to(client: &mut Client, seq: Seq) -> Vec<TopicMessage> {
    let mut messages: Vec<TopicMessage> = Vec::new();
    while messages.last().is_none_or(|last| last.seq < seq) {
        let message = next(client).await;
        assert!(messages.last().is_none_or(|last| last.seq < message.seq), "a step back to {}", message.seq);
        messages.push(message);
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_gets_what_is_published_from_then_on_in_his_codec() {
    let node = Node::start(Config { shards: 2, ..Config::default() });
    let mut clients = Vec::new();
    for i in 0..8 {
        clients.push(subscriber(&node, Codec::ALL[i % 2]).await);
    }
    let sender = UserId::new();
    let bodies = ["6 Bft", "", "grüße\n\"⛵\"", &"x".repeat(70_000)];
    for body in bodies {
        publish(&node, sender, body);
    }
    for client in &mut clients {
        for (i, body) in bodies.iter().enumerate() {
            let message = next(client).await;
            let expected = (TOPIC, i as Seq + 1, sender.to_wire(), *body);
            let TopicMessage { topic, seq, sender_id, body } = message;
            assert_eq!((topic.as_str(), seq, sender_id, body.as_str()), expected);
        }
    }
    let mut late = client(&node, Codec::Json).await;
    assert_eq!(order(&mut late, "subscribe").await, Some(4));
    publish(&node, sender, "late");
    assert_eq!(next(&mut late).await.seq, 5);
    assert_eq!(node.all_reads(), 0, "nothing of it is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_subscribers_see_one_order_and_each_publisher_keeps_his_own() {
    const EACH: usize = 400;
    let node = Arc::new(Node::start(Config { shards: 2, ..Config::default() }));
    let mut clients = Vec::new();
    for i in 0..4 {
        clients.push(subscriber(&node, Codec::ALL[i % 2]).await);
    }
    let publishers = [(); 3].map(|()| UserId::new());
    let threads = publishers.map(|publisher| {
        let node = Arc::clone(&node);
        tokio::task::spawn_blocking(move || (0..EACH).for_each(|i| publish(&node, publisher, i.to_string())))
    });
    for thread in threads {
        thread.await.expect("published");
    }
    let total = (EACH * publishers.len()) as Seq;
    let first = read_to(&mut clients[0], total).await;
    assert_eq!(first.iter().map(|message| message.seq).collect::<Vec<_>>(), (1..=total).collect::<Vec<_>>());
    for publisher in publishers {
        let own = first.iter().filter(|message| message.sender_id == publisher.to_wire());
        assert!(own.map(|message| message.body.clone()).eq((0..EACH).map(|i| i.to_string())));
    }
    for client in &mut clients[1..] {
        assert_eq!(read_to(client, total).await, first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_skips_visibly_and_nobody_else_feels_it() {
    const TAIL_BYTES: usize = 200_000;
    const MESSAGES: Seq = 3_000;
    for codec in Codec::ALL {
        let heartbeat = Duration::from_secs(3);
        let node = Node::start(Config { tail_bytes: TAIL_BYTES, heartbeat, ..Config::default() });
        let mut slow = Client::with_window(node.address, UserId::new(), codec, Some(4096)).await;
        order(&mut slow, "subscribe").await.expect("subscribed");
        let mut quick = subscriber(&node, codec).await;
        let mut got = Vec::new();
        for i in 1..=MESSAGES {
            publish(&node, UserId::new(), format!("{i} {}", "x".repeat(1_000)));
            if i % 20 == 0 {
                got.extend(read_to(&mut quick, i).await);
            }
        }
        assert!(got.iter().map(|message| message.seq).eq(1..=MESSAGES), "{codec:?}");

        let got = read_to(&mut slow, MESSAGES).await;
        let missing = MESSAGES - got.len() as Seq;
        assert!(missing > 0, "{codec:?}: it was never behind");
        assert!(got.iter().all(|message| message.body.starts_with(&format!("{} ", message.seq))));
        until("the loss is counted", || node.metric("topic_messages_lost_total") == missing).await;
        until("memory is measured", || node.metric("tail_bytes") > 0).await;
        assert!(node.metric("tail_bytes") <= TAIL_BYTES as u64);
        publish(&node, UserId::new(), "live");
        assert_eq!(next(&mut slow).await.seq, MESSAGES + 1, "and it goes on");
        assert_eq!((node.all_reads(), node.closed()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_leaves_while_it_goes_on_gets_nothing_more_and_the_others_all() {
    let node = Arc::new(Node::start(Config { shards: 2, ..Config::default() }));
    const MESSAGES: Seq = 2_000;
    let mut staying = Vec::new();
    for i in 0..20 {
        staying.push(subscriber(&node, Codec::ALL[i % 2]).await);
    }
    let leaving = (0..40).map(|i| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let mut client = subscriber(&node, Codec::ALL[i % 2]).await;
            for _ in 0..5 {
                let first = next(&mut client).await.seq;
                read_to(&mut client, first + 20).await;
                // What was written before the order may still come; after its answer, nothing.
                client.order(format!("!unsubscribe {TOPIC}")).await;
                while matches!(client.frame().await, Kind::TopicMessage(_)) {}
                assert_eq!(order(&mut client, "topic").await, None);
                let seq = order(&mut client, "subscribe").await.expect("subscribed");
                assert_eq!(next(&mut client).await.seq, seq + 1);
            }
        })
    });
    let leaving: Vec<_> = leaving.collect();
    let mut sent = 0;
    while sent < MESSAGES || !leaving.iter().all(|task| task.is_finished()) {
        sent += 1;
        publish(&node, UserId::new(), sent.to_string());
        if sent % 10 == 0 {
            // No faster than they read, so that nobody is to lose anything.
            for client in &mut staying {
                let got = read_to(client, sent).await;
                assert!(got.iter().map(|message| message.seq).eq(sent - 9..=sent));
            }
        }
    }
    for task in leaving {
        task.await.expect("as expected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_subscribers_is_nothing_and_begins_anew() {
    let node = Node::start(Config::default());
    publish(&node, UserId::new(), "to nobody");
    let mut one = client(&node, Codec::Proto).await;
    assert_eq!(order(&mut one, "unsubscribe").await, None);
    assert_eq!(order(&mut one, "subscribe").await, Some(0));
    publish(&node, UserId::new(), "to one");
    assert_eq!(next(&mut one).await.seq, 1);
    assert_eq!(order(&mut one, "subscribe").await, Some(1), "twice is once");
    assert_eq!(order(&mut one, "again").await, Some(1), "within one call");
    let mut other = subscriber(&node, Codec::Json).await;
    publish(&node, UserId::new(), "to two");
    assert_eq!((next(&mut one).await.seq, next(&mut other).await.seq), (2, 2));

    drop(other);
    assert_eq!(order(&mut one, "unsubscribe").await, None);
    until("nobody is there", || node.metric("followed_logs") == 0).await;
    publish(&node, UserId::new(), "to nobody");
    assert_eq!(order(&mut one, "subscribe").await, Some(0));
    publish(&node, UserId::new(), "to one");
    assert_eq!(next(&mut one).await.seq, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shard_has_no_room_for_is_a_jump_too() {
    let node = Node::start(Config { inbox_entries: 8, ..Config::default() });
    let mut client = subscriber(&node, Codec::Proto).await;
    let mut last = 0;
    until("more came at once than the shard takes", || {
        (0..2_000).for_each(|_| publish(&node, UserId::new(), "x"));
        last += 2_000;
        node.metric("topic_messages_lost_total") > 0
    })
    .await;
    // Once around, the shard has taken what waited; twice, also what came while it was on the way.
    let mut got = Vec::new();
    for _ in 0..2 {
        client.order(format!("!topic {TOPIC}")).await;
        while let Kind::TopicMessage(message) = client.frame().await {
            got.push(message.seq);
        }
    }
    assert!(got.is_sorted() && (got.len() as Seq) < last);
    publish(&node, UserId::new(), "the last");
    assert_eq!(read_to(&mut client, last + 1).await.len(), 1);
}
