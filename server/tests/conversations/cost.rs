//! What it costs the database: statements, and their plans on tables of realistic size.

use std::time::Duration;

use bowline::conversations::HeadsPlace;
use bowline::deadline::Deadline;
use bowline_protocol::command::Place;
use bowline_protocol::limits::Limits;
use bowline_protocol::{Code, LogId, UserId};
use bowline_testkit::TestDatabase;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fixture::{World, code, cursor, identity, named, soon};

/// How often a statement like this was called since the extension is there, and how many such statements there are.
async fn calls(client: &Client, like: &str) -> (i64, i64) {
    let sql = "SELECT coalesce(sum(calls), 0)::bigint, count(*)
               FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
               WHERE d.datname = current_database() AND query LIKE $1";
    let row = client.query_one(sql, &[&like]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn three_hundred_users_attach_in_two_statements_and_get_their_heads_in_two() {
    let world = World::start().await;
    let users = world.users::<300>().await;
    let log = world.group(users[0], &users[1..299]).await;
    let client = world.database.connect().await;
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let mut attaching = JoinSet::new();
    for user in users {
        let conversations = world.conversations.clone();
        attaching.spawn(async move {
            conversations.attach(&identity(user), None, named(&[cursor(log, 0)]), soon()).await.unwrap().logs.len()
        });
    }
    assert_eq!(attaching.join_all().await.into_iter().sum::<usize>(), 299, "one is in no conversation");
    let mut listing = JoinSet::new();
    for user in users {
        let conversations = world.conversations.clone();
        listing.spawn(async move { (user, conversations.heads(user, HeadsPlace::first(1), soon()).await.unwrap()) });
    }
    for (user, page) in listing.join_all().await {
        let listed: Vec<_> = page.items.iter().map(|head| LogId::from_wire(&head.log_id).unwrap()).collect();
        assert_eq!(listed, if user == users[299] { vec![] } else { vec![log] });
    }
    assert_eq!(calls(&client, "WITH asked%epoch_heads%").await, (2, 1), "calls of one statement that attaches");
    assert_eq!(calls(&client, "WITH asked%a.after_at%").await, (2, 1), "calls of one statement for heads");
}

#[tokio::test]
async fn positions_that_move_all_the_time_are_written_no_oftener() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let log = world.group(ada, &[]).await;
    let client = world.database.connect().await;
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let began = std::time::Instant::now();
    while calls(&client, "WITH asked%read_positions%greatest%").await.0 < 3 {
        world.say(ada, log, "and again").await;
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    // One at the start, then one a second.
    assert!(began.elapsed() > Duration::from_millis(900), "three in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_waits_no_longer_than_its_deadline_and_others_do_not_fail_with_it() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let held = world.database.connect().await;
    held.batch_execute("BEGIN; LOCK TABLE membership").await.unwrap();
    let patient = tokio::spawn({
        let conversations = world.conversations.clone();
        async move { conversations.attach(&identity(ada), None, named(&[]), soon()).await }
    });
    let hasty = Deadline::after(Duration::from_millis(50));
    let late = world.conversations.attach(&identity(ben), None, named(&[]), hasty).await;
    assert_eq!(code(late), Code::DeadlineExceeded);
    held.batch_execute("COMMIT").await.unwrap();
    patient.await.unwrap().unwrap();
}

/// 2,000 users, 5,000 conversations of 20 members each, 20 entries in each of them and 100,000 in one.
const FILL: &str = "
    INSERT INTO users (id) SELECT md5('user' || n)::uuid FROM generate_series(0, 1999) n;
    INSERT INTO heads (log_id, last_seq) SELECT md5('user' || n)::uuid, 50 FROM generate_series(0, 1999) n;
    INSERT INTO conversations (id, kind, creator_id)
    SELECT md5('talk' || n)::uuid, 0, md5('user' || n % 2000)::uuid FROM generate_series(0, 4999) n;
    INSERT INTO heads (log_id, last_seq, last_message_no, last_message_seq, last_at)
    SELECT md5('talk' || n)::uuid, CASE WHEN n = 0 THEN 100000 ELSE 20 END, CASE WHEN n = 0 THEN 90000 ELSE 18 END,
           CASE WHEN n = 0 THEN 100000 ELSE 20 END, now() - n * interval '1 second' FROM generate_series(0, 4999) n;
    INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq)
    SELECT md5('talk' || n)::uuid, md5('user' || (n * 7 + m) % 2000)::uuid, 1, 1
    FROM generate_series(0, 4999) n, generate_series(0, 19) m;
    INSERT INTO read_positions (user_id, conversation_id, seq, message_no)
    SELECT user_id, conversation_id, 1, 0 FROM membership;
    INSERT INTO entries (log_id, seq, message_no, version, target_seq, txid, created_at, sender_id, client_id, kind, sender_kind, body, attrs)
    SELECT md5('talk' || n)::uuid, s, s - s / 10, s, CASE WHEN s % 10 = 0 THEN s - 1 END, 1, now() + s * interval '1 second',
           md5('user' || n % 2000)::uuid, gen_random_uuid(), CASE WHEN s % 10 = 0 THEN 19 ELSE 16 END, 0,
           CASE WHEN s % 10 <> 0 THEN 'hello' END, CASE WHEN s % 10 = 0 THEN '{\"emoji\": \"x\"}'::jsonb END
    FROM generate_series(0, 4999) n, generate_series(1, CASE WHEN n = 0 THEN 100000 ELSE 20 END) s;
";

/// With statistics, and without any: the first minutes of a table that was just filled are no other case.
#[tokio::test]
async fn every_statement_reaches_large_tables_by_index() {
    let never = ["entries", "heads", "conversations", "membership", "read_positions", "users"]
        .map(|table| format!("ALTER TABLE {table} SET (autovacuum_enabled = false);"));
    for (name, fill) in [("analysed", format!("{FILL} ANALYZE")), ("fresh", never.concat() + FILL)] {
        let database = TestDatabase::shared(&format!("conversations_{name}"), &fill).await;
        check_plans(name, World::on(database, Limits::default())).await;
    }
}

async fn id(client: &Client, what: &str) -> Uuid {
    client.query_one("SELECT md5($1)::uuid", &[&what]).await.unwrap().get(0)
}

async fn check_plans(name: &str, world: World) {
    let client = world.database.connect().await;
    let user = UserId(id(&client, "user0").await);
    let log = LogId(id(&client, "talk0").await);
    let sql = "SELECT (extract(epoch FROM created_at) * 1000)::bigint FROM entries WHERE log_id = $1 AND seq = 50000";
    let at_ms = client.query_one(sql, &[&log.0]).await.unwrap().get(0);
    let mut others = Vec::new();
    for n in 1..=200 {
        others.push(UserId(id(&client, &format!("user{n}")).await));
    }
    client.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    let attach = world.attach(user, Some(cursor(user.log(), 0)), vec![cursor(log, 0)]).await.unwrap();
    assert_eq!(attach.logs.len(), 50, "{name}");
    let mut attaching = JoinSet::new();
    for other in others {
        let conversations = world.conversations.clone();
        attaching.spawn(async move {
            let heads = conversations.heads(other, HeadsPlace::first(0), soon()).await.unwrap().items.len();
            heads.min(conversations.attach(&identity(other), None, named(&[]), soon()).await.unwrap().logs.len())
        });
    }
    assert!(attaching.join_all().await.into_iter().all(|logs| logs > 30), "{name}");
    world.conversations.attach_one(user, log, 0, soon()).await.unwrap().unwrap();
    let page = world.conversations.heads(user, HeadsPlace::first(0), soon()).await.unwrap();
    assert_eq!(page.items.len(), 50, "{name}");
    assert_eq!(world.conversations.members(user, log, 100, None, soon()).await.unwrap().items.len(), 20, "{name}");
    for place in [Place::Newest, Place::Before(50_000), Place::Around(50_000), Place::AroundTime { at_ms }] {
        assert_eq!(
            world.conversations.history(user, log, place, 50, soon()).await.unwrap().items.len(),
            50,
            "{place:?}"
        );
    }
    world.conversations.mark_read(user, log, 99_999);
    world.conversations.close(soon()).await;
    // A backend tells its counts when it ends.
    drop(world);
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let until = soon();
    while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(!until.passed(), "connections are left");
        client.batch_execute("SELECT pg_sleep(0.01)").await.unwrap();
    }
    let scans = "SELECT relname::text, seq_scan, idx_scan FROM pg_stat_user_tables
                 WHERE relname IN ('entries', 'heads', 'conversations', 'membership', 'read_positions', 'users')";
    for row in client.query(scans, &[]).await.unwrap() {
        let (table, from_end_to_end, by_index): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(from_end_to_end, 0, "{name}: {table} was read from end to end");
        assert!(by_index > 0, "{name}: {table} was not read at all");
    }
}
