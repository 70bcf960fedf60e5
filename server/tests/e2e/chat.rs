//! What people do with each other, seen live and when they come back.

use bowline_protocol::Codec;
use serde_json::json;

use crate::client::{Client, change, ids, new_id, send};
use crate::person::Person;
use crate::world::{pair, server, two_nodes, until};

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

#[tokio::test]
async fn edits_deletions_and_reactions_are_seen_live_and_one_who_was_away_never_gets_what_is_gone() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let cem = Person::new();
    ada.change("conversation_add", &log, json!({ "user_ids": [cem.user] })).await;
    let mut away = cem.join(&node).await;
    let start = ada.say(&log, "nothing special").await;
    away.reaches(&log, start).await;
    let away = away.vanish();

    let (secret, typo) = (ada.say(&log, "SECRET one").await, ada.say(&log, "SECRET two").await);
    let plain = ada.say(&log, "plain").await;
    let version =
        ada.change("edit", &log, json!({ "target_seq": typo, "version": typo, "body": "SECRET three" })).await;
    let edited = ada.change("edit", &log, json!({ "target_seq": typo, "version": version, "body": "mended" })).await;
    let deleted = ada.change("delete", &log, json!({ "target_seq": secret })).await;
    let reacted = ben.change("react", &log, json!({ "target_seq": plain, "emoji": "👍" })).await;
    let conflict = json!({ "target_seq": typo, "version": version, "body": "too late" });
    let conflict = ada.refused(change("edit", &log, conflict)).await;
    assert_eq!((&conflict["name"], &conflict["version"]), (&json!("conflict"), &json!(edited)));
    let denied = ben.refused(change("edit", &log, json!({ "target_seq": plain, "version": plain, "body": "x" }))).await;
    assert_eq!(denied["name"], "forbidden", "only its sender edits a message");
    let gone = ada.refused(change("react", &log, json!({ "target_seq": secret, "emoji": "👍" }))).await;
    assert_eq!(gone["name"], "target_gone");

    ben.reaches(&log, reacted).await;
    assert_eq!(ben.bodies(&log), ["nothing special", "SECRET one", "SECRET two", "plain"], "live, as it was said");
    assert_eq!(ben.item(&log, edited)["edited"], json!({ "target_seq": typo, "body": "mended" }));
    assert_eq!(ben.item(&log, deleted)["deleted"], json!({ "target_seq": secret }));
    assert_eq!(ben.item(&log, reacted)["reacted"], json!({ "target_seq": plain, "emoji": "👍" }));

    let mut back = cem.resume(&node, &away).await;
    back.push_where("caught_up", |caught_up| caught_up["log_id"] == *log).await;
    assert_eq!(back.seqs(&log), (secret..=reacted).collect::<Vec<_>>(), "exactly what was missed");
    assert!(!json!(back.items(&log)).to_string().contains("SECRET"), "{:?}", back.items(&log));
    assert_eq!(back.item(&log, secret)["message"], json!({ "deleted": true }));
    assert_eq!(
        (&back.item(&log, secret)["version"], &back.item(&log, typo)["version"]),
        (&json!(deleted), &json!(edited))
    );
    assert_eq!(back.item(&log, typo)["message"]["body"], "mended");
    assert_eq!(back.item(&log, version)["edited"], json!({ "target_seq": typo }), "an edit that was edited again");
    assert_eq!(back.item(&log, edited)["edited"]["body"], "mended");
    assert_eq!(back.item(&log, reacted)["reacted"]["emoji"], "👍");

    let page = back.ok(json!({ "history": { "log_id": log, "limit": 10 } })).await;
    assert!(!page.to_string().contains("SECRET"), "{page}");
    let of_plain = page["items"].as_array().unwrap().iter().find(|item| item["entry"]["seq"] == plain).unwrap();
    assert_eq!(of_plain["reactions"], json!([{ "emoji": "👍", "count": 1, "mine": false }]));
    back.change("react", &log, json!({ "target_seq": plain, "emoji": "👍" })).await;
    ben.change("unreact", &log, json!({ "target_seq": plain, "emoji": "👍" })).await;
    let page = back.ok(json!({ "history": { "log_id": log, "around_seq": plain, "limit": 1 } })).await;
    assert_eq!(page["items"][0]["reactions"], json!([{ "emoji": "👍", "count": 1, "mine": true }]));
}

#[tokio::test]
async fn everything_of_a_message_arrives_as_it_was_sent() {
    let node = server().await;
    for codec in Codec::ALL {
        let (ada, ben) = (Person::new(), Person::new());
        let (mut ada, mut ben) = (ada.join_with(&node, codec).await, ben.join_with(&node, codec).await);
        let log = ada.group(&[&ben]).await;
        ben.member_of(&log).await;
        let first = ada.say(&log, "").await;
        let message = json!({
            "body": "⛵ \"quoted\" \\ \t\r\n\u{1}\u{7f}\u{2028}\u{fffd}𝄞 \u{202e}abc",
            "reply_to_seq": first,
            "thread_root_seq": first,
            "mentions": [ben.person.user],
            "attachments": [
                { "url": "https://files.example.org/1.jpg", "media_type": "image/jpeg", "size": 184_320, "sha256": "9f86" },
                { "url": "x:", "media_type": "", "size": 0 }
            ],
            "attrs": { "lang": "en", "nested": { "list": [1, 2.5, true, null, "x"] } },
        });
        let seq = ada.change("send", &log, message.clone()).await;
        ben.reaches(&log, seq).await;
        let mut expected = message;
        expected["deleted"] = json!(false);
        assert_eq!(ben.item(&log, first)["message"], json!({ "body": "", "deleted": false }));
        assert_eq!(ben.item(&log, seq)["message"], expected, "live, {codec:?}");
        ben.open_at(&log, 0).await;
        ben.reaches(&log, seq).await;
        assert_eq!(ben.item(&log, seq)["message"], expected, "replayed, {codec:?}");
        let page = ben.ok(json!({ "history": { "log_id": log, "limit": 1 } })).await;
        assert_eq!(page["items"][0]["entry"]["message"], expected, "history, {codec:?}");
    }
}

#[tokio::test]
async fn a_mention_reaches_the_mentioned_member_in_a_log_of_his_own_and_nobody_else() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut eve = Person::new().join(&node).await;
    let mentions = ids(&[&ada, &ben, &eve]);
    let seq = ada.change("send", &log, json!({ "body": "@all", "mentions": mentions })).await;
    let own = ben.person.user.clone();
    let at = ben.position(&own);
    ben.reaches(&own, at.max(2)).await;
    let expected = json!({ "conversation_id": log, "conversation_seq": seq });
    assert_eq!(ben.items(&own).last().unwrap()["mentioned"], expected);
    for client in [&mut ada, &mut eve] {
        client.settle().await;
        let own = client.person.user.clone();
        assert!(client.items(&own).iter().all(|item| item.get("mentioned").is_none()));
    }
}

#[tokio::test]
async fn typing_reaches_the_other_members_and_nobody_else() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut eve = Person::new().join(&node).await;
    ada.ok(json!({ "typing": { "log_id": log } })).await;
    assert_eq!(ben.push("typing").await, json!({ "log_id": log, "user_id": ada.person.user }));
    eve.settle().await;
    assert_eq!(eve.waiting("typing"), 0);
}

#[tokio::test]
async fn how_far_one_has_read_reaches_ones_other_devices_and_in_small_conversations_the_others() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let mut bens_phone = ben.person.elsewhere().join(&node).await;
    let crowd: Vec<String> = (0..31).map(|_| new_id()).collect();
    let users = [ids(&[&ben]), crowd].concat();
    let large = ada.create(json!({ "kind": "group", "title": "33 people", "user_ids": users })).await;
    ben.member_of(&large).await;
    for log in [&log, &large] {
        let seqs = [ada.say(log, "one").await, ada.say(log, "two").await, ada.say(log, "three").await];
        ben.reaches(log, seqs[2]).await;
        ben.ok(json!({ "mark_read": { "log_id": log, "seq": seqs[1] } })).await;
        let expected = json!({ "log_id": log, "user_id": ben.person.user, "seq": seqs[1], "message_no": 2 });
        let of_log = |receipt: &serde_json::Value| receipt["log_id"] == **log;
        assert_eq!(bens_phone.push_where("receipt", of_log).await, expected);
        if *log != large {
            assert_eq!(ada.push_where("receipt", of_log).await, expected);
        }
    }
    ada.settle().await;
    assert_eq!(ada.waiting("receipt"), 0, "33 people hear nothing of each other's reading");

    // What is unread is told at the next connection: in the list, and where a log has caught up.
    let mut later = ben.person.join(&node).await;
    let list = later.ok(json!({ "conversation_list": {} })).await;
    for head in list["items"].as_array().unwrap() {
        assert_eq!((&head["unread"], &head["read_seq"]), (&json!(1), &json!(3)), "{head}");
    }
    let mut again = ben.person.resume(&node, &ben).await;
    let caught_up = again.push_where("caught_up", |caught_up| caught_up["log_id"] == *log).await;
    assert_eq!((&caught_up["unread"], &caught_up["read_seq"]), (&json!(1), &json!(3)));
    // Who speaks has read what was said before.
    again.say(&log, "answer").await;
    until("nothing is unread", async || {
        let list = again.ok(json!({ "conversation_list": { "limit": 1 } })).await;
        list["items"][0]["log_id"] == *log && list["items"][0]["unread"] == 0
    })
    .await;
}

#[tokio::test]
async fn history_is_paged_from_any_place() {
    let node = server().await;
    let (mut ada, _, log) = pair(&node).await;
    for n in 0..30 {
        let seq = ada.say(&log, &format!("{n}")).await;
        // Facts stand between the messages, and are in no page.
        ada.change("react", &log, json!({ "target_seq": seq, "emoji": "👍" })).await;
    }
    let seq = |n: u64| 2 + 2 * n;
    let cases = [
        (json!({}), 20..30),
        (json!({ "before_seq": seq(20) }), 10..20),
        (json!({ "before_seq": 1 }), 0..0),
        (json!({ "after_seq": 0 }), 0..10),
        (json!({ "after_seq": seq(14) }), 15..25),
        (json!({ "after_seq": seq(29) }), 0..0),
        (json!({ "around_seq": seq(15) }), 11..21),
        (json!({ "around_seq": seq(0) }), 0..6),
    ];
    for (place, expected) in cases {
        let mut asked = json!({ "log_id": log, "limit": 10 });
        asked.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        let page = ada.ok(json!({ "history": asked })).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let bodies: Vec<_> = items.iter().map(|item| item["entry"]["message"]["body"].as_str().unwrap()).collect();
        assert_eq!(bodies, expected.map(|n| n.to_string()).collect::<Vec<_>>(), "{place}: {page}");
    }
    // By the pages' own words, from the newest back to the first.
    let (mut all, mut before) = (Vec::new(), None::<u64>);
    while before != Some(1) {
        let mut asked = json!({ "log_id": log, "limit": 7 });
        if let Some(seq) = before {
            asked["before_seq"] = json!(seq);
        }
        let page = ada.ok(json!({ "history": asked })).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        all.extend(items.iter().rev().map(|item| item["entry"]["seq"].as_u64().unwrap()));
        let next = page["after_seq"].as_u64().unwrap() + 1;
        assert!(before.is_none_or(|before| next < before), "each page reaches further back: {page}");
        before = Some(next);
    }
    assert_eq!(all, (0..30).rev().map(seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn lists_of_conversations_and_of_members_are_paged_without_a_repeat() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let mut logs = Vec::new();
    for _ in 0..7 {
        logs.push(ada.group(&[]).await);
    }
    ada.say(&logs[0], "newest").await;
    let newest = logs.remove(0);
    logs.push(newest);
    logs.reverse();
    let (mut listed, mut asked) = (Vec::new(), json!({ "limit": 3 }));
    loop {
        let page = ada.ok(json!({ "conversation_list": asked })).await;
        let items = page["items"].as_array().unwrap();
        listed.extend(items.iter().map(|head| head["log_id"].as_str().unwrap().to_owned()));
        let last = items.last().unwrap();
        asked = json!({ "limit": 3, "after_log_id": last["log_id"], "after_at_ms": last["last_at_ms"] });
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(listed, logs, "newest activity first");

    let mut users: Vec<String> = (0..6).map(|_| new_id()).collect();
    let log = ada.create(json!({ "kind": "channel", "title": "seven", "user_ids": users })).await;
    users.extend(ids(&[&ada]));
    users.sort();
    let (mut listed, mut asked) = (Vec::new(), json!({ "log_id": log, "limit": 3 }));
    loop {
        let page = ada.ok(json!({ "conversation_members": asked })).await;
        let items = page["items"].as_array().unwrap();
        listed.extend(items.iter().map(|member| member["user_id"].as_str().unwrap().to_owned()));
        asked["after_user_id"] = json!(listed.last());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(listed, users);
}

#[tokio::test]
async fn the_reply_to_ones_own_revocation_comes_before_the_close_and_every_session_of_the_user_ends() {
    let (a, b) = two_nodes(&[]).await;
    let ada = Person::new();
    let mut others = [
        ada.elsewhere().join(&a).await,
        ada.elsewhere().join(&b).await,
        ada.elsewhere().join_with(&b, Codec::Proto).await,
    ];
    let (mut ben_here, mut ben_there) = (Person::new().join(&a).await, Person::new().join(&b).await);
    let mut here = ada.join(&a).await;

    // One of them alone, on the other node.
    let one = json!({ "client_id": new_id(), "session_id": others[1].person.session });
    here.ok(json!({ "session_revoke": one })).await;
    assert_eq!(others[1].closed().await, 4200);
    for alive in [&mut others[0], &mut here] {
        alive.settle().await;
    }
    others[2].settle().await;

    let sessions = here.ok(json!({ "session_list": {} })).await;
    let mut listed: Vec<_> = sessions["sessions"].as_array().unwrap().iter().map(|s| s["session_id"].clone()).collect();
    listed.sort_by_key(ToString::to_string);
    let mut left: Vec<_> = [&others[0], &others[2], &here].map(|client| json!(client.person.session)).to_vec();
    left.sort_by_key(ToString::to_string);
    assert_eq!(listed, left);

    let reply = here.ok(json!({ "session_revoke": { "client_id": new_id() } })).await;
    assert_eq!(reply["repeat"], false);
    assert_eq!(here.closed().await, 4200);
    assert_eq!(others[0].closed().await, 4200);
    assert_eq!(others[2].closed().await, 4200);
    ben_here.settle().await;
    ben_there.settle().await;
}
