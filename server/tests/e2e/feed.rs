//! Feeds: a page and what is pushed after it, for people who follow, like, delete, block and mute.

use bowline_protocol::Codec;
use serde_json::{Value, json};

use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{server, server_with, two_nodes};

/// A ranking is made anew at every look.
const ANEW: [(&str, &str); 4] = [
    ("BOWLINE_FEED_CACHE_NEAR_MIN_MS", "0"),
    ("BOWLINE_FEED_CACHE_NEAR_MAX_MS", "0"),
    ("BOWLINE_FEED_CACHE_SOFT_MS", "1"),
    ("BOWLINE_FEED_CACHE_HARD_MS", "1"),
];

impl Client {
    async fn act(&mut self, command: &str, mut fields: Value) -> Value {
        fields["client_id"] = new_id().into();
        self.ok(json!({ command: fields })).await
    }

    async fn write(&mut self, body: &str) -> String {
        self.act("post_create", json!({ "body": body })).await["made_id"].as_str().unwrap().to_owned()
    }

    async fn page(&mut self, limit: u64, cursor: Option<&str>) -> Value {
        let mut asked = json!({ "limit": limit });
        if let Some(cursor) = cursor {
            asked["cursor"] = cursor.into();
        }
        self.ok(json!({ "feed_page": asked })).await
    }
}

fn posts(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["post"]["post_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_page_has_what_is_followed_with_its_reasons_and_pages_join_without_repeat() {
    let node = server_with(&ANEW).await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join_with(&node, Codec::Proto).await);
    let empty = ben.page(10, None).await;
    assert_eq!((posts(&empty).len(), empty.get("next")), (0, None));
    let author = ada.person.user.clone();
    ben.act("follow", json!({ "user_id": author })).await;
    let mut written = Vec::new();
    for n in 0..7 {
        written.push(ada.write(&format!("post {n}")).await);
    }
    let first = ben.page(3, None).await;
    assert_eq!(first["items"][0]["place"], 1);
    for item in first["items"].as_array().unwrap() {
        assert!(item["reasons"].as_array().unwrap().contains(&json!("followee")), "{item}");
    }
    assert_eq!(first.get("degraded"), None, "{first}");
    let mut seen = posts(&first);
    // What comes meanwhile is in no page that follows.
    ada.write("later").await;
    let mut next = first["next"].as_str().map(str::to_owned);
    while let Some(cursor) = next {
        let page = ben.page(3, Some(&cursor)).await;
        seen.extend(posts(&page));
        next = page["next"].as_str().map(str::to_owned);
    }
    seen.sort();
    written.sort();
    assert_eq!(seen, written);
    let stranger = ada.refused(json!({ "feed_page": { "cursor": first["next"], "limit": 3 } })).await;
    assert_eq!((&stranger["name"], &stranger["field"]), (&json!("invalid"), &json!("cursor")));
}

#[tokio::test]
async fn what_is_deleted_muted_or_blocked_is_in_no_page_of_a_ranking_that_has_it() {
    let node = server().await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    let (mut cleo, mut dan) = (Person::new().join(&node).await, Person::new().join(&node).await);
    let [by_ada, by_cleo, by_dan] = [ada.write("a").await, cleo.write("c").await, dan.write("d").await];
    let mut all = posts(&ben.page(10, None).await);
    all.sort();
    let mut expected = vec![by_ada.clone(), by_cleo.clone(), by_dan.clone()];
    expected.sort();
    assert_eq!(all, expected, "nobody is followed, and there is something to read");
    cleo.act("post_delete", json!({ "post_id": by_cleo })).await;
    assert_eq!(posts(&ben.page(10, None).await).len(), 2);
    let muted = dan.person.user.clone();
    ben.act("user_mute", json!({ "user_id": muted, "muted": true })).await;
    assert_eq!(posts(&ben.page(10, None).await), [by_ada]);
    let blocked = ben.person.user.clone();
    ada.act("block", json!({ "user_id": blocked })).await;
    assert_eq!(posts(&ben.page(10, None).await), [""; 0]);
}

#[tokio::test]
async fn news_are_pushed_once_on_either_node_and_not_after_a_page_that_has_them() {
    let (a, b) = two_nodes(&ANEW).await;
    let (mut ada, mut ben) = (Person::new().join(&a).await, Person::new().join(&b).await);
    let mut cleo = Person::new().join(&b).await;
    for author in [&ada, &cleo] {
        let user = author.person.user.clone();
        ben.act("follow", json!({ "user_id": user })).await;
    }
    ben.ok(json!({ "feed_subscribe": {} })).await;
    // Whom he follows is read soon after he subscribed: posts until one is pushed.
    let mut told = Vec::new();
    while told.is_empty() {
        cleo.write("is anybody there?").await;
        told = ben.pushed(1).await;
    }
    let remote = ada.write("from the other node").await;
    let told = ben.pushed_until(&remote).await;
    assert_eq!(told["reasons"], json!(["followee"]));
    assert!(told["place"].as_u64().unwrap() >= 1);

    let near = cleo.write("in a page").await;
    let page = ben.page(50, None).await;
    assert!(posts(&page).contains(&near), "{page}");
    let last = cleo.write("after it").await;
    ben.pushed_until(&last).await;
    let times = ben.all_pushed().iter().filter(|post| **post == near).count();
    let before_page = ben.pushed_before_page(&near);
    assert!(times == 0 || before_page, "pushed after the page that has it");
    let mut all = ben.all_pushed();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), ben.all_pushed().len(), "nothing is pushed twice");
}
