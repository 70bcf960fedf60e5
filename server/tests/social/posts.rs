use bowline_protocol::command::{Draft, PeopleChange, PostChange};
use bowline_protocol::{Code, PostId, UserId, wire};

use crate::fixture::*;

#[tokio::test]
async fn a_post_is_shown_as_it_was_written_with_what_people_think_of_it() {
    let world = World::start().await;
    let [ada, ben, cem] = world.users().await;
    let attachment = wire::Attachment {
        url: "https://files.example.org/1.jpg".to_owned(),
        media_type: "image/jpeg".to_owned(),
        size: 184_320,
        sha256: None,
    };
    let attrs = Some(r#"{"place":"harbour"}"#.to_owned());
    let draft = Draft { body: String::new(), attachments: vec![attachment.clone()], attrs: attrs.clone() };
    let stored = world.change(ada, PostChange::Create(draft)).await.unwrap();
    let post = PostId(stored.made.unwrap());
    let name = bowline_protocol::command::ProfileChange { display_name: Some("Ada".to_owned()), ..Default::default() };
    world.people(ada, PeopleChange::Profile(name)).await;
    for user in [ben, cem] {
        world.change(user, PostChange::Like(post)).await.unwrap();
        world.comment(user, post, "yes").await;
    }
    world.change(ben, PostChange::Share(post)).await.unwrap();
    world.change(cem, PostChange::Unlike(post)).await.unwrap();
    let author = wire::Person { user_id: ada.to_wire(), display_name: "Ada".to_owned(), avatar_url: String::new() };
    let expected = wire::Post {
        post_id: post.to_wire(),
        author: Some(author),
        body: String::new(),
        attachments: vec![attachment],
        attrs,
        created_at_ms: stored.created_at_ms,
        likes: 1,
        comments: 2,
        shares: 1,
        liked: false,
    };
    for reader in [ada, ben, cem] {
        let expected = wire::Post { liked: reader == ben, ..expected.clone() };
        assert_eq!(world.posts.get(reader, post, soon()).await.unwrap(), expected);
        assert_eq!(world.by(reader, ada, 10, None).await.unwrap().items, [expected]);
    }
}

#[tokio::test]
async fn pages_have_no_repeat_and_no_hole_while_posts_come_and_go() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let mut written = Vec::new();
    for n in 0..50 {
        written.push(world.post(ada, &n.to_string()).await);
    }
    // Many of one millisecond: the id decides.
    let same = "UPDATE posts SET created_at = (SELECT max(created_at) FROM posts) WHERE seq > 20";
    world.database.connect().await.execute(same, &[]).await.unwrap();
    let writer = tokio::spawn({
        let world = world.clone();
        async move {
            for n in 50..120 {
                world.post(ada, &n.to_string()).await;
            }
        }
    });
    let (mut seen, mut after, mut page_no) = (Vec::new(), None, 0);
    loop {
        let page = world.by(ben, ada, 7, after.as_ref()).await.unwrap();
        seen.extend(page.items.iter().map(|post| PostId::from_wire(&post.post_id).unwrap()));
        after = page.items.last().cloned();
        if !page.more {
            break;
        }
        page_no += 1;
        if page_no == 2 {
            // The place that the next page begins behind goes, and one that is still to come.
            for gone in [*seen.last().unwrap(), written[3]] {
                world.change(ada, PostChange::Delete(gone)).await.unwrap();
            }
        }
    }
    writer.await.unwrap();
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "a post came twice");
    let missing: Vec<_> = written.iter().filter(|post| !seen.contains(post)).collect();
    assert!(missing.iter().all(|post| **post == written[3]), "{missing:?}");
    assert_eq!(world.by(ben, ada, 100, None).await.unwrap().items.len(), 100);
}

#[tokio::test]
async fn a_deleted_post_is_in_no_list_and_says_that_it_is_gone() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let (post, other) = (world.post(ada, "SECRET").await, world.post(ada, "other").await);
    world.comment(ben, post, "what?").await;
    world.change(ada, PostChange::Delete(post)).await.unwrap();
    let listed = world.by(ben, ada, 10, None).await.unwrap();
    assert_eq!(listed.items.iter().map(|p| &p.body).collect::<Vec<_>>(), ["other"]);
    let gone = world.posts.get(ben, post, soon()).await.unwrap_err();
    assert_eq!((gone.code, gone.field.as_deref()), (Code::TargetGone, Some("post_id")));
    assert_eq!(world.said_under(ben, post, 10).await, Err(Code::TargetGone));
    assert_eq!(world.posts.get(ben, other, soon()).await.unwrap().body, "other");
    assert_eq!(world.graph.profile(ben, ada, soon()).await.unwrap().posts, 1);
}

#[tokio::test]
async fn nothing_is_seen_across_a_block_from_either_side() {
    let world = World::start().await;
    let [ada, ben, cem] = world.users().await;
    let (adas, cems) = (world.post(ada, "ada's").await, world.post(cem, "cem's").await);
    for user in [ada, ben, cem] {
        world.comment(user, cems, &format!("{user}")).await;
    }
    let sees = async |reader: UserId, yes: bool, what: &str| {
        let expected = if yes { Ok(()) } else { Err(Code::NotFound) };
        let got = world.posts.get(reader, adas, soon()).await.map(drop).map_err(|failure| failure.code);
        assert_eq!(got, expected, "get, {what}");
        assert_eq!(world.by(reader, ada, 10, None).await.map(drop), expected, "by, {what}");
        assert_eq!(world.said_under(reader, adas, 10).await.map(drop), expected, "comments, {what}");
        let under = world.said_under(reader, cems, 2).await.unwrap();
        assert_eq!(under.len(), if yes { 3 } else { 2 }, "under another's, {what}");
    };
    sees(ben, true, "before").await;
    world.people(ada, PeopleChange::Block(ben)).await;
    sees(ben, false, "blocked by the author").await;
    sees(cem, true, "one who has nothing to do with it").await;
    world.people(ada, PeopleChange::Unblock(ben)).await;
    world.people(ben, PeopleChange::Block(ada)).await;
    sees(ben, false, "the author is blocked").await;
    world.people(ben, PeopleChange::Unblock(ada)).await;
    world.people(ben, PeopleChange::Mute(ada)).await;
    sees(ben, true, "muted only").await;
}

#[tokio::test]
async fn comments_come_newest_first_in_pages_of_any_length() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let post = world.post(ada, "well?").await;
    for n in 0..25 {
        world.comment(ben, post, &n.to_string()).await;
    }
    let expected: Vec<String> = (0..25).rev().map(|n| n.to_string()).collect();
    for limit in [1, 5, 7, 24, 25, 26, 100] {
        assert_eq!(world.said_under(ada, post, limit).await.unwrap(), expected, "pages of {limit}");
    }
    assert_eq!(world.said_under(ada, PostId::new(), 5).await, Err(Code::NotFound));
}
