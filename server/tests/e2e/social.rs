//! Posts and people on sockets: what one does is in his own log, live at his other devices and when he comes back.

use bowline_client::{Client as Sdk, Config, ProfileChange, TokenSource};
use bowline_protocol::wire::PeopleKind;
use bowline_protocol::{Codec, UserId};
use serde_json::{Value, json};

use crate::client::{Client, change, new_id};
use crate::person::Person;
use crate::world::{server, two_nodes};

impl Client {
    /// A durable command with a fresh client_id; what it is answered.
    async fn does(&mut self, command: &str, mut fields: Value) -> Value {
        fields["client_id"] = new_id().into();
        self.ok(json!({ command: fields })).await
    }

    async fn posts(&mut self, body: &str) -> String {
        self.does("post_create", json!({ "body": body })).await["made_id"].as_str().unwrap().to_owned()
    }

    /// The contents of this user's own log: the name of each and what it holds.
    fn did(&self) -> Vec<(String, Value)> {
        const KINDS: [&str; 13] = [
            "posted",
            "post_deleted",
            "liked",
            "unliked",
            "commented",
            "shared",
            "followed",
            "unfollowed",
            "blocked",
            "unblocked",
            "user_muted",
            "user_unmuted",
            "profile_changed",
        ];
        let kind = |item: &Value| KINDS.iter().find(|kind| item.get(**kind).is_some()).map(|kind| (*kind).to_owned());
        self.own_items().iter().filter_map(|item| kind(item).map(|kind| (kind.clone(), item[&kind].clone()))).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.did().into_iter().map(|(kind, _)| kind).collect()
    }
}

#[tokio::test]
async fn what_two_people_do_is_in_the_log_of_each_on_every_device_and_after_coming_back() {
    let (a, b) = two_nodes(&[]).await;
    let (ada, ben) = (Person::new(), Person::new());
    let mut ada = ada.join(&a).await;
    let mut away = ben.elsewhere().join(&a).await.vanish();
    let mut ben = ben.join_with(&b, Codec::Proto).await;
    let mut beside = ben.person.elsewhere().join(&a).await;
    let user = ada.person.user.clone();

    ben.does("follow", json!({ "user_id": user })).await;
    let post = ada.posts("Wind is up ⛵").await;
    ben.does("post_like", json!({ "post_id": post })).await;
    let comment = ben.does("comment_create", json!({ "post_id": post, "body": "Which harbour?" })).await;
    let last = ben.does("post_share", json!({ "post_id": post })).await["seq"].as_u64().unwrap();

    let shown = ben.ok(json!({ "post_get": { "post_id": post } })).await;
    assert_eq!(
        (&shown["likes"], &shown["comments"], &shown["shares"], &shown["liked"]),
        (&json!(1), &json!(1), &json!(1), &json!(true))
    );
    assert_eq!(shown["author"]["user_id"], user);
    let said = ada.ok(json!({ "comment_list": { "post_id": post, "limit": 10 } })).await;
    assert_eq!(
        (&said["items"][0]["body"], &said["items"][0]["comment_id"]),
        (&json!("Which harbour?"), &comment["made_id"])
    );
    let profile = ben.ok(json!({ "profile_get": { "user_id": user } })).await;
    assert_eq!((&profile["followers"], &profile["posts"], &profile["followed"]), (&json!(1), &json!(1), &json!(true)));

    let expected = ["followed", "liked", "commented", "shared"];
    let own = ben.person.user.clone();
    for device in [&mut ben, &mut beside] {
        device.reaches(&own, last).await;
        assert_eq!(device.kinds(), expected);
    }
    let about = json!({ "post_id": post, "author_id": user });
    assert_eq!(ben.did()[1].1, about);
    let author = ada.person.user.clone();
    ada.reaches(&author, 1).await;
    assert_eq!(
        ada.did(),
        [("posted".to_owned(), json!({ "post_id": post, "body": "Wind is up ⛵", "deleted": false }))]
    );

    // Ada wants nothing more of him: he hears that he follows her no longer, and does not find her.
    ada.does("block", json!({ "user_id": own })).await;
    for device in [&mut ben, &mut beside] {
        device.reaches(&own, last + 1).await;
        assert_eq!(device.did().last().unwrap(), &("unfollowed".to_owned(), json!({ "user_id": user })));
    }
    for (command, name) in [
        (json!({ "post_get": { "post_id": post } }), "not_found"),
        (json!({ "post_list": { "user_id": user } }), "not_found"),
        (json!({ "profile_get": { "user_id": user } }), "not_found"),
        (json!({ "people_list": { "kind": "followers", "user_id": user } }), "not_found"),
        (json!({ "follow": { "client_id": new_id(), "user_id": user } }), "forbidden"),
        (
            json!({ "conversation_create": { "client_id": new_id(), "kind": "direct", "user_ids": [user] } }),
            "forbidden",
        ),
        (json!({ "comment_create": { "client_id": new_id(), "post_id": post, "body": "why?" } }), "not_found"),
    ] {
        assert_eq!(ben.refused(command.clone()).await["name"], name, "{command}");
    }

    // One who was away gets all of it with his own log.
    away = away.person.resume(&b, &away).await;
    away.reaches(&own, last + 1).await;
    assert_eq!(away.kinds(), ["followed", "liked", "commented", "shared", "unfollowed"]);
}

#[tokio::test]
async fn a_deleted_post_has_no_text_for_a_device_that_was_away_or_reads_again() {
    let node = server().await;
    let ada = Person::new();
    let away = ada.join(&node).await.vanish();
    let mut here = ada.elsewhere().join(&node).await;
    let post = here.posts("SECRET").await;
    here.reaches(&ada.user, 1).await;
    assert_eq!(here.did()[0].1["body"], "SECRET");
    let deleted = here.does("post_delete", json!({ "post_id": post })).await["seq"].as_u64().unwrap();
    let mut back = ada.resume(&node, &away).await;
    back.reaches(&ada.user, deleted).await;
    here.open_at(&ada.user, 0).await;
    here.reaches(&ada.user, deleted).await;
    let expected = [
        ("posted".to_owned(), json!({ "post_id": post, "deleted": true })),
        ("post_deleted".to_owned(), json!({ "post_id": post, "target_seq": 1 })),
    ];
    assert_eq!(back.did(), expected);
    assert_eq!(here.did(), expected);
    assert_eq!(here.refused(json!({ "post_get": { "post_id": post } })).await["name"], "target_gone");
}

#[tokio::test]
async fn a_block_ends_what_is_said_in_a_direct_conversation_on_both_nodes() {
    let (a, b) = two_nodes(&[]).await;
    let (mut ada, mut ben) = (Person::new().join(&a).await, Person::new().join(&b).await);
    let log = ada.create(json!({ "kind": "direct", "user_ids": [ben.person.user] })).await;
    ben.member_of(&log).await;
    ben.say(&log, "hello").await;
    let (adas, bens) = (ada.person.user.clone(), ben.person.user.clone());
    ada.does("block", json!({ "user_id": bens })).await;
    for client in [&mut ada, &mut ben] {
        let error = client.refused(change("send", &log, json!({ "body": "x" }))).await;
        assert_eq!(error["name"], "forbidden");
    }
    ada.does("unblock", json!({ "user_id": bens })).await;
    let seq = ben.say(&log, "again").await;
    ada.reaches(&log, seq).await;
    assert_eq!(ada.bodies(&log), ["hello", "again"]);
    assert_eq!(ada.refused(json!({ "block": { "client_id": new_id(), "user_id": adas } })).await["field"], "user_id");
}

#[tokio::test]
async fn a_command_sent_again_is_answered_as_the_first_time() {
    let (a, b) = two_nodes(&[]).await;
    let person = Person::new();
    let (mut here, mut there) = (person.join(&a).await, person.elsewhere().join(&b).await);
    let create = json!({ "post_create": { "client_id": new_id(), "body": "once" } });
    let (one, two) = (here.ok(create.clone()).await, there.ok(create).await);
    assert_eq!((&one["repeat"], &two["repeat"]), (&json!(false), &json!(true)));
    assert_eq!((&one["made_id"], &one["seq"]), (&two["made_id"], &two["seq"]));
    let list = here.ok(json!({ "post_list": { "user_id": person.user } })).await;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["more"]), (1, &json!(false)));
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_named_with_its_limit() {
    let node = server().await;
    let mut ada = Person::new().join(&node).await;
    let user = ada.person.user.clone();
    for (command, name, field, limit) in [
        (json!({ "post_create": { "client_id": new_id(), "body": "" } }), "invalid", "post_create.body", Value::Null),
        (
            json!({ "post_create": { "client_id": new_id(), "body": "x".repeat(16_385) } }),
            "too_large",
            "post_create.body",
            json!(16_384),
        ),
        (json!({ "post_like": { "client_id": new_id(), "post_id": new_id() } }), "not_found", "post_id", Value::Null),
        (json!({ "follow": { "client_id": new_id(), "user_id": new_id() } }), "not_found", "user_id", Value::Null),
        (json!({ "follow": { "client_id": new_id(), "user_id": user } }), "invalid", "user_id", Value::Null),
        (json!({ "people_list": { "user_id": user, "limit": 101 } }), "too_large", "people_list.limit", json!(100)),
        (json!({ "people_list": { "user_id": user, "kind": "foes" } }), "invalid", "people_list.kind", Value::Null),
        (
            json!({ "post_list": { "user_id": user, "after_post_id": user } }),
            "invalid",
            "post_list.after_at_ms",
            Value::Null,
        ),
        (
            json!({ "profile_set": { "client_id": new_id(), "bio": "x".repeat(1_025) } }),
            "too_large",
            "profile_set.bio",
            json!(1_024),
        ),
    ] {
        let error = ada.refused(command.clone()).await;
        assert_eq!(
            (&error["name"], &error["field"], &error["limit"]),
            (&json!(name), &json!(field), &limit),
            "{command}"
        );
    }
}

#[tokio::test]
async fn the_rust_client_does_all_of_it() {
    let node = server().await;
    let start = |person: &Person| {
        let token = TokenSource::Fixed(person.token());
        Sdk::start(Config::new(node.url(""), token)).unwrap()
    };
    let (ada, ben) = (Person::new(), Person::new());
    let user = |person: &Person| person.user.parse::<UserId>().unwrap();
    let ((here, mut events), (there, mut others)) = (start(&ada), start(&ben));
    tokio::spawn(async move { while events.next().await.is_some() {} });
    tokio::spawn(async move { while others.next().await.is_some() {} });
    let name = ProfileChange { display_name: Some("Ada".to_owned()), ..ProfileChange::default() };
    here.set_profile(name).await.unwrap();
    let mut posts = Vec::new();
    for n in 0..5 {
        posts.push(here.post(n.to_string().as_str()).await.unwrap());
    }
    there.follow(user(&ada)).await.unwrap();
    there.like(posts[0]).await.unwrap();
    there.share(posts[0]).await.unwrap();
    there.comment(posts[0], "one").await.unwrap();
    there.comment(posts[0], "two").await.unwrap();
    let post = there.get_post(posts[0]).await.unwrap();
    assert_eq!((post.likes, post.comments, post.shares, post.liked), (1, 2, 1, true));
    assert_eq!(post.author.unwrap().display_name, "Ada");
    there.unlike(posts[0]).await.unwrap();
    let said = there.comments(posts[0], 1, None).await.unwrap();
    let more = there.comments(posts[0], 1, said.items.last()).await.unwrap();
    assert_eq!([&said.items[0].body, &more.items[0].body], ["two", "one"]);
    assert!(said.more && !more.more);

    here.delete_post(posts[4]).await.unwrap();
    let first = there.posts_by(user(&ada), 2, None).await.unwrap();
    let last = there.posts_by(user(&ada), 2, first.items.last()).await.unwrap();
    let bodies: Vec<_> = first.items.iter().chain(&last.items).map(|post| post.body.as_str()).collect();
    assert_eq!(bodies, ["3", "2", "1", "0"]);

    let followers = here.people(PeopleKind::Followers, user(&ada), 10, None).await.unwrap();
    assert_eq!(followers.items[0].person.as_ref().unwrap().user_id, user(&ben).to_wire());
    let none = here.people(PeopleKind::Followers, user(&ada), 10, followers.items.last()).await.unwrap();
    assert_eq!(none.items, []);
    there.mute_user(user(&ada), true).await.unwrap();
    let profile = there.profile(user(&ada)).await.unwrap();
    assert_eq!((profile.posts, profile.followers, profile.muted, profile.followed), (4, 1, true, true));
    there.unfollow(user(&ada)).await.unwrap();
    here.block(user(&ben)).await.unwrap();
    assert!(there.profile(user(&ada)).await.is_err());
    here.unblock(user(&ben)).await.unwrap();
    assert_eq!(there.profile(user(&ada)).await.unwrap().followers, 0);
}
