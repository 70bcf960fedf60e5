//! What a node keeps of posts for a moment.

use std::time::Duration;

use bowline::deadline::Deadline;
use bowline_protocol::command::{PeopleChange, PostChange};
use bowline_protocol::{Code, PostId, UserId};

use crate::fixture::*;

async fn shown(world: &World, reader: UserId, posts: &[PostId]) -> Vec<Option<String>> {
    let posts = world.posts.in_feed(Some(reader), posts, soon()).await.unwrap();
    posts.into_iter().map(|post| Some(post?.body)).collect()
}

fn texts(texts: &[Option<&str>]) -> Vec<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_share_a_few_statements() {
    let world = World::start().await;
    let [ada, readers @ ..] = world.users::<101>().await;
    let mut posts = Vec::new();
    for n in 0..10 {
        posts.push(world.post(ada, &n.to_string()).await);
    }
    let before = world.statements();
    let mut asking = tokio::task::JoinSet::new();
    for reader in readers.into_iter().cycle().take(1_000) {
        let (world, posts) = (world.clone(), posts.clone());
        asking.spawn(async move { shown(&world, reader, &posts).await.into_iter().flatten().count() });
    }
    assert_eq!(asking.join_all().await, [10; 1_000]);
    let (asked, statements) = (world.near("posts", "read"), world.statements() - before);
    assert!(asked + world.near("posts", "found") == 10_000, "{asked}");
    // Of 1,024 keys each at the most, and two of a kind before anybody waited.
    assert!(statements <= 2 * (2 + 10_000_u64.div_ceil(1_000)), "{statements} statements");
}

#[tokio::test]
async fn what_this_node_stored_is_seen_at_once() {
    let world = World::start().await;
    let [ada, ben, cem] = world.users().await;
    let posts = [world.post(ada, "a").await, world.post(cem, "c").await];
    assert_eq!(shown(&world, ben, &posts).await, texts(&[Some("a"), Some("c")]));
    for (change, back, who, expected) in [
        (PeopleChange::Mute(ada), PeopleChange::Unmute(ada), ben, [None, Some("c")]),
        (PeopleChange::Block(cem), PeopleChange::Unblock(cem), ben, [Some("a"), None]),
        (PeopleChange::Block(ben), PeopleChange::Unblock(ben), cem, [Some("a"), None]),
    ] {
        world.people(who, change).await;
        assert_eq!(shown(&world, ben, &posts).await, texts(&expected));
        world.people(who, back).await;
        assert_eq!(shown(&world, ben, &posts).await, texts(&[Some("a"), Some("c")]));
    }
    for (change, likes, liked) in [(PostChange::Like(posts[0]), 1, true), (PostChange::Unlike(posts[0]), 0, false)] {
        world.change(ben, change).await.unwrap();
        let post = world.posts.get(ben, posts[0], soon()).await.unwrap();
        assert_eq!((post.likes, post.liked), (likes, liked));
    }
    world.change(ada, PostChange::Delete(posts[0])).await.unwrap();
    assert_eq!(shown(&world, ben, &posts).await, texts(&[None, Some("c")]));
}

#[tokio::test]
async fn what_another_node_stored_is_seen_once_it_is_heard_of() {
    let here = World::start().await;
    let there = here.beside().await;
    let [ada, ben, cem] = here.users().await;
    let posts = [here.post(ada, "a").await, here.post(cem, "c").await];
    assert_eq!(shown(&here, ben, &posts).await, texts(&[Some("a"), Some("c")]));
    let deleted = there.change(ada, PostChange::Delete(posts[0])).await.unwrap();
    let blocked = there.people(cem, PeopleChange::Block(ben)).await;
    here.posts.changed(&[(ada.log(), deleted.seq), (cem.log(), blocked.seq)]);
    assert_eq!(shown(&here, ben, &posts).await, texts(&[None, None]));
}

#[tokio::test]
async fn where_the_database_does_not_answer_what_is_kept_stands_in_up_to_the_first_that_is_not() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let mut posts = [world.post(ada, "kept").await, world.post(ada, "not").await, world.post(ada, "kept too").await];
    shown(&world, ben, &[posts[0], posts[2]]).await;
    let mut holder = world.database.connect().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE posts").await.unwrap();
    let ask = async |posts: &[PostId]| {
        let found = world.posts.in_feed(Some(ben), posts, Deadline::after(Duration::from_millis(100))).await;
        found.map(|posts| posts.into_iter().map(|post| Some(post?.body)).collect::<Vec<_>>())
    };
    while world.near("posts", "stood_in") == 0 {
        assert_eq!(ask(&posts).await.unwrap(), texts(&[Some("kept")]));
    }
    posts.swap(0, 1);
    assert_eq!(ask(&posts).await.unwrap_err().code, Code::DeadlineExceeded, "nothing is known of the first");
    held.rollback().await.unwrap();
    assert_eq!(shown(&world, ben, &posts).await, texts(&[Some("not"), Some("kept"), Some("kept too")]));
}
