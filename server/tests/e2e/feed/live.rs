//! What is pushed to one who subscribed: soon, once, not too often, and only of those whom he follows.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bowline_testkit::TestDatabase;
use serde_json::{Value, json};

use super::{ANEW, ROOMY, id, posts};
use crate::client::{Client, new_id};
use crate::person::Person;
use crate::world::{node, server_with, two_nodes, until};

/// Posts of one push.
const MOST: usize = 20;
/// What a machine that is busy may take besides.
const SLACK: Duration = Duration::from_secs(3);

impl Client {
    /// Follows these and subscribes, and waits until each of them is heard: whom he follows is read soon after it.
    async fn hears(&mut self, authors: &mut [&mut Client]) {
        for author in authors.iter() {
            self.follows(author).await;
        }
        self.ok(json!({ "feed_subscribe": {} })).await;
        let mut heard = HashSet::new();
        until("a push of each", async || {
            for author in authors.iter_mut() {
                author.write("is anybody there?").await;
            }
            self.settle().await;
            heard.extend(self.news().iter().map(|item| item["post"]["author"]["user_id"].as_str().unwrap().to_owned()));
            authors.iter().all(|author| heard.contains(&author.person.user))
        })
        .await;
    }

    /// All that was pushed to him until this post came.
    async fn pushed_until(&mut self, post: &str) -> Vec<Value> {
        let mut pushed = Vec::new();
        self.told(post, &mut pushed).await;
        pushed
    }
}

/// A node and one that has to learn of it by the change feed, which it looks at each second.
#[tokio::test]
async fn a_new_post_arrives_within_a_second_and_from_another_node_within_two() {
    let (a, b) = two_nodes(&ROOMY).await;
    let (mut near, mut far) = (Person::new().join(&b).await, Person::new().join(&a).await);
    let mut ben = Person::new().join(&b).await;
    ben.hears(&mut [&mut near, &mut far]).await;
    for (author, within) in [(&mut near, Duration::from_secs(1)), (&mut far, Duration::from_secs(2))] {
        let post = author.write("news").await;
        let stored = Instant::now();
        let told = ben.told(&post, &mut Vec::new()).await;
        assert!(stored.elapsed() < within + SLACK, "{:?}", stored.elapsed());
        assert_eq!(told["reasons"], json!(["followee"]));
        assert_eq!(told["post"]["body"], "news");
        assert!(told["place"].as_u64().unwrap() >= 1);
    }
}

/// She writes faster than one may be told.
#[tokio::test]
async fn there_is_one_push_a_second_and_what_is_too_much_for_it_is_the_newest_twenty_and_a_mark() {
    const POSTS: usize = 300;
    let node = server_with(&ROOMY).await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    ben.hears(&mut [&mut ada]).await;
    let began = Instant::now();
    let written = (0..POSTS).map(|n| json!({ "post_create": { "client_id": new_id(), "body": n.to_string() } }));
    let posted = ada.post_all(written).await;
    for id in posted {
        ada.reply(id).await;
    }
    let last = ada.write("last").await;
    let log = ada.person.user.clone();
    until("its log has it", async || {
        ada.settle().await;
        ada.own_items().iter().any(|item| item["posted"]["post_id"] == *last)
    })
    .await;
    let order: Vec<&str> = ada.items(&log).iter().filter_map(|item| item["posted"]["post_id"].as_str()).collect();
    let place = |post: &str| order.iter().position(|other| *other == post).unwrap();

    let mut updates = Vec::new();
    while !updates.iter().any(|update| posts(update).contains(&last)) {
        updates.push(ben.push("feed_update").await);
    }
    let (mut told, mut next) = (HashSet::new(), None);
    for update in &updates {
        let items: Vec<usize> = posts(update).iter().map(|post| place(post)).collect();
        assert!(items.len() <= MOST && items.windows(2).all(|pair| pair[1] == pair[0] + 1), "the newest: {items:?}");
        assert!(items.iter().all(|item| told.insert(*item)), "nothing twice: {items:?}");
        let missed = next.is_some_and(|next| items[0] > next);
        assert!(!missed || update["more"] == true, "a hole without a mark: {items:?}");
        assert!(update["more"] != true || items.len() == MOST, "a mark without a reason: {update}");
        next = items.last().map(|last| last + 1);
    }
    assert!(updates.iter().any(|update| update["more"] == true), "{updates:?}");

    // He goes on, until there would have been many if it were not for the bound; one may have been under way before.
    let mut came = updates.len();
    until("further pushes", async || {
        ada.write("and on").await;
        ben.settle().await;
        came += ben.taken("feed_update").len();
        came >= 4
    })
    .await;
    assert!(came as u64 <= began.elapsed().as_secs() + 2, "{came} in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_page_and_the_pushes_that_follow_it_have_nothing_twice() {
    let node = server_with(&[&ROOMY[..], &ANEW].concat()).await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    ben.hears(&mut [&mut ada]).await;
    let (mut shown, mut told) = (HashSet::new(), HashSet::new());
    for n in 0..2 {
        // One waits for its push while the page is made.
        ada.write(&n.to_string()).await;
        for item in ben.news() {
            assert!(told.insert(id(&item)), "told twice");
        }
        let page = ben.page(50, None).await;
        shown.extend(posts(&page));
        // Those that came before the page.
        told.extend(ben.news().iter().map(id));
        let last = ada.write("after it").await;
        for item in ben.pushed_until(&last).await {
            let post = id(&item);
            assert!(!shown.contains(&post), "{post} was in a page");
            assert!(told.insert(post), "told twice");
        }
    }
}

/// Whose posts do not come though he asked for them once: one whom he left, one whom he muted, one who blocked him.
#[tokio::test]
async fn those_whom_one_left_muted_or_was_blocked_by_are_not_heard() {
    let node = server_with(&ROOMY).await;
    let join = async || Person::new().join(&node).await;
    let (mut left, mut muted, mut blocks, mut stays) = (join().await, join().await, join().await, join().await);
    let mut ben = join().await;
    ben.hears(&mut [&mut left, &mut muted, &mut blocks, &mut stays]).await;
    let (user, reader) = (left.person.user.clone(), ben.person.user.clone());
    ben.act("unfollow", json!({ "user_id": user })).await;
    let user = muted.person.user.clone();
    ben.act("user_mute", json!({ "user_id": user, "muted": true })).await;
    blocks.act("block", json!({ "user_id": reader })).await;
    // Whom he follows is read anew before anything that is written later is pushed.
    let early = stays.write("early").await;
    ben.pushed_until(&early).await;
    for author in [&mut left, &mut muted, &mut blocks] {
        author.write("unheard").await;
    }
    let late = stays.write("late").await;
    let heard: Vec<String> = ben.pushed_until(&late).await.iter().map(id).collect();
    assert_eq!(heard, [late]);

    ben.act("user_mute", json!({ "user_id": user, "muted": false })).await;
    ben.hears(&mut [&mut muted]).await;
}

#[tokio::test]
async fn one_who_unsubscribed_or_never_did_hears_nothing() {
    let node = server_with(&ROOMY).await;
    let (mut ada, mut ben) = (Person::new().join(&node).await, Person::new().join(&node).await);
    let mut other = ben.person.elsewhere().join(&node).await;
    let mut cleo = Person::new().join(&node).await;
    cleo.hears(&mut [&mut ada]).await;
    ben.hears(&mut [&mut ada]).await;
    ben.ok(json!({ "feed_unsubscribe": {} })).await;
    ben.news();
    let post = ada.write("who hears it?").await;
    cleo.pushed_until(&post).await;
    for unsubscribed in [&mut ben, &mut other] {
        unsubscribed.settle().await;
        assert_eq!(unsubscribed.news().len(), 0);
    }
    ben.hears(&mut [&mut ada]).await;
}

/// He is muted while a post of his waits for its turn, since the reader was told of another one just before.
#[tokio::test]
async fn what_waited_when_its_author_was_muted_is_not_pushed() {
    let node = server_with(&ROOMY).await;
    let (mut ada, mut cleo) = (Person::new().join(&node).await, Person::new().join(&node).await);
    let mut ben = Person::new().join(&node).await;
    ben.hears(&mut [&mut ada, &mut cleo]).await;
    let just_now = ada.write("just now").await;
    ben.pushed_until(&just_now).await;
    let waits = ada.write("waits").await;
    let user = ada.person.user.clone();
    ben.act("user_mute", json!({ "user_id": user, "muted": true })).await;
    // What came before the answer came in time.
    ben.news();
    let last = cleo.write("of another").await;
    let heard: Vec<String> = ben.pushed_until(&last).await.iter().map(id).collect();
    assert!(!heard.contains(&waits), "{heard:?}");
}

/// The change feed tells another node only that an author did something.
#[tokio::test]
async fn a_post_of_long_ago_is_no_news_when_its_author_likes_something() {
    let database = TestDatabase::create().await;
    let (a, b) = tokio::join!(node(database.url(), &ROOMY), node(database.url(), &ROOMY));
    let (mut ada, mut cleo) = (Person::new().join(&a).await, Person::new().join(&b).await);
    let mut there = ada.person.elsewhere().join(&b).await;
    let mut is_known_there = async |kind: &str| {
        until("the other node knows what she did", async || {
            there.settle().await;
            there.own_items().iter().any(|item| item.get(kind).is_some())
        })
        .await;
    };
    let old = ada.write("long ago").await;
    is_known_there("posted").await;
    let hour = "UPDATE posts SET created_at = created_at - interval '1 hour'";
    database.connect().await.execute(hour, &[]).await.unwrap();
    let mut ben = Person::new().join(&b).await;
    ben.follows(&ada).await;
    ben.hears(&mut [&mut cleo]).await;
    let liked = cleo.write("liked").await;
    ben.pushed_until(&liked).await;
    ada.act("post_like", json!({ "post_id": liked })).await;
    is_known_there("liked").await;
    let last = cleo.write("last").await;
    let heard: Vec<String> = ben.pushed_until(&last).await.iter().map(id).collect();
    assert!(!heard.contains(&old), "{heard:?}");
}
