//! What the three sources propose to a reader.

use std::collections::HashSet;
use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::feed::candidate::Candidate;
use bowline::feed::candidate::{AFFINITY_POSTS, FOLLOWEE_POSTS, TRENDING_POSTS};
use bowline::feed::clickhouse;
use bowline::storage::clickhouse::{ClickHouse, Fault as ReadFault};
use bowline_protocol::UserId;
use bowline_testkit::{Fault, FaultProxy};
use uuid::Uuid;

use crate::fixture::*;

/// A network of which the test says what happens.
struct World {
    server: bowline_testkit::ClickHouse,
    clickhouse: ClickHouse,
}

impl World {
    async fn make() -> Self {
        let (server, _) = databases().await;
        // Sums stay in the rows in which they came, as they do between two merges.
        for table in ["posts_by_author", "trending", "affinity"] {
            server.query(&format!("SYSTEM STOP MERGES {table}")).await;
        }
        Self { clickhouse: connect(&server.url()), server }
    }

    async fn post(&self, author: UserId, minutes_ago: u64) -> Uuid {
        let post = post_made(minutes_ago);
        self.did(author, "post", post, author, minutes_ago, 1).await;
        post
    }

    /// Each call is a batch of its own.
    async fn did(&self, actor: UserId, what: &str, post: Uuid, author: UserId, minutes_ago: u64, times: u32) {
        let row = format!(
            "INSERT INTO events SETTINGS async_insert = 0
             SELECT now64(3) - INTERVAL {minutes_ago} MINUTE, '{what}', '{}', '{post}', '{}',
                    UUIDv7ToDateTime(toUUID('{post}')) FROM numbers({times})",
            actor.0, author.0
        );
        self.server.query(&row).await;
    }
}

fn post_made(minutes_ago: u64) -> Uuid {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let made = now - Duration::from_secs(60 * minutes_ago);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, made.as_secs(), made.subsec_nanos()))
}

fn posts(candidates: &[Candidate]) -> Vec<Uuid> {
    candidates.iter().map(|candidate| candidate.post).collect()
}

#[tokio::test]
async fn the_newest_posts_of_those_whom_the_reader_follows_with_what_they_were_given() {
    let world = World::make().await;
    let [reader, friend, other, stranger] = [(); 4].map(|()| UserId::new());
    let follows = [friend, other];
    let old = world.post(friend, 300).await;
    let gone = world.post(friend, 200).await;
    let new = world.post(other, 100).await;
    world.post(stranger, 1).await;
    world.did(friend, "unpost", gone, friend, 150, 1).await;
    for fan in [(); 3].map(|()| UserId::new()) {
        world.did(fan, "like", old, friend, 5, 1).await;
    }
    world.did(reader, "like", old, friend, 5, 1).await;
    world.did(reader, "comment", old, friend, 4, 2).await;
    world.did(stranger, "share", old, friend, 4, 1).await;
    world.did(stranger, "like", new, other, 4, 1).await;
    world.did(stranger, "unlike", new, other, 3, 1).await;

    let found = clickhouse::followees(&world.clickhouse, &follows, soon()).await.unwrap();
    assert_eq!(posts(&found), [new, old]);
    let old = &found[1];
    assert_eq!((old.author, old.likes, old.comments, old.shares), (friend, 4, 2, 1));
    assert_eq!(old.created_at_ms, made_at_ms(old.post));
    assert!(old.followed && old.sources.followee && !old.sources.trending && !old.sources.affinity);
    assert_eq!(found[0].likes, 0);

    assert_eq!(clickhouse::followees(&world.clickhouse, &[], soon()).await.unwrap(), []);
}

#[tokio::test]
async fn what_others_were_given_most_for_today() {
    let world = World::make().await;
    let [reader, friend, other, fan] = [(); 4].map(|()| UserId::new());
    let shared = world.post(friend, 3_000).await;
    let liked = world.post(other, 200).await;
    let plain = world.post(other, 100).await;
    let forgotten = world.post(other, 4_000).await;
    let deleted = world.post(other, 90).await;
    let own = world.post(reader, 10).await;
    world.did(fan, "share", shared, friend, 60, 2).await;
    world.did(fan, "like", shared, friend, 2_900, 5).await;
    world.did(fan, "like", liked, other, 30, 3).await;
    world.did(fan, "like", forgotten, other, 2_000, 9).await;
    world.did(fan, "like", own, reader, 5, 9).await;
    world.did(fan, "like", deleted, other, 50, 9).await;
    world.did(other, "unpost", deleted, other, 40, 1).await;
    let found = clickhouse::trending(&world.clickhouse, soon()).await.unwrap();
    assert_eq!(HashSet::from_iter(posts(&found)), HashSet::from([shared, liked, plain, own]));
    let shared = found.iter().find(|candidate| candidate.post == shared).unwrap();
    assert_eq!((shared.likes, shared.shares), (5, 2), "what it was given in all, not only today");
    assert!(shared.sources.trending && !shared.sources.followee);
}

#[tokio::test]
async fn posts_of_those_with_whom_the_reader_engages() {
    let world = World::make().await;
    let [reader, liked, seen, left, stranger] = [(); 5].map(|()| UserId::new());
    let [first, second, third, fourth, own] = [
        world.post(liked, 50).await,
        world.post(liked, 40).await,
        world.post(seen, 30).await,
        world.post(left, 20).await,
        world.post(reader, 5).await,
    ];
    world.post(stranger, 10).await;
    world.did(reader, "like", first, liked, 9, 1).await;
    world.did(reader, "share", first, liked, 9, 1).await;
    world.did(reader, "view", third, seen, 9, 5).await;
    world.did(reader, "like", fourth, left, 9, 1).await;
    world.did(reader, "unlike", fourth, left, 8, 1).await;
    world.did(reader, "like", own, reader, 1, 1).await;
    let found = clickhouse::affinity(&world.clickhouse, reader, soon()).await.unwrap();
    assert_eq!(HashSet::from_iter(posts(&found)), HashSet::from([first, second, third]));
    let weight = |post: Uuid| found.iter().find(|candidate| candidate.post == post).unwrap().affinity_weight;
    assert!((weight(second) - 4.0).abs() < 1e-9 && (weight(third) - 0.5).abs() < 1e-9, "{found:?}");
    assert!(found.iter().all(|candidate| candidate.sources.affinity && !candidate.followed));
}

#[tokio::test]
async fn no_source_gives_more_than_its_bound_and_no_author_takes_all_of_it() {
    let world = World::make().await;
    let reader = UserId::new();
    let follows: Vec<UserId> = (0..2_000).map(|_| UserId::new()).collect();
    let loud = follows[0];
    let id = |user: &UserId| format!("'{}'", user.0);
    let authors = follows.iter().map(id).collect::<Vec<_>>().join(",");
    let many = |what: &str, actor: &str, author: &str, rows: u32| {
        format!(
            "INSERT INTO events SETTINGS async_insert = 0
             SELECT now64(3), '{what}', toUUID({actor}), generateUUIDv7(number), toUUID({author}),
                    now64(3) - INTERVAL number SECOND FROM numbers({rows})"
        )
    };
    let any = format!("([{authors}])[1 + number % 2000]");
    world.server.query(&many("post", &any, &any, 2_000)).await;
    world.server.query(&many("post", &id(&loud), &id(&loud), 200)).await;
    let like = format!(
        "INSERT INTO events SETTINGS async_insert = 0
         SELECT now64(3), 'like', {}, post, author, post_at FROM posts_by_author",
        id(&reader)
    );
    world.server.query(&like).await;
    let deadline = soon();
    let (a, b, c) = tokio::join!(
        clickhouse::followees(&world.clickhouse, &follows, deadline),
        clickhouse::trending(&world.clickhouse, deadline),
        clickhouse::affinity(&world.clickhouse, reader, deadline),
    );
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!(a.len(), FOLLOWEE_POSTS);
    assert_eq!(a.iter().filter(|candidate| candidate.author == loud).count(), 50);
    assert_eq!(b.len(), TRENDING_POSTS);
    // Of the hundred with whom he engages most: one has many posts, the others about one.
    assert!((100..=AFFINITY_POSTS).contains(&c.len()), "{}", c.len());
    assert_eq!(c.iter().filter(|candidate| candidate.author == loud).count(), 20);
}

#[tokio::test]
async fn each_source_ends_on_its_own() {
    let (server, _) = databases().await;
    let proxy = FaultProxy::start(&server.url()).await;
    let (well, hung) = (connect(&server.url()), connect(proxy.url()));
    proxy.set(Fault::Hang);
    let follows = [UserId::new()];
    let early = Deadline::after(Duration::from_millis(200));
    let (a, b, c) = tokio::join!(
        clickhouse::followees(&well, &follows, soon()),
        clickhouse::trending(&hung, early),
        clickhouse::affinity(&well, UserId::new(), soon()),
    );
    assert_eq!((a.unwrap(), c.unwrap()), (Vec::new(), Vec::new()));
    assert!(matches!(b, Err(ReadFault::Late)), "{b:?}");
}

/// What is left of the deadline with its fraction, an error in place of half an answer, and nothing that runs for nobody.
#[tokio::test]
async fn the_server_is_told_with_each_source_when_to_end_it() {
    let (server, _) = databases().await;
    let clickhouse = connect(&server.url());
    let follows = [UserId::new()];
    let deadline = soon();
    let (a, b, c) = tokio::join!(
        clickhouse::followees(&clickhouse, &follows, deadline),
        clickhouse::trending(&clickhouse, deadline),
        clickhouse::affinity(&clickhouse, UserId::new(), deadline),
    );
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (vec![], vec![], vec![]));
    let sql = "SELECT Settings['max_execution_time'], Settings['timeout_overflow_mode'], Settings['readonly'],
                       Settings['timeout_before_checking_execution_speed'],
                       Settings['cancel_http_readonly_queries_on_client_close']
                FROM system.query_log
                WHERE type = 'QueryFinish' AND current_database = currentDatabase() AND Settings['readonly'] = '2'
                  AND arrayExists(table -> match(table, '\\.(posts_by_author|trending|affinity)$'), tables)";
    let mut told = String::new();
    until("the server has logged all three", async || {
        server.query("SYSTEM FLUSH LOGS").await;
        told = server.query(sql).await;
        told.lines().count() == 3
    })
    .await;
    for line in told.lines() {
        let (limit, settings) = line.split_once('\t').unwrap();
        assert!(limit.contains('.') && (0.0..LONG.as_secs_f64()).contains(&limit.parse().unwrap()), "{line}");
        assert!(["throw\t2\t0\t1", "\t2\t0\t1"].contains(&settings), "{line}");
    }
}

fn made_at_ms(post: Uuid) -> i64 {
    let (seconds, nanos) = post.get_timestamp().unwrap().to_unix();
    i64::try_from(seconds).unwrap() * 1_000 + i64::from(nanos / 1_000_000)
}
