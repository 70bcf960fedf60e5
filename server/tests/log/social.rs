use std::collections::BTreeSet;

use bowline::deadline::Deadline;
use bowline::log::{Action, Command, Config, Social, Stored};
use bowline_protocol::command::{Draft, ProfileChange};
use bowline_protocol::wire::{self, ConversationKind, entry::Content};
use bowline_protocol::{Code, CommentId, PostId, UserId};
use bowline_testkit::TestDatabase;

use crate::fixture::*;

/// Somebody with a post, and somebody who reads it.
struct Place {
    database: TestDatabase,
    node: Node,
    author: UserId,
    reader: UserId,
    stranger: UserId,
    post: PostId,
}

impl Place {
    async fn make() -> Self {
        let database = TestDatabase::create().await;
        let node = Node::start(&database);
        let [author, reader, stranger] = users(&database).await;
        let post = posted(&node, author, "Wind is up").await;
        Self { database, node, author, reader, stranger, post }
    }

    async fn ok(&self, user: UserId, social: Social) -> Stored {
        self.node.run(does(user, social)).await.unwrap()
    }

    async fn check(&self, what: &str, user: UserId, social: Social, expected: Result<(), (Code, Option<&str>)>) {
        let outcome = self.node.run(does(user, social)).await;
        let outcome = outcome.map(|_| ()).map_err(|failure| (failure.code, failure.field));
        let expected = expected.map_err(|(code, field)| (code, field.map(str::to_owned)));
        assert_eq!(outcome, expected, "{what}");
    }

    /// Likes, comments and shares of the post.
    async fn counts(&self) -> (i64, i64, i64) {
        check_counts(&self.database).await;
        let sql = "SELECT likes, comments, shares FROM read_posts(ARRAY[$1::uuid])";
        let row = self.database.connect().await.query_one(sql, &[&self.post.0]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }
}

fn does(user: UserId, social: Social) -> Command {
    command(user.log(), user, Action::Social(social))
}

fn draft(body: &str) -> Draft {
    let attachment = wire::Attachment { url: "https://files.example.org/1.jpg".to_owned(), ..Default::default() };
    Draft { body: body.to_owned(), attachments: vec![attachment], attrs: Some(r#"{"place":"harbour"}"#.to_owned()) }
}

fn post(body: &str) -> Social {
    Social::Post { post: PostId::new(), draft: draft(body) }
}

fn comment(post: PostId, body: &str) -> Social {
    Social::Comment { comment: CommentId::new(), post, body: body.to_owned() }
}

async fn posted(node: &Node, author: UserId, body: &str) -> PostId {
    PostId(node.run(does(author, post(body))).await.unwrap().made.unwrap())
}

/// Every count is what it counts, in any database, whatever was done to it.
async fn check_counts(database: &TestDatabase) {
    let wrong = "
        SELECT p.id, c.likes, c.comments, c.shares FROM posts p
        CROSS JOIN LATERAL (SELECT coalesce(sum(likes), 0) AS likes, coalesce(sum(comments), 0) AS comments,
                                   coalesce(sum(shares), 0) AS shares FROM post_counts c WHERE c.post_id = p.id) c
        WHERE c.likes <> (SELECT count(*) FROM post_likes x WHERE x.post_id = p.id)
           OR c.comments <> (SELECT count(*) FROM comments x WHERE x.post_id = p.id)
           OR c.shares <> (SELECT count(*) FROM post_shares x WHERE x.post_id = p.id)
        UNION ALL
        SELECT u.id, c.followers, c.followees, c.posts FROM users u
        CROSS JOIN LATERAL (SELECT coalesce(sum(followers), 0) AS followers, coalesce(sum(followees), 0) AS followees,
                                   coalesce(sum(posts), 0) AS posts FROM user_counts c WHERE c.user_id = u.id) c
        WHERE c.followers <> (SELECT count(*) FROM follows x WHERE x.followee_id = u.id)
           OR c.followees <> (SELECT count(*) FROM follows x WHERE x.follower_id = u.id)
           OR c.posts <> (SELECT count(*) FROM posts x WHERE x.author_id = u.id AND x.deleted_at IS NULL)";
    let client = database.connect().await;
    let rows = client.query(wrong, &[]).await.unwrap();
    assert!(rows.is_empty(), "counts that are wrong: {rows:?}");
    let counted = "
        SELECT (attrs ->> 'post')::uuid, sum(CASE kind WHEN 50 THEN 1 ELSE -1 END) FROM entries
        WHERE kind IN (50, 51) AND attrs ? 'counted' GROUP BY 1
        EXCEPT SELECT post_id, count(*) FROM post_likes GROUP BY 1";
    let rows = client.query(counted, &[]).await.unwrap();
    assert!(rows.iter().all(|row| row.get::<_, i64>(1) == 0), "`counted` of the log and likes differ: {rows:?}");
    check_dense(database).await;
}

#[tokio::test]
async fn who_may_do_what_with_posts_and_people() {
    let place = Place::make().await;
    let Place { author, reader, stranger, post, .. } = place;
    let (nobody, no_post) = (UserId::new(), PostId::new());
    let (not_post, not_user) = (Err((Code::NotFound, Some("post_id"))), Err((Code::NotFound, Some("user_id"))));
    let forbidden = Err((Code::Forbidden, None));
    for (what, user, social, expected) in [
        ("one likes what is not there", reader, Social::Like(no_post), not_post),
        ("one comments on what is not there", reader, comment(no_post, "x"), not_post),
        ("one deletes another's", reader, Social::DeletePost(post), forbidden),
        ("one likes his own", author, Social::Like(post), Ok(())),
        ("one unlikes what he never liked", reader, Social::Unlike(post), Ok(())),
        ("one follows nobody", reader, Social::Follow(nobody), not_user),
        ("one blocks nobody", reader, Social::Block(nobody), not_user),
        ("one mutes nobody", reader, Social::Mute(nobody), not_user),
        ("one follows himself", reader, Social::Follow(reader), Err((Code::Invalid, Some("user_id")))),
        ("one follows", reader, Social::Follow(author), Ok(())),
        ("one blocks his follower", author, Social::Block(reader), Ok(())),
        ("the blocked follows", reader, Social::Follow(author), forbidden),
        ("who blocks follows", author, Social::Follow(reader), forbidden),
        ("the blocked likes", reader, Social::Like(post), not_post),
        ("the blocked comments", reader, comment(post, "x"), not_post),
        ("the blocked shares", reader, Social::Share(post), not_post),
        ("the blocked blocks too", reader, Social::Block(author), Ok(())),
        ("one unblocks", author, Social::Unblock(reader), Ok(())),
        ("one side still blocks", author, Social::Follow(reader), forbidden),
        ("the other unblocks", reader, Social::Unblock(author), Ok(())),
        ("all is well again", reader, Social::Follow(author), Ok(())),
        ("one likes before it goes", stranger, Social::Like(post), Ok(())),
        ("one deletes his own", author, Social::DeletePost(post), Ok(())),
        ("one deletes it again", author, Social::DeletePost(post), Ok(())),
        ("one likes what is gone", reader, Social::Like(post), Err((Code::TargetGone, Some("post_id")))),
        ("one unlikes what is gone", stranger, Social::Unlike(post), Ok(())),
    ] {
        place.check(what, user, social, expected).await;
    }
    let into_anothers = command(author.log(), reader, Action::Social(Social::Like(post)));
    assert_eq!(place.node.run(into_anothers).await.unwrap_err().code, Code::NotFound);
    check_counts(&place.database).await;
}

#[tokio::test]
async fn what_changes_nothing_is_stored_and_not_counted() {
    let place = Place::make().await;
    let Place { reader, author, post, .. } = place;
    for _ in 0..3 {
        for social in [Social::Like(post), Social::Share(post), Social::Follow(author)] {
            place.ok(reader, social).await;
        }
    }
    place.ok(reader, comment(post, "one")).await;
    place.ok(reader, comment(post, "two")).await;
    assert_eq!(place.counts().await, (1, 2, 1));
    for _ in 0..2 {
        place.ok(reader, Social::Unlike(post)).await;
        place.ok(reader, Social::Unfollow(author)).await;
    }
    assert_eq!(place.counts().await, (0, 2, 1));
}

#[tokio::test]
async fn sending_twice_is_once_whatever_happened_since() {
    let place = Place::make().await;
    let Place { author, reader, post: first, .. } = place;
    for social in [post("again"), comment(first, "again"), Social::Like(first), Social::Block(author)] {
        let one = does(reader, social.clone());
        let stored = place.node.run(one.clone()).await.unwrap();
        // As the server takes it the second time: the ids that it gives are others.
        let again = match social {
            Social::Post { draft, .. } => Social::Post { post: PostId::new(), draft },
            Social::Comment { post, body, .. } => Social::Comment { comment: CommentId::new(), post, body },
            social => social,
        };
        let two = Command { action: Action::Social(again), ..one.clone() };
        let repeat = place.node.run(two).await.unwrap();
        assert_eq!(repeat, Stored { repeat: true, ..stored });
        let other = Command { action: Action::Social(Social::Mute(author)), ..one };
        assert_eq!(place.node.run(other).await.unwrap_err().code, Code::IdReused);
    }
    check_counts(&place.database).await;
}

#[tokio::test]
async fn commands_of_one_user_count_one_after_the_other_within_a_batch() {
    let place = Place::make().await;
    let Place { author, reader, post: first, .. } = place;
    let chat = group(&place.node, author, &[]).await;
    let twice = does(reader, post("twice"));
    let batch = vec![
        does(reader, Social::Like(first)),
        does(reader, Social::Like(first)),
        does(reader, Social::Unlike(first)),
        does(reader, Social::Like(first)),
        twice.clone(),
        twice,
        does(reader, Social::Follow(author)),
        does(author, Social::Block(reader)),
        does(reader, Social::Follow(author)),
        does(reader, Social::Like(first)),
    ];
    let outcomes = in_one_batch(&place.database, &place.node, (chat, author), batch).await;
    let made: Vec<_> = outcomes[4..6].iter().map(|o| o.as_ref().unwrap().made.unwrap()).collect();
    assert_eq!(made[0], made[1]);
    let expected =
        [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Err(Code::Forbidden), Err(Code::NotFound)];
    let outcomes: Vec<_> = outcomes.into_iter().map(|o| o.map(|_| ()).map_err(|failure| failure.code)).collect();
    assert_eq!(outcomes, expected);
    assert_eq!(place.counts().await.0, 1);
    let last = place.node.whole(reader.log()).await.pop().unwrap();
    assert_eq!(last.content, Some(Content::Unfollowed(wire::AboutUser { user_id: author.to_wire() })));
    assert_eq!(last.sender_id, author.to_wire());
}

#[tokio::test]
async fn what_is_published_is_what_is_read() {
    let place = Place::make().await;
    let Place { author, reader, post: first, .. } = place;
    place.ok(author, Social::Follow(reader)).await;
    let profile = ProfileChange { bio: Some("Sails.".to_owned()), ..ProfileChange::default() };
    for social in [
        post("mine"),
        Social::Like(first),
        Social::Unlike(first),
        comment(first, "Which harbour?"),
        Social::Share(first),
        Social::Follow(author),
        Social::Unfollow(author),
        Social::Follow(author),
        Social::Mute(author),
        Social::Unmute(author),
        Social::Profile(profile),
        Social::Block(author),
        Social::Unblock(author),
    ] {
        place.ok(reader, social).await;
    }
    for user in [author, reader] {
        assert_eq!(place.node.sunk()[&user.log()], place.node.whole(user.log()).await);
    }
    let entries = place.node.whole(reader.log()).await;
    let changed = Content::ProfileChanged(wire::ProfileChanged { bio: "Sails.".to_owned(), ..Default::default() });
    assert!(entries.iter().any(|entry| entry.content == Some(changed.clone())), "{entries:?}");
    let ended = entries.iter().filter(|entry| matches!(entry.content, Some(Content::Unfollowed(_)))).count();
    assert_eq!(ended, 2, "by himself, and by the block");
}

#[tokio::test]
async fn the_text_of_a_deleted_post_is_nowhere() {
    let place = Place::make().await;
    let Place { author, post, .. } = place;
    let deleted = place.ok(author, Social::DeletePost(post)).await;
    let entries = place.node.whole(author.log()).await;
    let Some(Content::Posted(posted)) = &entries[0].content else { panic!("{entries:?}") };
    assert_eq!((posted.deleted, &posted.body, posted.attachments.len(), &posted.attrs), (true, &None, 0, &None));
    assert_eq!(entries[0].version, deleted.seq);
    let fact = wire::PostDeleted { post_id: post.to_wire(), target_seq: 1 };
    assert_eq!(entries[1].content, Some(Content::PostDeleted(fact)));
    let sql = "SELECT (SELECT count(*) FROM posts WHERE body <> '' OR attrs IS NOT NULL)
                    + (SELECT count(*) FROM entries WHERE body IS NOT NULL OR attrs ?| '{app,attachments}')";
    assert_eq!(place.database.connect().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    check_counts(&place.database).await;
}

#[tokio::test]
async fn a_thousand_likes_of_one_post_at_once_are_a_thousand() {
    const PEOPLE: usize = 1_000;
    let place = Place::make().await;
    let ids: Vec<uuid::Uuid> = (0..PEOPLE).map(|_| uuid::Uuid::now_v7()).collect();
    place.database.connect().await.execute("SELECT ensure_users($1)", &[&ids]).await.unwrap();
    // Two nodes of four writers each, in small batches, so that many run beside each other.
    let config = Config { batch_commands: 16, ..Config::default() };
    let nodes = [0, 1].map(|_| Node::start_with(place.database.url(), config.clone()));
    let mut outcomes = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let like = does(UserId(*id), Social::Like(place.post));
        outcomes.extend(nodes[n % 2].give_all([like.clone(), does(UserId(*id), comment(place.post, "yes")), like]));
    }
    for outcome in all(outcomes).await {
        outcome.unwrap();
    }
    assert_eq!(place.counts().await, (PEOPLE as i64, PEOPLE as i64, 0));
}

#[tokio::test]
async fn a_like_waits_for_nobody_elses_log_and_not_for_the_post() {
    let place = Place::make().await;
    let held = Held::take(&place.database, place.author.log()).await;
    let other = place.database.connect().await;
    other.batch_execute("BEGIN; SELECT FROM posts FOR UPDATE; SELECT FROM users FOR UPDATE").await.unwrap();
    for social in
        [Social::Like(place.post), comment(place.post, "x"), Social::Share(place.post), Social::Follow(place.author)]
    {
        place.ok(place.reader, social).await;
    }
    other.batch_execute("COMMIT").await.unwrap();
    held.release().await;
    assert_eq!(place.counts().await, (1, 1, 1));
}

#[tokio::test]
async fn nobody_follows_one_who_blocks_him_in_the_same_moment() {
    let database = TestDatabase::create().await;
    let (one, other) = (Node::start(&database), Node::start(&database));
    for _ in 0..20 {
        let [a, b] = users(&database).await;
        let (follows, blocks) = (does(a, Social::Follow(b)), does(b, Social::Block(a)));
        let (followed, blocked) = tokio::join!(one.run(follows), other.run(blocks));
        blocked.unwrap();
        if let Err(failure) = followed {
            assert_eq!(failure.code, Code::Forbidden);
        }
    }
    let both =
        "SELECT count(*) FROM follows f JOIN blocks b ON b.user_id = f.followee_id AND b.target_id = f.follower_id";
    assert_eq!(database.connect().await.query_one(both, &[]).await.unwrap().get::<_, i64>(0), 0);
    check_counts(&database).await;
}

#[tokio::test]
async fn likes_follows_and_blocks_across_nodes_never_wait_in_a_circle() {
    let database = TestDatabase::create().await;
    let nodes = [0, 1].map(|_| Node::start_with(database.url(), Config { batch_commands: 8, ..Config::default() }));
    let people: [UserId; 8] = users(&database).await;
    let mut posts = Vec::new();
    for author in people {
        posts.push(posted(&nodes[0], author, "post").await);
    }
    let mut outcomes = Vec::new();
    for round in 0..40 {
        for (n, user) in people.into_iter().enumerate() {
            // Each in an order of his own.
            let at = |step: usize| (n * 3 + round * (n + 1) + step) % people.len();
            let whom = people[if at(1) == n { (n + 1) % people.len() } else { at(1) }];
            let social = [
                Social::Like(posts[at(2)]),
                Social::Unlike(posts[at(3)]),
                Social::Follow(whom),
                Social::Block(whom),
                Social::Unblock(whom),
                comment(posts[at(4)], "x"),
            ];
            outcomes
                .push(nodes[(n + round) % 2].give(does(user, social[(n + round) % 6].clone()), Deadline::after(LONG)));
        }
    }
    let codes: BTreeSet<&str> =
        all(outcomes).await.into_iter().filter_map(Result::err).map(|failure| failure.code.name()).collect();
    assert!(codes.is_subset(&BTreeSet::from(["forbidden", "not_found"])), "{codes:?}");
    check_counts(&database).await;
}

#[tokio::test]
async fn a_block_closes_the_direct_conversation_of_the_two_and_nothing_else() {
    let place = Place::make().await;
    let Place { author: ada, reader: ben, stranger: cem, .. } = place;
    let group = group(&place.node, ada, &[ben]).await;
    let direct = |from, to| create(from, ConversationKind::Direct, &[to]);
    let first = direct(ada, ben);
    let (log, _) = place.node.run(first.clone()).await.unwrap().conversation.unwrap();
    let (other, _) = place.node.run(direct(ada, cem)).await.unwrap().conversation.unwrap();
    let said = place.node.run(text(log, ben, "before")).await.unwrap().seq;
    let to_message = |sender, action| command(log, sender, action);
    let edit = || Action::Edit { target_seq: said, version: said, body: "after".into() };
    let react = || Action::React { target_seq: said, emoji: "⛵".into() };
    place.node.run(to_message(ada, react())).await.unwrap();

    let open = async |expected: Result<(), Code>, what: &str| {
        for (sender, to) in [(ada, ben), (ben, ada)] {
            for given in [text(log, sender, "x"), to_message(sender, react()), direct(sender, to)] {
                let outcome = place.node.run(given.clone()).await.map(|_| ()).map_err(|failure| failure.code);
                assert_eq!(outcome, expected, "{what}: {given:?}");
            }
        }
    };
    open(Ok(()), "before").await;
    place.ok(ada, Social::Block(ben)).await;
    open(Err(Code::Forbidden), "blocked").await;
    assert_eq!(place.node.run(to_message(ben, edit())).await.unwrap_err().code, Code::Forbidden);
    assert!(place.node.run(first).await.unwrap().repeat, "a repeat has its outcome of then");
    // Taking back is not saying.
    place.node.run(to_message(ada, Action::Unreact { target_seq: said, emoji: "⛵".into() })).await.unwrap();
    place.node.run(text(group, ben, "in a group clients hide")).await.unwrap();
    place.node.run(text(other, cem, "others are not touched")).await.unwrap();

    place.ok(ben, Social::Block(ada)).await;
    place.ok(ada, Social::Unblock(ben)).await;
    open(Err(Code::Forbidden), "one side still blocks").await;
    place.ok(ben, Social::Unblock(ada)).await;
    open(Ok(()), "after").await;

    place.ok(ben, Social::Block(cem)).await;
    let refused = place.node.run(direct(cem, ben)).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "a conversation that was never there");
    let made = "SELECT count(*) FROM conversations WHERE kind = 1";
    assert_eq!(place.database.connect().await.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 2);
}
