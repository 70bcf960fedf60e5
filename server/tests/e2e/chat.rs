//! What people do with each other, seen live and when they come back.

use bowline_protocol::Codec;
use serde_json::json;

use crate::client::{Client, change, ids, new_id, send};
use crate::person::Person;
use crate::world::{pair, server};

#[tokio::test]
async fn a_message_sent_twice_is_stored_once_and_the_same_id_for_another_is_refused() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let client_id = new_id();
    let first = change("send", &log, json!({ "client_id": client_id, "body": "once" }));
    let stored = ada.ok(first.clone()).await;
    let again = ada.ok(first).await;
    assert_eq!((&stored["repeat"], &again["repeat"]), (&json!(false), &json!(true)));
    assert_eq!(again["seq"], stored["seq"]);
    let other = ada.refused(change("send", &log, json!({ "client_id": client_id, "body": "else" }))).await;
    assert_eq!(other["name"], "id_reused");

    // The id is the sender's own: another one may use the same.
    let bens = ben.ok(change("send", &log, json!({ "client_id": client_id, "body": "mine" }))).await;
    ben.reaches(&log, bens["seq"].as_u64().unwrap()).await;
    assert_eq!(ben.bodies(&log), ["once", "mine"]);
}

#[tokio::test]
async fn sends_of_one_session_get_their_seqs_in_the_order_in_which_they_came() {
    let node = server().await;
    for codec in Codec::ALL {
        let (ada, ben) = (Person::new(), Person::new());
        let (mut ada, mut ben) = (ada.join_with(&node, codec).await, ben.join_with(&node, codec).await);
        let log = ada.group(&[&ben]).await;
        ben.member_of(&log).await;
        let bodies: Vec<String> = (0..200).map(|n| format!("{n}")).collect();
        let posted = ada.post_all(bodies.iter().map(|body| send(&log, body))).await;
        let mut seqs = Vec::new();
        for id in posted {
            seqs.push(ada.reply(id).await["sent"]["seq"].as_u64().unwrap());
        }
        assert!(seqs.is_sorted_by(|a, b| a + 1 == *b), "{codec:?}: {seqs:?}");
        for reader in [&mut ada, &mut ben] {
            reader.reaches(&log, seqs[199]).await;
            assert_eq!(reader.bodies(&log), bodies);
        }
    }
}

#[tokio::test]
async fn two_who_open_a_direct_conversation_at_once_get_the_same() {
    let node = server().await;
    for _ in 0..5 {
        let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
        let open = |other: &Client| {
            let fields = json!({ "client_id": new_id(), "kind": "direct", "user_ids": ids(&[other]) });
            json!({ "conversation_create": fields })
        };
        let (with_ben, with_ada) = (open(&ben), open(&ada));
        let (one, other) = tokio::join!(ada.ok(with_ben), ben.ok(with_ada));
        assert_eq!(one["log_id"], other["log_id"]);
        assert!(one["existed"] != other["existed"], "one made it, one found it: {one} {other}");
        let log = one["log_id"].as_str().unwrap();
        ada.member_of(log).await;
        ben.member_of(log).await;
        let seq = ada.say(log, "ahoy").await;
        ben.reaches(log, seq).await;
        assert_eq!(ben.bodies(log), ["ahoy"]);
    }
}
