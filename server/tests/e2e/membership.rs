//! Who comes, goes and comes back sees what is for him, once, and nothing else.

use serde_json::json;

use crate::client::{Client, change};
use crate::person::Person;
use crate::world::{pair, server, two_nodes};

impl Client {
    async fn add(&mut self, log: &str, person: &Person) -> u64 {
        self.change("conversation_add", log, json!({ "user_ids": [person.user] })).await
    }

    async fn remove(&mut self, log: &str, person: &Person) -> u64 {
        self.change("conversation_remove", log, json!({ "user_id": person.user })).await
    }
}

#[tokio::test]
async fn one_who_is_added_while_connected_gets_the_conversation_from_there_on() {
    let (a, b) = two_nodes(&[]).await;
    let (mut ada, mut ben, log) = pair(&a).await;
    ada.say(&log, "before").await;
    let (cem, dan) = (Person::new(), Person::new());
    let (mut here, mut there) = (cem.join(&a).await, dan.join(&b).await);
    let users = [cem.user.clone(), dan.user.clone()];
    let added = ada.change("conversation_add", &log, json!({ "user_ids": users })).await;
    let said = ada.say(&log, "welcome").await;
    for client in [&mut here, &mut there] {
        client.reaches(&log, said).await;
        assert_eq!(client.seqs(&log)[..2], [added, said]);
        let joined = &client.own_items().last().unwrap()["joined"];
        assert_eq!((&joined["conversation_id"], &joined["conversation_seq"]), (&json!(log), &json!(added)));
        let answer = client.say(&log, "thank you").await;
        ben.reaches(&log, answer).await;

        let page = client.ok(json!({ "history": { "log_id": log } })).await;
        assert!(!page.to_string().contains("before"), "what was said before is not for those who came: {page}");
        client.open_at(&log, 0).await;
        client.reaches(&log, answer).await;
        assert_eq!(client.seqs(&log)[0], added);
    }
}

#[tokio::test]
async fn where_history_is_visible_it_is_there_for_who_comes() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let open = json!({ "kind": "group", "title": "open", "history_visible": true, "user_ids": [] });
    let log = ada.create(open).await;
    ada.say(&log, "before").await;
    let cem = Person::new();
    let mut here = cem.join(&node).await;
    let added = ada.add(&log, &cem).await;
    here.member_of(&log).await;
    assert_eq!(here.seqs(&log), [added], "it is asked for, not sent");
    let page = here.ok(json!({ "history": { "log_id": log } })).await;
    assert_eq!(page["items"][0]["entry"]["message"]["body"], "before");
    here.open_at(&log, 0).await;
    here.reaches(&log, added).await;
    assert_eq!(here.seqs(&log), [1, 2, 3]);
}

#[tokio::test]
async fn after_a_removal_nothing_more_arrives_on_any_node() {
    let (a, b) = two_nodes(&[]).await;
    let (mut ada, mut ben, log) = pair(&a).await;
    let other = ada.group(&[&ben]).await;
    let mut far = ben.person.elsewhere().join(&b).await;
    let last = ada.say(&log, "before").await;
    far.reaches(&log, last).await;
    let removed = ada.remove(&log, &ben.person).await;
    for n in 0..20 {
        ada.say(&log, &format!("GONE {n}")).await;
    }
    // Two looks of the change feed later, the other node has nothing left that it might send.
    for _ in 0..2 {
        let fence = ada.say(&other, "fence").await;
        for client in [&mut ben, &mut far] {
            client.reaches(&other, fence).await;
            client.settle().await;
        }
    }
    for client in [&mut ben, &mut far] {
        assert_eq!(client.items(&log).last().unwrap()["member_left"]["user_id"], *client.person.user);
        assert_eq!(*client.seqs(&log).last().unwrap(), removed, "his own leaving is the last that he sees");
        let left = json!({ "conversation_id": log, "conversation_seq": removed });
        assert_eq!(client.own_items().last().unwrap()["left"], left);
        for command in [
            change("send", &log, json!({ "body": "let me in" })),
            change("react", &log, json!({ "target_seq": last, "emoji": "👍" })),
            json!({ "typing": { "log_id": log } }),
            json!({ "mark_read": { "log_id": log, "seq": last } }),
            json!({ "conversation_members": { "log_id": log } }),
        ] {
            let error = client.refused(command.clone()).await;
            assert!(["forbidden", "not_found"].contains(&error["name"].as_str().unwrap()), "{command}: {error}");
        }
        let page = client.ok(json!({ "history": { "log_id": log } })).await;
        assert!(page.to_string().contains("before") && !page.to_string().contains("GONE"), "{page}");
        client.open_at(&log, 0).await;
        client.reaches(&log, removed).await;
        assert_eq!(client.bodies(&log), ["before"]);
    }
    assert!(ben.own_items().len() >= 3);

    // Nor when he comes back with a cursor, or with one that he has made up.
    for seq in [0, last, removed + 10] {
        let mut back = ben.person.connect(&b, bowline_protocol::Codec::Json, json!({})).await;
        let cursor = json!({ "log_id": log, "seq": seq, "epoch": back.connected["epoch"] });
        back.stand_at(&log, seq);
        back.ok(json!({ "resume": { "cursors": [cursor] } })).await;
        back.push_where("caught_up", |caught_up| caught_up["log_id"] == *log).await;
        back.settle().await;
        assert!(back.seqs(&log).iter().all(|of| (seq + 1..=removed).contains(of)), "{seq}: {:?}", back.seqs(&log));
        assert!(!back.bodies(&log).iter().any(|body| body.contains("GONE")));
    }
}

#[tokio::test]
async fn one_who_goes_and_comes_back_while_connected_sees_his_stays_and_not_what_was_between() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut expected = ben.seqs(&log);
    for round in 0..3 {
        expected.push(ada.say(&log, &format!("seen {round}")).await);
        if round == 1 {
            expected.push(ben.change("conversation_leave", &log, json!({})).await);
        } else {
            expected.push(ada.remove(&log, &ben.person).await);
        }
        ada.say(&log, "UNSEEN").await;
        expected.push(ada.add(&log, &ben.person).await);
    }
    expected.push(ada.say(&log, "at last").await);
    ben.reaches(&log, *expected.last().unwrap()).await;
    ben.settle().await;
    assert_eq!(ben.seqs(&log), expected);
    ben.say(&log, "here I am").await;

    let page = ben.ok(json!({ "history": { "log_id": log } })).await;
    assert!(!page.to_string().contains("UNSEEN"), "{page}");
}

#[tokio::test]
async fn one_who_goes_and_comes_back_while_away_gets_his_stays_and_not_what_was_between() {
    let node = server().await;
    let (mut ada, ben, log) = pair(&node).await;
    let away = ben.vanish();
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(ada.say(&log, "seen").await);
        expected.push(ada.remove(&log, &away.person).await);
        ada.say(&log, "UNSEEN").await;
        expected.push(ada.add(&log, &away.person).await);
    }
    expected.push(ada.say(&log, "at last").await);
    let mut back = away.person.resume(&node, &away).await;
    back.push_where("caught_up", |caught_up| caught_up["log_id"] == *log).await;
    assert_eq!(back.seqs(&log), expected);
    expected.push(ada.say(&log, "live").await);
    back.reaches(&log, *expected.last().unwrap()).await;
    assert_eq!(back.seqs(&log), expected);
}

#[tokio::test]
async fn one_who_is_added_while_away_gets_the_conversation_with_his_own_log() {
    let node = server().await;
    let (mut ada, ben, first) = pair(&node).await;
    let away = ben.vanish();
    let log = ada.group(&[&away]).await;
    let said = ada.say(&log, "while you were away").await;
    let mut back = away.person.resume(&node, &away).await;
    back.reaches(&log, said).await;
    assert_eq!(back.bodies(&log), ["while you were away"]);
    assert_eq!(back.seqs(&log), [1, 2]);
    let live = ada.say(&log, "live").await;
    back.reaches(&log, live).await;
    assert_eq!(back.items(&first), [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn one_who_goes_and_comes_back_while_he_lags_gets_every_stay_whole_and_nothing_between() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let ben = Person::new();
    let mut slow = ben.join_narrow(&node).await;
    let log = ada.group(&[&slow]).await;
    slow.member_of(&log).await;
    let mut expected = slow.seqs(&log);
    let (seen, unseen) = (format!("seen {}", "x".repeat(4_000)), format!("UNSEEN {}", "x".repeat(4_000)));
    // From here on he reads nothing; whatever his kernel holds is far less than this.
    for _ in 0..12 {
        for _ in 0..20 {
            expected.push(ada.say(&log, &seen).await);
        }
        expected.push(ada.remove(&log, &ben).await);
        ada.say(&log, &unseen).await;
        expected.push(ada.add(&log, &ben).await);
    }
    expected.push(ada.say(&log, "at last").await);
    slow.reaches(&log, *expected.last().unwrap()).await;
    slow.settle().await;
    assert_eq!(slow.seqs(&log), expected);
    expected.push(ada.say(&log, "live").await);
    slow.reaches(&log, *expected.last().unwrap()).await;
    assert_eq!(slow.seqs(&log), expected);
}

#[tokio::test]
async fn one_who_comes_and_goes_in_a_moment_gets_that_moment() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let ben = Person::new();
    let mut here = ben.join(&node).await;
    let log = ada.group(&[]).await;
    let mut expected = Vec::new();
    for _ in 0..20 {
        let come = change("conversation_add", &log, json!({ "user_ids": [ben.user] }));
        let go = change("conversation_remove", &log, json!({ "user_id": ben.user }));
        let words = |word: &str| change("send", &log, json!({ "body": word }));
        let posted = ada.post_all([come, words("seen"), go, words("UNSEEN")]).await;
        let mut seqs = Vec::new();
        for (id, kind) in posted.into_iter().zip(["stored", "sent", "stored", "sent"]) {
            seqs.push(ada.reply(id).await[kind]["seq"].as_u64().unwrap());
        }
        expected.extend(&seqs[..3]);
    }
    let stays = here.person.user.clone();
    here.reaches(&log, *expected.last().unwrap()).await;
    here.settle().await;
    assert_eq!(here.seqs(&log), expected);
    let lefts = here.items(&stays).iter().filter(|item| item.get("left").is_some()).count();
    assert_eq!(lefts, 20);
}

#[tokio::test]
async fn one_who_is_removed_while_he_lags_gets_all_up_to_it_and_no_more() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let ben = Person::new();
    let mut slow = ben.join_narrow(&node).await;
    let (log, other) = (ada.group(&[&slow]).await, ada.group(&[&slow]).await);
    slow.member_of(&log).await;
    slow.member_of(&other).await;
    let mut last = 0;
    for n in 0..100 {
        last = ada.say(&log, &format!("{n} {}", "x".repeat(8_000))).await;
    }
    let removed = ada.remove(&log, &ben).await;
    assert_eq!(removed, last + 1);
    for _ in 0..10 {
        ada.say(&log, &format!("GONE {}", "x".repeat(8_000))).await;
    }
    let fence = ada.say(&other, "fence").await;
    slow.reaches(&log, removed).await;
    slow.reaches(&other, fence).await;
    slow.settle().await;
    assert_eq!(slow.seqs(&log), (1..=removed).collect::<Vec<_>>());
}
