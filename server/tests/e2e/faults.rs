//! The database goes away, and comes back.

use bowline_protocol::Codec;
use bowline_testkit::Cluster;
use serde_json::json;

use crate::client::{Client, change, new_id};
use crate::person::Person;
use crate::world::{get_json, node, pair, until};

#[tokio::test]
async fn fault_postgres_away_and_back() {
    let mut cluster = Cluster::start().await;
    let server = node(&cluster.url(), &[]).await;
    let (mut ada, mut ben, log) = pair(&server).await;
    let before = ada.say(&log, "before").await;
    ben.reaches(&log, before).await;

    let commands: Vec<_> =
        (0..100).map(|n| change("send", &log, json!({ "client_id": new_id(), "body": n.to_string() }))).collect();
    let posted = ada.post_all(commands.clone()).await;
    ada.reply(posted[0]).await;
    cluster.stop().await;
    let mut acked = vec![None; posted.len()];
    for (n, id) in posted.iter().enumerate().skip(1) {
        let reply = ada.reply(*id).await;
        match reply["error"]["name"].as_str() {
            None => acked[n] = reply["sent"]["seq"].as_u64(),
            Some("unavailable") => assert!(reply["error"]["retry_after_ms"].as_u64().is_some(), "{reply}"),
            Some("outcome_unknown") => {}
            Some(_) => panic!("{reply}"),
        }
    }
    for command in [
        change("send", &log, json!({ "body": "nobody keeps it" })),
        json!({ "history": { "log_id": log } }),
        json!({ "conversation_list": {} }),
    ] {
        let error = ada.refused(command.clone()).await;
        assert_eq!(error["name"], "unavailable", "{command}: {error}");
        assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{command}: {error}");
    }
    // Sockets stay open, and what needs no database goes on.
    ada.ok(json!({ "typing": { "log_id": log } })).await;
    ben.push("typing").await;
    let (status, ready) = get_json(server.url("/readyz")).await;
    assert_eq!((status, &ready["database"]), (503, &json!(false)));
    let cem = Person::new();
    let mut early = Client::open(server.address(), Codec::Json).await;
    let connect = json!({ "connect": { "access_token": cem.token() } });
    assert_eq!(early.refused(connect.clone()).await["name"], "unavailable");

    cluster.start_again().await;
    until("the server is ready again", async || get_json(server.url("/readyz")).await.0 == 200).await;
    early.ok(connect).await;
    for (n, command) in commands.into_iter().enumerate() {
        let stored = ada.ok(command).await;
        if let Some(seq) = acked[n] {
            assert_eq!((&stored["seq"], &stored["repeat"]), (&json!(seq), &json!(true)), "acked, and kept");
        }
    }
    ben.reaches(&log, before + 100).await;
    let mut bodies: Vec<String> = ben.bodies(&log)[1..].iter().map(|body| (*body).to_owned()).collect();
    bodies.sort_by_key(|body| body.parse::<u64>().unwrap());
    assert_eq!(bodies, (0..100).map(|n| n.to_string()).collect::<Vec<_>>(), "each once");
    let live = ben.say(&log, "and live again").await;
    ada.reaches(&log, live).await;
    ben.reaches(&log, live).await;
    assert_eq!(ada.items(&log), ben.items(&log));
}
