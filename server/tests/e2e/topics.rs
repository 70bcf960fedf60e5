//! Topics: live messages that are in no log.

use bowline_client::{Client as Sdk, Config, Event, Events, TokenSource};
use bowline_protocol::Codec;
use bowline_testkit::Server;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, change, new_id, send};
use crate::person::Person;
use crate::world::{PATIENCE, get, pair, server, until};

const TOPIC: &str = "harbour/wind";

fn subscribe(topic: &str) -> Value {
    json!({ "topic_subscribe": { "topic": topic } })
}

fn unsubscribe(topic: &str) -> Value {
    json!({ "topic_unsubscribe": { "topic": topic } })
}

fn publish(topic: &str, body: &str) -> Value {
    json!({ "topic_publish": { "topic": topic, "body": body } })
}

async fn metric(node: &Server, name: &str) -> u64 {
    let (_, metrics) = get(node.url("/metrics")).await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&format!("bowline_{name} ")));
    value.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

#[tokio::test]
async fn what_is_published_comes_to_all_subscribers_under_the_name_of_the_token() {
    let node = server().await;
    let (ada, ben) = (Person::new(), Person::new());
    let (mut ada, mut ben) = (ada.join(&node).await, ben.join_with(&node, Codec::Proto).await);
    assert_eq!(ada.ok(publish(TOPIC, "to nobody")).await, json!({}));
    assert_eq!(ada.ok(subscribe(TOPIC)).await, json!({ "topic": TOPIC, "seq": 0 }));
    let mut forged = publish(TOPIC, "6 Bft ⛵");
    forged["topic_publish"]["sender_id"] = ada.person.user.clone().into();
    ben.ok(forged).await;
    let by_ben = json!({ "topic": TOPIC, "seq": 1, "sender_id": ben.person.user, "body": "6 Bft ⛵" });
    assert_eq!(ada.push("topic_message").await, by_ben);

    assert_eq!(ben.ok(subscribe(TOPIC)).await["seq"], 1);
    assert_eq!(ben.ok(subscribe(TOPIC)).await["seq"], 1, "twice is once");
    ada.ok(publish(TOPIC, "mine")).await;
    let by_ada = json!({ "topic": TOPIC, "seq": 2, "sender_id": ada.person.user, "body": "mine" });
    for client in [&mut ada, &mut ben] {
        assert_eq!(client.push("topic_message").await, by_ada);
    }

    assert_eq!(ben.ok(unsubscribe(TOPIC)).await, json!({}));
    assert_eq!(ben.ok(unsubscribe(TOPIC)).await, json!({}), "of what is not subscribed");
    ada.ok(publish(TOPIC, "without ben")).await;
    assert_eq!(ada.push("topic_message").await["seq"], 3);
    ben.settle().await;
    assert_eq!(ben.waiting("topic_message"), 0);
}

#[tokio::test]
async fn a_message_of_commands_is_carried_out_one_after_the_other() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let commands = [
        subscribe(TOPIC),
        publish(TOPIC, "1"),
        subscribe(TOPIC),
        unsubscribe(TOPIC),
        publish(TOPIC, "lost"),
        subscribe(TOPIC),
        publish(TOPIC, "last"),
    ];
    let lines: Vec<String> = (1_000..)
        .zip(commands)
        .map(|(id, mut command)| {
            command["id"] = id.into();
            command.to_string()
        })
        .collect();
    ada.message(Message::text(lines.join("\n"))).await;
    let mut seqs = Vec::new();
    for id in [1_000, 1_002, 1_005] {
        seqs.push(ada.reply(id).await["topic_subscribed"]["seq"].as_u64().unwrap());
    }
    assert!(seqs[1] >= seqs[0] && seqs[2] >= seqs[1], "{seqs:?}");
    let last = ada.push_where("topic_message", |message| message["body"] == "last").await;
    assert_eq!(last["seq"], seqs[2] + 1);
    ada.ok(unsubscribe(TOPIC)).await;
    ada.ok(publish(TOPIC, "to nobody")).await;
    assert_eq!(ada.ok(subscribe(TOPIC)).await["seq"], 0, "nobody was left");
}

#[tokio::test]
async fn subscriptions_beyond_the_limit_are_refused_and_take_no_memory() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let limits = ada.connected["limits"].clone();
    assert_eq!((&limits["topics"], &limits["topic_bytes"]), (&json!(256), &json!(128)));
    let before = metric(&node, "followed_logs").await;
    let (mut taken, mut refused) = (0, 0);
    for chunk in (0..5_000).collect::<Vec<_>>().chunks(100) {
        let posted = ada.post_all(chunk.iter().map(|n| subscribe(&format!("topic {n}")))).await;
        for id in posted {
            let reply = ada.reply(id).await;
            let error = &reply["error"];
            if error.is_null() {
                taken += 1;
            } else {
                let expected = (&json!("too_large"), &json!("topic_subscribe.topic"), &json!(256));
                assert_eq!((&error["name"], &error["field"], &error["limit"]), expected);
                refused += 1;
            }
        }
    }
    assert_eq!((taken, refused), (256, 5_000 - 256));
    assert_eq!(metric(&node, "followed_logs").await, before + 256);
    ada.ok(unsubscribe("topic 7")).await;
    ada.ok(subscribe("one more")).await;
    assert_eq!(ada.refused(subscribe("too many")).await["name"], "too_large");
    ada.ok(publish("one more", "hello")).await;
    assert_eq!(ada.push("topic_message").await["topic"], "one more");
    drop(ada);
    until("all of it is forgotten", async || metric(&node, "followed_logs").await < before).await;
}

#[tokio::test]
async fn names_and_bodies_have_limits() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    ada.ok(subscribe(&"é".repeat(64))).await;
    for (command, name, field, limit) in [
        (subscribe(""), "invalid", "topic_subscribe.topic", Value::Null),
        (subscribe("a\u{0}"), "invalid", "topic_subscribe.topic", Value::Null),
        (subscribe(&"é".repeat(65)), "too_large", "topic_subscribe.topic", json!(128)),
        (unsubscribe(&"x".repeat(129)), "too_large", "topic_unsubscribe.topic", json!(128)),
        (publish(&"x".repeat(129), ""), "too_large", "topic_publish.topic", json!(128)),
        (publish(TOPIC, &"x".repeat(16_385)), "too_large", "topic_publish.body", json!(16_384)),
        (publish(TOPIC, "a\u{0}"), "invalid", "topic_publish.body", Value::Null),
        (json!({ "topic_publish": { "topic": 7 } }), "invalid", "topic_publish.topic", Value::Null),
    ] {
        let error = ada.refused(command.clone()).await;
        let is = (&error["name"], &error["field"], &error["limit"]);
        assert_eq!(is, (&json!(name), &json!(field), &limit), "{command}");
    }
}

#[tokio::test]
async fn a_topic_is_no_conversation_whatever_it_is_called() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut eve = Person::new().join(&node).await;
    let nowhere = new_id();
    for name in [&log, &nowhere, &ada.person.user] {
        eve.ok(subscribe(name)).await;
    }
    let seq = ada.say(&log, "among us").await;
    ben.reaches(&log, seq).await;
    eve.ok(publish(&log, "not among you")).await;
    assert_eq!(eve.push("topic_message").await["body"], "not among you");
    for name in [&log, &nowhere, &ada.person.user] {
        let log_id = json!({ "log_id": name });
        for command in [
            send(name, "hello"),
            change("react", name, json!({ "target_seq": 1, "emoji": "⛵" })),
            json!({ "typing": log_id }),
            json!({ "mark_read": log_id }),
            json!({ "history": log_id }),
            json!({ "conversation_open": log_id }),
        ] {
            assert_eq!(eve.refused(command.clone()).await["name"], "not_found", "{command}");
        }
    }
    for client in [&mut ada, &mut ben, &mut eve] {
        client.settle().await;
        let pushes = [client.waiting("topic_message"), client.waiting("typing")];
        assert_eq!((pushes, client.bodies(&nowhere).len()), ([0, 0], 0));
    }
    assert_eq!((eve.bodies(&log).len(), ben.bodies(&log)), (0, vec!["among us"]));
}

#[tokio::test]
async fn a_subscription_ends_with_its_connection() {
    let node = server().await;
    let (ada, mut ben) = (Person::new(), Person::new().join(&node).await);
    let mut before = ada.join(&node).await;
    before.ok(subscribe(TOPIC)).await;
    ben.ok(publish(TOPIC, "1")).await;
    assert_eq!(before.push("topic_message").await["seq"], 1);
    let followed = metric(&node, "followed_logs").await;
    drop(before);
    until("the connection is gone", async || metric(&node, "followed_logs").await < followed).await;
    let mut after: Client = ada.join(&node).await;
    ben.ok(publish(TOPIC, "in between")).await;
    assert_eq!(after.ok(subscribe(TOPIC)).await["seq"], 0, "counted anew");
    ben.ok(publish(TOPIC, "then")).await;
    assert_eq!(after.push("topic_message").await["body"], "then");
}

/// The next thing that concerns topics.
async fn next(events: &mut Events) -> Event {
    let next = async {
        loop {
            let event = events.next().await.expect("not ended");
            if matches!(event, Event::Subscribed { .. } | Event::Published { .. }) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("in time")
}

fn published(seq: u64, sender: &Person, body: &str) -> Event {
    let sender = sender.user.parse().unwrap();
    Event::Published { topic: TOPIC.into(), seq, missed: 0, sender, body: body.into() }
}

#[tokio::test]
async fn two_clients_of_the_library_talk_and_are_back_after_a_cut() {
    let node = server().await;
    let (ada, ben) = (Person::new(), Person::new());
    let start = |person: &Person| Sdk::start(Config::new(node.url(""), TokenSource::Fixed(person.token()))).unwrap();
    let ((ada_sdk, mut ada_events), (ben_sdk, mut ben_events)) = (start(&ada), start(&ben));
    let subscribed = |seq| Event::Subscribed { topic: TOPIC.into(), seq };
    assert_eq!(ada_sdk.subscribe(TOPIC).await.unwrap(), 0);
    assert_eq!(next(&mut ada_events).await, subscribed(0));
    ben_sdk.publish(TOPIC, "from ben").await.unwrap();
    assert_eq!(next(&mut ada_events).await, published(1, &ben, "from ben"));
    assert_eq!(ben_sdk.subscribe(TOPIC).await.unwrap(), 1);
    assert_eq!(next(&mut ben_events).await, subscribed(1));
    ada_sdk.publish(TOPIC, "from ada").await.unwrap();
    for events in [&mut ada_events, &mut ben_events] {
        assert_eq!(next(events).await, published(2, &ada, "from ada"));
    }

    ben_sdk.cut().await.unwrap();
    assert_eq!(next(&mut ben_events).await, subscribed(2));
    ada_sdk.publish(TOPIC, "back").await.unwrap();
    for events in [&mut ada_events, &mut ben_events] {
        assert_eq!(next(events).await, published(3, &ada, "back"));
    }
    ben_sdk.unsubscribe(TOPIC).await.unwrap();
    ada_sdk.publish(TOPIC, "alone").await.unwrap();
    assert_eq!(next(&mut ada_events).await, published(4, &ada, "alone"));
}
