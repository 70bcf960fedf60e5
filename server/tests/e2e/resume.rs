//! Coming back: exactly what was missed, once; and what can't be given is said aloud.

use bowline_protocol::Codec;
use bowline_testkit::Server;
use serde_json::{Value, json};

use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{pair, server, server_with};

fn of<'a>(log: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |push| push["log_id"] == *log
}

#[tokio::test]
async fn cursors_give_exactly_what_was_missed_and_each_named_log_catches_up() {
    let node = server().await;
    let (mut ada, ben, first) = pair(&node).await;
    let (second, third) = (ada.group(&[&ben]).await, ada.group(&[&ben]).await);
    let away = ben.vanish();
    let seqs = |said: &[(usize, u64)], log: usize| said.iter().filter(|s| s.0 == log).map(|s| s.1).collect::<Vec<_>>();
    let logs = [&first, &second, &third];
    for codec in Codec::ALL {
        for _ in 0..2 {
            let mut stands = Vec::new();
            for log in logs {
                stands.push(ada.say(log, "had it").await);
            }
            let mut said = Vec::new();
            for n in 0..80 {
                said.push((n % 2, ada.say(logs[n % 2], &format!("{n}")).await));
            }
            let mut back = away.person.connect(&node, codec, json!({})).await;
            let nowhere = new_id();
            let cursor = |log: &str, seq: u64| json!({ "log_id": log, "seq": seq, "epoch": back.connected["epoch"] });
            let cursors: Vec<_> = logs.into_iter().zip(&stands).map(|(log, seq)| cursor(log, *seq)).collect();
            let (named, more) = (json!([cursors[0], cursor(&nowhere, 7)]), json!([cursors[1], cursors[2]]));
            for (log, seq) in logs.into_iter().zip(&stands) {
                back.stand_at(log, *seq);
            }
            back.ok(json!({ "resume": { "cursors": named, "more": true } })).await;
            assert_eq!(back.ok(json!({ "resume": { "cursors": more } })).await["logs"], 3);
            assert_eq!(back.push("not_found").await["log_id"], *nowhere);
            for (n, log) in logs.into_iter().enumerate() {
                let caught_up = back.push_where("caught_up", of(log)).await;
                assert_eq!(back.seqs(log), seqs(&said, n), "{codec:?}");
                assert_eq!(caught_up["seq"], said.iter().rfind(|s| s.0 == n).map_or(stands[n], |s| s.1));
            }
            let live = ada.say(&third, "live").await;
            back.reaches(&third, live).await;
            assert_eq!(back.seqs(&third), [live]);
            assert_eq!((back.waiting("caught_up"), back.waiting("not_found")), (0, 0));
        }
    }
}

#[tokio::test]
async fn what_is_said_while_one_comes_back_is_neither_lost_nor_twice() {
    let node = server().await;
    let (mut ada, ben, log) = pair(&node).await;
    let person = ben.person.clone();
    let mut before = ben;
    let mut all = before.seqs(&log);
    let talking = async {
        let mut last = 0;
        for n in 0..200 {
            last = ada.say(&log, &format!("{n}")).await;
        }
        last
    };
    let coming_back = async {
        for _ in 0..12 {
            let mut back = person.resume(&node, &before).await;
            let next = back.position(&log) + 5;
            back.reaches(&log, next.min(201)).await;
            all.extend(back.seqs(&log));
            before = back;
        }
        before
    };
    let (last, before) = tokio::join!(talking, coming_back);
    let mut back = person.resume(&node, &before).await;
    back.reaches(&log, last).await;
    all.extend(back.seqs(&log));
    assert_eq!(all, (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gap_that_is_too_large_is_said_and_the_client_decides_where_to_go_on() {
    let node = server_with(&[("BOWLINE_LIMITS_REPLAY_ENTRIES", "10")]).await;
    let (mut ada, ben, log) = pair(&node).await;
    assert_eq!(ada.connected["limits"]["replay_entries"], 10);
    let away = ben.vanish();
    let mut last = 0;
    for n in 0..10 {
        last = ada.say(&log, &format!("{n}")).await;
    }
    let mut back = away.person.resume(&node, &away).await;
    back.push_where("caught_up", of(&log)).await;
    assert_eq!((back.seqs(&log).len(), back.waiting("gap_too_large")), (10, 0), "as many as are announced");

    last = last.max(ada.say(&log, "one too many").await);
    let mut back = away.person.resume(&node, &away).await;
    assert_eq!(back.push("gap_too_large").await, json!({ "log_id": log, "head": last }));
    assert_eq!(back.push_where("caught_up", of(&log)).await["seq"], last);
    let live = ada.say(&log, "live").await;
    back.reaches(&log, live).await;
    assert_eq!(back.seqs(&log), [live]);

    assert!(back.open_at(&log, last - 3).await.get("done").is_some());
    back.reaches(&log, live).await;
    assert_eq!(back.seqs(&log), (last - 2..=live).collect::<Vec<_>>());
    assert_eq!(back.push_where("caught_up", of(&log)).await["seq"], live);
    back.open_at(&log, 0).await;
    back.push_where("caught_up", of(&log)).await;
    assert_eq!(back.seqs(&log), (1..=live).collect::<Vec<_>>(), "all, since he asks for it");
    assert_eq!(back.waiting("gap_too_large"), 0);
}

#[tokio::test]
async fn moving_in_ones_own_log_loses_nothing_of_what_happens_to_one() {
    let node = server().await;
    let (mut ada, mut ben, _) = pair(&node).await;
    let own = ben.person.user.clone();
    ben.open_at(&own, 0).await;
    ben.push_where("caught_up", of(&own)).await;
    let log = ada.group(&[&ben]).await;
    ben.member_of(&log).await;
    ben.open_at(&own, 0).await;
    ben.push_where("caught_up", of(&own)).await;
    let seq = ada.say(&log, "once").await;
    ben.reaches(&log, seq).await;
    assert_eq!(ben.seqs(&log), [1, 2]);
    let mut phone = ben.person.elsewhere().join(&node).await;
    let revoke = json!({ "client_id": new_id(), "session_id": ben.person.session });
    phone.ok(json!({ "session_revoke": revoke })).await;
    assert_eq!(ben.closed().await, 4200);
}

#[tokio::test]
async fn after_a_restore_sockets_close_and_what_is_unsure_is_said() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let kept = ada.say(&log, "kept").await;
    ben.reaches(&log, kept).await;
    assert_eq!(ben.connected["epoch"], 1);
    assert!(node.run(&["epoch", "bump"]).await.contains('2'));
    assert_eq!((ada.closed().await, ben.closed().await), (4003, 4003));

    // He has seen two entries that the restored database does not have.
    let (ada_person, ben_person) = (ada.person.clone(), ben.person.clone());
    ben.stand_at(&log, kept + 2);
    let mut ada = join_epoch(&ada_person, &node, 2).await;
    let other = ada.say(&log, "another history").await;
    assert_eq!(other, kept + 1);
    let mut back = ben_person.resume(&node, &ben).await;
    let reset = back.push_where("reset", of(&log)).await;
    assert_eq!(reset, json!({ "log_id": log, "first_unsure_seq": kept + 1, "epoch": 2 }));
    back.push_where("caught_up", of(&log)).await;
    assert_eq!(back.bodies(&log), ["another history"]);
    let live = ada.say(&log, "live").await;
    back.reaches(&log, live).await;
    assert_eq!(back.seqs(&log), [other, live]);
}

async fn join_epoch(person: &Person, node: &Server, epoch: u64) -> Client {
    let client = person.join(node).await;
    assert_eq!(client.connected["epoch"], epoch);
    client
}
