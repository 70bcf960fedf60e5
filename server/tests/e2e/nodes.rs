//! Two nodes over one database, with nothing between them but the change feed.

use crate::client::{change, new_id, send};
use crate::person::Person;
use crate::world::{pair, two_nodes};
use serde_json::json;

#[tokio::test]
async fn what_is_sent_on_one_node_arrives_on_the_other_in_order_and_both_ways_at_once() {
    const EACH: usize = 150;
    let (a, b) = two_nodes(&[]).await;
    let (mut ada, ben, log) = pair(&a).await;
    let mut far = ben.person.elsewhere().join(&b).await;
    let there = ada.person.elsewhere().join(&b).await;
    let mut readers = [ben, there];
    let here = async {
        let posted = ada.post_all((0..EACH).map(|n| send(&log, &format!("a {n}")))).await;
        for id in posted {
            assert!(ada.reply(id).await.get("sent").is_some());
        }
    };
    let yonder = async {
        let posted = far.post_all((0..EACH).map(|n| send(&log, &format!("b {n}")))).await;
        for id in posted {
            assert!(far.reply(id).await.get("sent").is_some());
        }
    };
    tokio::join!(here, yonder);
    let last = 1 + 2 * EACH as u64;
    let [ben, there] = &mut readers;
    for reader in [&mut ada, &mut far, ben, there] {
        reader.reaches(&log, last).await;
        let bodies = reader.bodies(&log);
        for side in ["a", "b"] {
            let of_side: Vec<_> = bodies.iter().filter(|body| body.starts_with(side)).collect();
            let expected: Vec<_> = (0..EACH).map(|n| format!("{side} {n}")).collect();
            assert_eq!(of_side, expected.iter().collect::<Vec<_>>());
        }
    }
    assert_eq!(ada.items(&log)[1..], *far.items(&log), "all see one order");
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_sends_loses_nothing_that_it_acked() {
    let (mut a, b) = two_nodes(&[]).await;
    let (mut ada, ben, log) = pair(&a).await;
    let mut far = ben.person.elsewhere().join(&b).await;
    let commands: Vec<_> =
        (0..400).map(|n| change("send", &log, json!({ "client_id": new_id(), "body": n.to_string() }))).collect();
    let posted = ada.post_all(commands.clone()).await;
    // The first ack is out; others are under way.
    let first = ada.reply(posted[0]).await["sent"]["seq"].as_u64().unwrap();
    a.kill().await;
    ada.closed().await;
    let acked = ada.acked();

    // On the other node, with the same ids: what was stored is a repeat, the rest is stored now.
    let mut again = ada.person.resume(&b, &ada).await;
    let (mut seqs, mut repeats) = (Vec::new(), 0);
    for (n, command) in commands.into_iter().enumerate() {
        let stored = again.ok(command).await;
        let seq = stored["seq"].as_u64().unwrap();
        repeats += usize::from(stored["repeat"] == true);
        if let Some(before) = acked.get(&posted[n]) {
            assert_eq!((*before, &stored["repeat"]), (seq, &json!(true)), "acked, and kept");
        }
        seqs.push(seq);
    }
    assert!(repeats > acked.len(), "at least the first");
    assert_eq!(seqs, (first..first + 400).collect::<Vec<_>>());
    far.reaches(&log, first + 399).await;
    assert_eq!(far.bodies(&log), (0..400).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut late = Person::resume(&ben.person, &b, &ben).await;
    late.reaches(&log, first + 399).await;
}
