//! One client that asks for more than its share.

use bowline_protocol::Codec;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{get, pair, server, server_with, until};

const LIMITED: [(&str, &str); 2] = [("BOWLINE_LIMITS_COMMANDS_PER_S", "100"), ("BOWLINE_LIMITS_COMMANDS_BURST", "200")];

/// How many of these replies are of this kind, and the errors among the others.
fn split(replies: Vec<Value>, kind: &str) -> (usize, Vec<Value>) {
    let (of_kind, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.get(kind).is_some());
    (of_kind.len(), others.into_iter().map(|mut reply| reply["error"].take()).collect())
}

async fn ping_all(client: &mut Client, n: usize) -> Vec<Value> {
    let mut replies = Vec::new();
    for id in client.post_all((0..n).map(|_| json!({ "ping": {} }))).await {
        replies.push(client.reply(id).await);
    }
    replies
}

#[tokio::test]
async fn commands_over_the_rate_are_refused_with_when_to_try_again() {
    let node = server_with(&LIMITED).await;
    for codec in Codec::ALL {
        let mut client = Person::new().join_with(&node, codec).await;
        let limits = &client.connected["limits"];
        assert_eq!((&limits["commands_per_s"], &limits["commands_burst"]), (&json!(100), &json!(200)));
        let (answered, refused) = split(ping_all(&mut client, 1_000).await, "pong");
        // What a slow machine lets trickle in beside the burst is answered too.
        assert!(answered >= 198 && !refused.is_empty(), "{answered} answered");
        for error in refused {
            assert_eq!((&error["name"], &error["limit"]), (&json!("rate_limited"), &json!(100)));
            assert!((1..=2_000).contains(&error["retry_after_ms"].as_u64().unwrap()), "{error}");
        }
        until("it is answered again", async || client.ask(json!({ "ping": {} })).await.get("pong").is_some()).await;
    }
}

#[tokio::test]
async fn frames_that_cannot_be_read_count_too() {
    let node = server_with(&LIMITED).await;
    let mut client = Person::new().join(&node).await;
    client.message(Message::text("nonsense\n".repeat(900))).await;
    let mut names = Vec::new();
    for _ in 0..900 {
        names.push(client.push("error").await["name"].as_str().unwrap().to_owned());
    }
    let malformed = names.iter().filter(|name| *name == "malformed").count();
    let limited = names.iter().filter(|name| *name == "rate_limited").count();
    assert!(malformed >= 198 && limited > 0 && malformed + limited == 900, "{malformed} and {limited}");
}

#[tokio::test]
async fn one_that_never_stops_is_cut_and_its_neighbours_chat_on() {
    let node = server_with(&LIMITED).await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut flood = Person::new().join(&node).await;
    let flooding = tokio::spawn(async move {
        let nothing = "{}\n".repeat(5_000);
        flood.message(Message::text(nothing)).await;
        flood.closed().await
    });
    let mut seq = 0;
    for n in 0..50 {
        seq = ada.say(&log, &format!("{n}")).await;
        ben.reaches(&log, seq).await;
    }
    assert_eq!(ben.bodies(&log).len(), 50, "up to {seq}");
    assert_eq!(flooding.await.unwrap(), 4006);
}

#[tokio::test]
async fn a_bomb_of_nested_json_is_one_bad_frame() {
    let node = server().await;
    let mut client = Person::new().join(&node).await;
    for (open, what) in [("[", "lists"), ("{\"a\":", "objects")] {
        let bomb = format!("{{\"id\":900,\"send\":{{\"attrs\":{{\"a\":{}", open.repeat(60_000 / open.len()));
        client.message(Message::text(bomb)).await;
        let error = client.push("error").await;
        assert!(error["name"] == "malformed" || error["name"] == "invalid", "{what}: {error}");
    }
    client.settle().await;
}

#[tokio::test]
async fn a_socket_that_never_connects_is_closed() {
    let node = server_with(&[("BOWLINE_WIRE_HEARTBEAT_MS", "1200")]).await;
    let mut idle = Client::open(node.address(), Codec::Json).await;
    assert_eq!(idle.closed().await, 4005);
}

#[tokio::test]
async fn one_who_never_reads_loses_his_place_with_his_session() {
    let quick = [("BOWLINE_WIRE_CLOSE_TIMEOUT_MS", "200"), ("BOWLINE_WIRE_HEARTBEAT_MS", "600000")];
    let node = server_with(&quick).await;
    let mut ada = Person::new().join(&node).await;
    let ben = Person::new();
    let mut stuck = ben.join_narrow(&node).await;
    let log = ada.group(&[&stuck]).await;
    stuck.member_of(&log).await;
    // More than his kernel and ours take for him.
    for _ in 0..100 {
        ada.say(&log, &"x".repeat(16_000)).await;
    }
    let mut phone = ben.elsewhere().join(&node).await;
    phone.ok(json!({ "session_revoke": { "client_id": new_id(), "session_id": ben.session } })).await;
    until("his place is free", async || get(node.url("/metrics")).await.1.contains("\nbowline_sockets 2\n")).await;
    drop(stuck);
}
