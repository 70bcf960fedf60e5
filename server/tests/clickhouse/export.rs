//! Engagement of the log reaches ClickHouse: all of it, and once.

use std::time::Duration;

use bowline::feed::export::{Config, Exporter, Views};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::UserId;
use bowline_testkit::{Fault, FaultProxy, Server, TestDatabase};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::*;

const POST: i16 = 48;
const LIKE: i16 = 50;
/// In the first line of a request that stores a batch.
const INSERT: &str = "INSERT";

fn quick() -> Config {
    Config { interval: Duration::from_millis(20), lease: Duration::from_secs(1), ..Config::default() }
}

/// A node that does nothing but export.
struct Node {
    task: JoinHandle<()>,
    stop: CancellationToken,
    metrics: Metrics,
}

impl Node {
    fn start(clickhouse: &str, database: &TestDatabase, config: Config) -> Self {
        let pool_config = storage::Config { max_connections: 3, ..storage::Config::default() };
        let pool = Pool::new(&database.url().to_owned().into(), &pool_config).unwrap();
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let exporter = Exporter::new(connect(clickhouse), pool, config, &metrics);
        Self { task: tokio::spawn(exporter.run(stop.clone())), stop, metrics }
    }

    /// Ends it between two instructions, as a crash does.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        metric(&self.metrics, name)
    }
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

/// Something to like, by somebody.
#[derive(Clone, Copy)]
struct Post {
    id: Uuid,
    author: Uuid,
}

fn post() -> Post {
    Post { id: Uuid::now_v7(), author: Uuid::now_v7() }
}

/// Entries as `append` makes them, in one transaction: each by somebody else.
async fn engage(client: &Client, kind: i16, post: Post, times: i64, counted: bool) {
    let mut attrs = serde_json::json!({"post": post.id, "author": post.author});
    if counted {
        attrs["counted"] = true.into();
    }
    let sql = "INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, kind, sender_kind, attrs)
         SELECT u.id, 1, 0, 1, pg_current_xact_id()::text::bigint, clock_timestamp(), u.id, gen_random_uuid(), $1, 0, $2
         FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $3::bigint)) u";
    client.execute(sql, &[&kind, &attrs, &times]).await.unwrap();
}

/// What the views have counted: likes in all, by author, by hour (where a like weighs ten), and by reader.
async fn likes(server: &bowline_testkit::ClickHouse) -> [i64; 4] {
    let sql = "SELECT (SELECT countIf(kind = 'like') FROM events), (SELECT sum(likes) FROM posts_by_author),
                      (SELECT toInt64(sum(most.count) / 10) FROM
                           (SELECT arrayJoin(topKWeightedMerge(300, 2, 'counts')(top)) AS most FROM trending)),
                      (SELECT sum(likes) FROM affinity)";
    let line = server.query(sql).await;
    let numbers: Vec<i64> = line.split('\t').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

async fn until_likes(server: &bowline_testkit::ClickHouse, expected: i64) {
    // The views are filled one after the other.
    until("all likes are there", async || likes(server).await.iter().all(|likes| *likes >= expected)).await;
    assert_eq!(likes(server).await, [expected; 4]);
}

/// Nothing is owed: a round that began after this call is finished.
async fn until_finished(client: &Client) {
    let sql = "SELECT pg_snapshot_xmax(done)::text::bigint FROM feed_export";
    client.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    let now = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let now: i64 = client.query_one(now, &[]).await.unwrap().get(0);
    until("the round is finished", async || client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) >= now).await;
}

#[tokio::test]
async fn what_took_effect_arrives_and_nothing_else() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    let liked = post();
    for kind in [16, 47, POST, 49, LIKE, 51, 52, 53, 54, 56] {
        engage(&client, kind, liked, 2, true).await;
    }
    engage(&client, LIKE, liked, 5, false).await;
    let node = Node::start(&server.url(), &database, quick());
    until_finished(&client).await;
    let kinds = server.query("SELECT kind, count() FROM events GROUP BY kind ORDER BY toInt8(kind)").await;
    assert_eq!(kinds, "post\t2\nunpost\t2\nlike\t2\nunlike\t2\ncomment\t2\nshare\t2");
    let of = server.query("SELECT DISTINCT post, author, toUnixTimestamp64Milli(post_at) FROM events").await;
    let (seconds, nanos) = liked.id.get_timestamp().unwrap().to_unix();
    assert_eq!(of, format!("{}\t{}\t{}", liked.id, liked.author, seconds * 1_000 + u64::from(nanos / 1_000_000)));
    assert_eq!(
        (node.metric("bowline_feed_export_rows_total"), node.metric("bowline_feed_export_lag_seconds")),
        (12.0, 0.0)
    );
    node.end().await;
}

#[tokio::test]
async fn batches_are_bounded_and_a_commit_that_comes_late_is_not_passed_over() {
    let (server, database) = databases().await;
    let (client, mut slow) = (database.connect().await, database.connect().await);
    let open = slow.transaction().await.unwrap();
    open.execute("SELECT pg_current_xact_id()", &[]).await.unwrap();
    let node = Node::start(&server.url(), &database, Config { batch_rows: 10, ..quick() });
    for _ in 0..5 {
        engage(&client, LIKE, post(), 9, true).await;
    }
    until_likes(&server, 45).await;
    let largest =
        "SELECT max(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND level = 0";
    assert!(server.query(largest).await.parse::<u32>().unwrap() <= 10);
    engage(open.client(), LIKE, post(), 25, true).await;
    open.commit().await.unwrap();
    until_likes(&server, 70).await;
    until_finished(&client).await;
    assert_eq!(likes(&server).await, [70; 4]);
    node.end().await;
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_counts_once() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(INSERT, Fault::CutAtAnswer)]);
    engage(&client, LIKE, post(), 30, true).await;
    let node = Node::start(proxy.url(), &database, quick());
    until("it was sent three times", async || proxy.struck() >= 3).await;
    // These come while nobody knows whether those are stored.
    engage(&client, LIKE, post(), 12, true).await;
    assert!(node.metric("bowline_feed_export_lag_seconds") > 0.0);
    assert!(node.metric("bowline_feed_export_failures_total") >= 2.0);
    proxy.set(Fault::None);
    until_finished(&client).await;
    assert_eq!(likes(&server).await, [42; 4]);
    assert_eq!(node.metric("bowline_feed_export_lag_seconds"), 0.0);
    node.end().await;
}

#[tokio::test]
async fn a_batch_in_flight_stays_what_it_was_whoever_goes_on() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(INSERT, Fault::Unheard)]);
    engage(&client, LIKE, post(), 30, true).await;
    let node = Node::start(proxy.url(), &database, Config { batch_rows: 7, ..quick() });
    until("it was stored, and the node does not know", async || likes(&server).await == [7; 4]).await;
    node.crash().await;
    engage(&client, LIKE, post(), 12, true).await;
    let other = Node::start(&server.url(), &database, Config { batch_rows: 1_000, ..quick() });
    until_finished(&client).await;
    assert_eq!(likes(&server).await, [42; 4]);
    other.end().await;
}

#[tokio::test]
async fn nothing_is_lost_while_clickhouse_is_away() {
    let database = TestDatabase::create().await;
    let mut server = bowline_testkit::ClickHouse::own().await;
    migrate(&server, &database).await;
    let client = database.connect().await;
    let node = Node::start(&server.url(), &database, Config { batch_rows: 50, ..quick() });
    engage(&client, LIKE, post(), 40, true).await;
    until_likes(&server, 40).await;
    server.kill().await;
    for round in 0..20 {
        engage(&client, LIKE, post(), round, true).await;
    }
    until("it was tried", async || node.metric("bowline_feed_export_failures_total") >= 2.0).await;
    assert!(node.metric("bowline_feed_export_lag_seconds") > 0.0);
    server.start_again().await;
    until_finished(&client).await;
    assert_eq!(likes(&server).await, [40 + 190; 4]);
    node.end().await;
}

/// Seen once: a killed ClickHouse missed in one table the batch that it was writing, and took it for known when it came again.
/// Probably it notes the token before it puts the rows in place. What it was not writing at that moment is there once.
#[tokio::test]
async fn a_clickhouse_killed_in_the_middle_of_batches_counts_none_twice_and_misses_at_most_what_it_was_writing() {
    let database = TestDatabase::create().await;
    let mut server = bowline_testkit::ClickHouse::own().await;
    migrate(&server, &database).await;
    let client = database.connect().await;
    let node = Node::start(&server.url(), &database, Config { batch_rows: 20, ..quick() });
    for round in 0..6 {
        engage(&client, LIKE, post(), 200, true).await;
        let some = 200 * round + 20;
        until("some of them are there", async || likes(&server).await[0] >= some).await;
        server.kill().await;
        server.start_again().await;
    }
    until_finished(&client).await;
    for counted in likes(&server).await {
        assert!((1_200 - 6 * 20..=1_200).contains(&counted) && counted % 20 == 0, "{counted} of 1,200");
    }
    node.end().await;
}

#[tokio::test]
async fn what_is_owed_is_found_by_its_index() {
    let database = TestDatabase::create().await;
    let mut client = database.connect().await;
    for (kind, times) in [(16, 20_000), (LIKE, 5_000), (16, 5_000)] {
        engage(&client, kind, post(), times, true).await;
    }
    let rows = "SELECT count(*) FROM engagement(0, '{5, 6, 7}', 9000000000, '{8}', 0, gen_random_uuid(), 0,
                                                9000000000, gen_random_uuid(), 0, 100)";
    let cost = "SELECT coalesce(seq_scan, 0), coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'entries'";
    for state in ["never analysed", "analysed"] {
        let transaction = client.transaction().await.unwrap();
        let before = transaction.query_one(cost, &[]).await.unwrap();
        assert_eq!(transaction.query_one(rows, &[]).await.unwrap().get::<_, i64>(0), 100);
        let after = transaction.query_one(cost, &[]).await.unwrap();
        let grown = |column: usize| after.get::<_, i64>(column) - before.get::<_, i64>(column);
        assert!(grown(0) == 0 && grown(1) <= 110, "{state}: {} scans of the table, {} rows", grown(0), grown(1));
        transaction.commit().await.unwrap();
        client.batch_execute("ANALYZE entries").await.unwrap();
    }
}

#[tokio::test]
async fn one_node_at_a_time_exports_and_another_goes_on_where_it_died() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    let holder =
        async || client.query_one("SELECT holder FROM feed_export", &[]).await.unwrap().get::<_, Option<Uuid>>(0);
    let first = Node::start(&server.url(), &database, quick());
    until("one holds the lease", async || holder().await.is_some()).await;
    let held_by = holder().await;
    let second = Node::start(&server.url(), &database, quick());
    for _ in 0..20 {
        engage(&client, LIKE, post(), 3, true).await;
        until_finished(&client).await;
    }
    assert_eq!((likes(&server).await, holder().await), ([60; 4], held_by));
    assert_eq!(second.metric("bowline_feed_export_rows_total"), 0.0);
    first.crash().await;
    engage(&client, LIKE, post(), 3, true).await;
    until_likes(&server, 63).await;
    assert_ne!(holder().await, held_by);
    // One that ends in order is not waited for.
    second.end().await;
    let free = "SELECT lease_until < clock_timestamp() FROM feed_export";
    assert!(client.query_one(free, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_node_that_wakes_up_after_its_lease_changes_nothing() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(INSERT, Fault::Unheard)]);
    engage(&client, LIKE, post(), 9, true).await;
    // It waits for an answer for longer than its lease.
    let asleep = Node::start(proxy.url(), &database, quick());
    until("it was stored, and the node does not know", async || likes(&server).await == [9; 4]).await;
    let other = Node::start(&server.url(), &database, quick());
    engage(&client, LIKE, post(), 4, true).await;
    until_finished(&client).await;
    until("it woke up", async || asleep.metric("bowline_feed_export_failures_total") >= 1.0).await;
    engage(&client, LIKE, post(), 4, true).await;
    until_finished(&client).await;
    assert_eq!((likes(&server).await, asleep.metric("bowline_feed_export_rows_total")), ([17; 4], 0.0));
    asleep.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_position_of_another_cluster_is_given_up() {
    let (server, database) = databases().await;
    let client = database.connect().await;
    client.execute("UPDATE feed_export SET done = '900000000:900000000:'", &[]).await.unwrap();
    let node = Node::start(&server.url(), &database, quick());
    let given_up = "SELECT pg_snapshot_xmax(done)::text::bigint < 900000000 FROM feed_export";
    until("it is given up", async || client.query_one(given_up, &[]).await.unwrap().get(0)).await;
    engage(&client, LIKE, post(), 4, true).await;
    until_likes(&server, 4).await;
    node.end().await;
}

#[tokio::test]
async fn a_server_killed_between_a_batch_and_its_position_counts_it_once() {
    let database = TestDatabase::create().await;
    let server = bowline_testkit::ClickHouse::create().await;
    let client = database.connect().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(INSERT, Fault::Unheard)]);
    let url = proxy.url().to_owned();
    let settings = [
        ("BOWLINE_ACCOUNTS_TOKENS_SECRET", "of-a-test-of-a-test-of-a-test-of-a-test"),
        ("CLICKHOUSE_URL", url.as_str()),
        ("BOWLINE_EXPORT_INTERVAL_MS", "20"),
        ("BOWLINE_EXPORT_LEASE_MS", "1000"),
    ];
    // Rows of the table of migrations are inserted too.
    migrate(&server, &database).await;
    let mut bowline = Server::start(env!("CARGO_BIN_EXE_bowline"), database.url(), &settings).await;
    engage(&client, LIKE, post(), 30, true).await;
    until("it was stored, and the server does not know", async || likes(&server).await == [30; 4]).await;
    bowline.kill().await;
    let in_flight = "SELECT to_txid IS NOT NULL FROM feed_export";
    assert!(client.query_one(in_flight, &[]).await.unwrap().get::<_, bool>(0));
    proxy.set(Fault::None);
    engage(&client, LIKE, post(), 12, true).await;
    bowline.start_again().await;
    until_finished(&client).await;
    assert_eq!(likes(&server).await, [42; 4]);
    bowline.terminate();
    assert!(bowline.ended().await.success());
}

#[tokio::test]
async fn views_are_bounded_dropped_beyond_and_count_once() {
    let (server, _database) = databases().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(INSERT, Fault::CutAtAnswer)]);
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let views = Views::new(Config { views: 10, batch_rows: 4, ..quick() }, &metrics);
    let task = tokio::spawn(views.clone().run(connect(proxy.url()), stop.clone()));
    let seen = post();
    let see = |times: u32| {
        for _ in 0..times {
            views.record(UserId::new(), seen.id, UserId(seen.author));
        }
    };
    see(3);
    until("a batch was sent, and its answer lost", async || proxy.struck() >= 2).await;
    see(12);
    assert_eq!(views.waiting(), 10);
    let taken = (metric(&metrics, "bowline_feed_views_total"), metric(&metrics, "bowline_feed_views_dropped_total"));
    assert_eq!(taken, (10.0, 5.0));
    proxy.set(Fault::None);
    until("nothing waits", async || views.waiting() == 0).await;
    see(2);
    stop.cancel();
    task.await.unwrap();
    let counted = "SELECT (SELECT count() FROM events), (SELECT sum(views) FROM posts_by_author),
                          (SELECT sum(views) FROM affinity)";
    assert_eq!(server.query(counted).await, "12\t12\t12", "what waited at the end was sent too");
}
