//! Feeds: a page and what is pushed after it, for people who follow, like, delete, block and mute.

mod clickhouse;
mod cold;
mod cursors;
mod live;
mod nodes;

use bowline_protocol::Codec;
use bowline_testkit::Server;
use serde_json::{Value, json};

use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{server, two_nodes, until};

/// Each part has as long as it takes on a machine that is busy; only what hangs for good is late.
const ROOMY: [(&str, &str); 9] = [
    ("BOWLINE_FEED_BUDGET_PAGE_MS", "9500"),
    ("BOWLINE_FEED_BUDGET_CACHE_MS", "1500"),
    ("BOWLINE_FEED_BUDGET_CANDIDATES_MS", "1500"),
    ("BOWLINE_FEED_BUDGET_HYDRATION_MS", "2500"),
    ("BOWLINE_FEED_BUDGET_FALLBACK_MS", "2500"),
    ("BOWLINE_FEED_CACHE_MAKE_MS", "9000"),
    ("BOWLINE_FEED_CACHE_TURN_MS", "9500"),
    ("BOWLINE_FEED_FALLBACK_WAIT_MS", "2500"),
    ("BOWLINE_REDIS_COMMAND_TIMEOUT_MS", "5000"),
];

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
        self.ok(asking(limit, cursor)).await
    }

    async fn follows(&mut self, other: &Client) {
        let user = other.person.user.clone();
        self.act("follow", json!({ "user_id": user })).await;
    }

    /// From this cursor to the end of its ranking, page by page.
    async fn rest(&mut self, limit: u64, cursor: Option<String>) -> Vec<Value> {
        let (mut items, mut next) = (Vec::new(), cursor);
        while let Some(cursor) = next {
            let page = self.page(limit, Some(&cursor)).await;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            next = next_of(&page);
        }
        items
    }

    /// The items of the pushes that came.
    fn news(&mut self) -> Vec<Value> {
        let updates = self.taken("feed_update");
        updates.iter().flat_map(|update| update["items"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Waits for the push of this post; all that came is put to what was pushed.
    async fn told(&mut self, post: &str, pushed: &mut Vec<Value>) -> Value {
        loop {
            pushed.extend(self.news());
            if let Some(item) = pushed.iter().find(|item| id(item) == post) {
                return item.clone();
            }
            let update = self.push("feed_update").await;
            pushed.extend(update["items"].as_array().cloned().unwrap_or_default());
        }
    }
}

fn asking(limit: u64, cursor: Option<&str>) -> Value {
    let mut asked = json!({ "limit": limit });
    if let Some(cursor) = cursor {
        asked["cursor"] = cursor.into();
    }
    json!({ "feed_page": asked })
}

/// A page over HTTP: its status and body.
async fn get_page(http: &reqwest::Client, node: &Server, person: &Person, query: &str) -> (u16, Value) {
    let answer = http.get(node.url(&format!("/v1/feed?{query}"))).bearer_auth(person.token()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn next_of(page: &Value) -> Option<String> {
    page["next"].as_str().map(str::to_owned)
}

fn sorted(posts: &[String]) -> Vec<String> {
    let mut posts = posts.to_vec();
    posts.sort();
    posts
}

fn posts(page: &Value) -> Vec<String> {
    page["items"].as_array().into_iter().flatten().map(id).collect()
}

fn id(item: &Value) -> String {
    item["post"]["post_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_has_what_is_followed_with_its_reasons_and_pages_join_without_repeat() {
    let node = server().await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join_with(&node, Codec::Proto).await);
    let empty = ada.page(10, None).await;
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
async fn news_are_pushed_once_from_either_node_and_not_after_a_page_that_has_them() {
    let (a, b) = two_nodes(&ANEW).await;
    let (mut ada, mut cleo) = (Person::new().join(&a).await, Person::new().join(&b).await);
    let mut ben = Person::new().join(&b).await;
    for author in [&ada, &cleo] {
        let user = author.person.user.clone();
        ben.act("follow", json!({ "user_id": user })).await;
    }
    ben.ok(json!({ "feed_subscribe": {} })).await;
    let mut pushed = Vec::new();
    // Whom he follows is read soon after he subscribed.
    until("a push", async || {
        cleo.write("is anybody there?").await;
        ben.settle().await;
        pushed.extend(ben.news());
        !pushed.is_empty()
    })
    .await;

    let remote = ada.write("from the other node").await;
    let told = ben.told(&remote, &mut pushed).await;
    assert_eq!(told["reasons"], json!(["followee"]));
    assert!(told["place"].as_u64().unwrap() >= 1);

    let near = cleo.write("in a page").await;
    let page = ben.page(50, None).await;
    assert!(posts(&page).contains(&near), "{page}");
    pushed.extend(ben.news());
    let mut after = Vec::new();
    let last = cleo.write("after it").await;
    ben.told(&last, &mut after).await;
    let repeated: Vec<_> = after.iter().filter(|item| posts(&page).contains(&id(item))).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    let mut all: Vec<String> = pushed.iter().chain(&after).map(id).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "nothing is pushed twice");

    ben.ok(json!({ "feed_unsubscribe": {} })).await;
    ben.news();
    cleo.write("unheard").await;
    ben.settle().await;
    assert_eq!(ben.news().len(), 0);
}
