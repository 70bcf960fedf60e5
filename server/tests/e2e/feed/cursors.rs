//! A ranking is read in pages, however long that takes and whatever happens meanwhile; or the reader hears that it is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ROOMY, asking, get_page, id, next_of, posts};
use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{server, server_with, two_nodes, until};

/// Stale at once, but kept: each look at the beginning has the next ranking made.
const STALE: [(&str, &str); 3] = [
    ("BOWLINE_FEED_CACHE_NEAR_MIN_MS", "0"),
    ("BOWLINE_FEED_CACHE_NEAR_MAX_MS", "0"),
    ("BOWLINE_FEED_CACHE_SOFT_MS", "1"),
];

#[tokio::test]
async fn pages_of_any_length_give_the_ranking_as_it_stands() {
    let node = server_with(&ROOMY).await;
    let mut ben = Person::new().join(&node).await;
    for _ in 0..4 {
        let mut author = Person::new().join(&node).await;
        ben.follows(&author).await;
        for n in 0..10 {
            author.write(&n.to_string()).await;
        }
    }
    let whole = ben.page(100, None).await;
    let places: Vec<u64> = whole["items"].as_array().unwrap().iter().map(|i| i["place"].as_u64().unwrap()).collect();
    assert_eq!(places, (1..=40).collect::<Vec<_>>());
    assert_eq!(whole.get("next"), None, "nothing follows");
    for limit in [1, 7, 39, 40] {
        let first = ben.page(limit, None).await;
        let mut items = first["items"].as_array().unwrap().clone();
        items.extend(ben.rest(limit, next_of(&first)).await);
        assert_eq!(Value::from(items), whole["items"], "{limit} a page");
    }
}

#[tokio::test]
async fn a_ranking_can_be_read_on_until_the_one_after_the_next_is_made() {
    let node = server_with(&[&ROOMY[..], &STALE].concat()).await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    ben.follows(&ada).await;
    for n in 0..4 {
        ada.write(&n.to_string()).await;
    }
    let first = ben.page(2, None).await;
    let cursor = next_of(&first);
    let rest = ben.rest(2, cursor.clone()).await;
    assert_eq!(rest.len(), 2);
    let newer_is_made = async |ada: &mut Client, ben: &mut Client| {
        let post = ada.write("newer").await;
        until("a ranking that has it", async || posts(&ben.page(10, None).await).contains(&post)).await;
    };
    newer_is_made(&mut ada, &mut ben).await;
    // How many were made until it was in one, the reader can't know: it may be gone by then.
    let reply = ben.ask(asking(2, cursor.as_deref())).await;
    if reply.get("feed_page").is_some() {
        assert_eq!(reply["feed_page"]["items"], Value::from(rest));
    }
    newer_is_made(&mut ada, &mut ben).await;
    newer_is_made(&mut ada, &mut ben).await;
    let gone = ben.refused(asking(2, cursor.as_deref())).await;
    assert_eq!((&gone["code"], &gone["name"]), (&json!(307), &json!("cursor_expired")));
    assert!(!posts(&ben.page(2, None).await).is_empty(), "begun anew");
}

#[tokio::test]
async fn the_cursor_of_a_ranking_that_went_with_its_node_has_expired() {
    let mut node = server_with(&ROOMY).await;
    let http = reqwest::Client::new();
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    ben.follows(&ada).await;
    for n in 0..3 {
        ada.write(&n.to_string()).await;
    }
    let cursor = next_of(&ben.page(1, None).await).unwrap();
    assert_eq!(get_page(&http, &node, &ben.person, &format!("limit=1&cursor={cursor}")).await.0, 200);
    node.kill().await;
    ben.closed().await;
    node.start_again().await;

    let mut again = ben.person.join(&node).await;
    let gone = again.refused(asking(1, Some(&cursor))).await;
    assert_eq!(
        (&gone["code"], &gone["name"], gone.get("retry_after_ms")),
        (&json!(307), &json!("cursor_expired"), None)
    );
    let (status, answer) = get_page(&http, &node, &ben.person, &format!("limit=1&cursor={cursor}")).await;
    assert_eq!((status, &answer["error"]["name"]), (410, &json!("cursor_expired")), "{answer}");
    assert_eq!(posts(&again.page(10, None).await).len(), 3, "begun anew");
}

#[tokio::test]
async fn a_cursor_is_good_for_the_one_who_was_given_it_and_only_as_it_was_given() {
    let node = server().await;
    let http = reqwest::Client::new();
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    for n in 0..3 {
        ada.write(&n.to_string()).await;
    }
    let cursor = next_of(&ben.page(1, None).await).unwrap();
    let mut changed = cursor.clone().into_bytes();
    changed[15] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for (who, cursor) in [(&ada, cursor.as_str()), (&ben, &changed), (&ben, &cursor[1..]), (&ben, "%20"), (&ben, "")] {
        let (status, answer) = get_page(&http, &node, &who.person, &format!("limit=1&cursor={cursor}")).await;
        let error = &answer["error"];
        assert_eq!((status, &error["name"], &error["field"]), (400, &json!("invalid"), &json!("cursor")), "{cursor:?}");
    }
    assert_eq!(posts(&ben.page(1, Some(&cursor)).await).len(), 1);
}

/// Nothing but the ranking is old.
#[tokio::test]
async fn what_a_reader_may_no_longer_see_is_in_no_later_page_of_the_same_ranking() {
    let node = server_with(&ROOMY).await;
    let mut ben = Person::new().join(&node).await;
    let (mut authors, mut written) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut author = Person::new().join(&node).await;
        ben.follows(&author).await;
        written.push([author.write("1").await, author.write("2").await, author.write("3").await]);
        authors.push(author);
    }
    let [deletes, blocks, is_muted, stays] = authors.try_into().unwrap_or_else(|_| unreachable!());
    let (mut deletes, mut blocks) = (deletes, blocks);
    let first = ben.page(1, None).await;
    for post in &written[0] {
        deletes.act("post_delete", json!({ "post_id": post })).await;
    }
    let (reader, muted) = (ben.person.user.clone(), is_muted.person.user.clone());
    blocks.act("block", json!({ "user_id": reader })).await;
    ben.ok(json!({ "user_mute": { "client_id": new_id(), "user_id": muted, "muted": true } })).await;

    let later: Vec<String> = ben.rest(2, next_of(&first)).await.iter().map(id).collect();
    let seen = posts(&first);
    let mut expected: Vec<String> = written[3].iter().filter(|post| !seen.contains(post)).cloned().collect();
    expected.sort();
    assert_eq!(super::sorted(&later), expected, "those of {} alone", stays.person.user);
}

/// The node that he reads from has just looked at all of it, and learns of the change by the change feed.
#[tokio::test]
async fn what_he_may_no_longer_see_by_another_node_is_gone_within_two_seconds() {
    let (a, b) = two_nodes(&ROOMY).await;
    let join = async || Person::new().join(&a).await;
    let (mut deletes, mut blocks) = (join().await, join().await);
    let (mut is_muted, mut stays) = (join().await, join().await);
    let mut ben = Person::new().join(&b).await;
    let mut elsewhere = ben.person.elsewhere().join(&a).await;
    let mut gone = Vec::new();
    for author in [&mut deletes, &mut blocks, &mut is_muted] {
        ben.follows(author).await;
        gone.push(author.write("gone").await);
    }
    ben.follows(&stays).await;
    let kept = stays.write("kept").await;
    let whole = posts(&ben.page(10, None).await);
    assert!(gone.iter().all(|post| whole.contains(post)), "{whole:?}");

    deletes.act("post_delete", json!({ "post_id": gone[0] })).await;
    let (reader, muted) = (ben.person.user.clone(), is_muted.person.user.clone());
    blocks.act("block", json!({ "user_id": reader })).await;
    elsewhere.act("user_mute", json!({ "user_id": muted, "muted": true })).await;
    let changed = Instant::now();
    until("they are gone", async || posts(&ben.page(10, None).await) == [kept.clone()]).await;
    // What a busy machine may take besides.
    assert!(changed.elapsed() < Duration::from_secs(2 + 3), "{:?}", changed.elapsed());
}
