//! A server that goes, in good order or not, and what it shows of itself.

use serde_json::json;

use crate::client::{change, new_id, send};
use crate::world::{get, get_json, pair, server, server_with};

#[tokio::test]
async fn a_server_that_is_told_to_go_tells_its_clients_and_loses_no_send() {
    let mut node = server_with(&[("BOWLINE_HTTP_DRAIN_MS", "1500")]).await;
    let (mut ada, mut ben, log) = pair(&node).await;
    assert_eq!(get_json(node.url("/readyz")).await.0, 200);
    let commands: Vec<_> =
        (0..200).map(|n| change("send", &log, json!({ "client_id": new_id(), "body": n.to_string() }))).collect();
    let posted = ada.post_all(commands.clone()).await;
    node.terminate();
    for client in [&mut ada, &mut ben] {
        let drain = client.push("drain").await;
        assert!(drain["reconnect_after_ms"].as_u64().unwrap() <= 1_500, "{drain}");
    }
    let (status, ready) = get_json(node.url("/readyz")).await;
    assert_eq!((status, &ready["draining"]), (503, &json!(true)));
    assert_eq!(get(node.url("/healthz")).await.0, 200);
    assert_eq!(ada.closed().await, 4000);
    assert_eq!(ben.closed().await, 4000);
    assert_eq!(node.ended().await.code(), Some(0));
    let acked = ada.acked();
    assert!(!acked.is_empty());

    node.start_again().await;
    let mut again = ada.person.resume(&node, &ada).await;
    let repeated = again.post_all(commands).await;
    for (before, id) in posted.iter().zip(repeated) {
        let sent = again.reply(id).await["sent"].take();
        assert!(sent.is_object());
        if let Some(seq) = acked.get(before) {
            assert_eq!((&sent["seq"], &sent["repeat"]), (&json!(seq), &json!(true)), "acked, and kept");
        }
    }
    let mut back = ben.person.resume(&node, &ben).await;
    back.reaches(&log, 201).await;
    let bodies = [ben.bodies(&log), back.bodies(&log)].concat();
    assert_eq!(bodies, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_stores_once_what_is_sent_again() {
    let mut node = server().await;
    let (mut ada, ben, log) = pair(&node).await;
    let mut ben = ben;
    let mut said = Vec::new();
    for round in 0..4 {
        let bodies: Vec<_> = (0..100).map(|n| format!("{round} {n}")).collect();
        let commands: Vec<_> =
            bodies.iter().map(|body| change("send", &log, json!({ "client_id": new_id(), "body": body }))).collect();
        let posted = ada.post_all(commands.clone()).await;
        ada.reply(posted[round * 5]).await;
        node.kill().await;
        ada.closed().await;
        let acked = ada.acked();
        node.start_again().await;
        ada = ada.person.clone().resume(&node, &ada).await;
        let again = ada.post_all(commands).await;
        for (before, id) in posted.iter().zip(again) {
            let stored = ada.reply(id).await;
            if let Some(seq) = acked.get(before) {
                assert_eq!((&stored["sent"]["seq"], &stored["sent"]["repeat"]), (&json!(seq), &json!(true)));
            }
            assert!(stored.get("sent").is_some(), "{stored}");
        }
        said.extend(bodies);
        ben.closed().await;
        let mut seen: Vec<String> = ben.bodies(&log).into_iter().map(str::to_owned).collect();
        ben = ben.person.clone().resume(&node, &ben).await;
        ben.reaches(&log, 1 + said.len() as u64).await;
        seen.extend(ben.bodies(&log).into_iter().map(str::to_owned));
        let from = said.len() - seen.len();
        assert_eq!(seen, said[from..], "each once, in order");
        ben.forget(&log);
    }
}

#[tokio::test]
async fn a_server_shows_that_it_lives_and_what_it_does() {
    let node = server().await;
    assert_eq!(get(node.url("/healthz")).await.0, 200);
    assert_eq!(get_json(node.url("/readyz")).await, (200, json!({ "database": true, "draining": false })));
    let (mut ada, mut ben, log) = pair(&node).await;
    let sends = 7;
    for n in 0..sends {
        ada.ok(send(&log, &n.to_string())).await;
    }
    ben.reaches(&log, 1 + sends).await;
    let (_, text) = get(node.url("/metrics")).await;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    assert_eq!(value("bowline_sockets"), 2.0);
    assert_eq!(value("bowline_log_commands_total"), 1.0 + sends as f64);
    assert!(value("bowline_deliveries_total") >= 2.0 * sends as f64);
    assert!(value("bowline_log_batch_seconds_count") >= 1.0);
    assert!((1.0..=15.0).contains(&value("bowline_database_connections")));
    assert!(value("bowline_database_connections_in_use") <= value("bowline_database_connections"));
    assert_eq!(value("bowline_database_waiting"), 0.0);
    assert!(text.ends_with("# EOF\n"));
}
