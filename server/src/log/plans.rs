//! How PostgreSQL runs the hot statements on a million rows, before and after it has gathered statistics.
#![cfg(test)]

use bowline_testkit::{Explained, TestDatabase};
use tokio_postgres::types::ToSql;

use super::store;

const MILLION: &str = include_str!("../../tests/log/million.sql");

/// What a client does when it attaches: its conversations, their heads, and what it has not read.
const UNREAD: &str = "SELECT m.conversation_id, h.last_seq, h.last_message_no - r.message_no
    FROM membership m JOIN heads h ON h.log_id = m.conversation_id
    JOIN read_positions r ON r.user_id = m.user_id AND r.conversation_id = m.conversation_id
    WHERE m.user_id = $1 AND m.left_seq IS NULL";

/// $1 log, $2 sender, $3 client_id.
const APPEND: &str =
    "SELECT outcome, seq FROM append(1, ARRAY[$1::uuid], '{1}', ARRAY[$2::uuid], '{0}', ARRAY[$3::uuid], '{7}',
    '{16}', '{NULL}', '{NULL}', '{x}', '{NULL}')";

/// $1 log, $2 sender: of the message at seq 1, as it was sent.
const EDIT: &str =
    "SELECT outcome, seq FROM append(1, ARRAY[$1::uuid], '{1}', ARRAY[$2::uuid], '{0}', ARRAY[gen_random_uuid()],
    '{7}', '{17}', '{1}', '{1}', '{x}', '{NULL}')";

/// $1 log of the conversation and those of the new members, $2 sender, $3 the new members.
const ADD: &str =
    "SELECT outcome, seq FROM append(1, $1, '{1}', ARRAY[$2::uuid], '{0}', ARRAY[gen_random_uuid()], '{7}',
    '{23}', '{NULL}', '{NULL}', '{NULL}', ARRAY[jsonb_build_object('members', $3::uuid[])]) WHERE outcome = 0";

/// What is run, its parameters, how many rows it returns, the indexes that it uses, and the most pages that it reads.
type Check<'a> = (&'a str, &'a str, &'a [&'a (dyn ToSql + Sync)], u64, &'a [&'a str], u64);

#[tokio::test]
async fn hot_statements_use_their_index_and_read_no_more_than_they_return() {
    let database = TestDatabase::shared("million", MILLION).await;
    let explained = Explained::connect(&database).await;
    let id = |name: &str| {
        let client = explained.client();
        let sql = format!("SELECT md5('{name}')::uuid");
        async move { client.query_one(&sql, &[]).await.unwrap().get::<_, uuid::Uuid>(0) }
    };
    let (log, user, client_id) = (id("log7").await, id("user35").await, id("client7").await);
    let (after, to, pages) = (880_i64, 1_008_i64, vec![0_i64, 3, 7]);
    let (xmax, xip) = (1_000_005_i64, vec![4_000_i64, 4_500, 7_000]);
    for analysed in [false, true] {
        if analysed {
            // Within the transaction: for the next run the table is as it was.
            explained.client().batch_execute("ANALYZE entries, heads, membership, read_positions").await.unwrap();
        }
        // A page of rows that came among those of a thousand other logs is a block a row.
        let checks: [Check; 8] = [
            ("a range", store::RANGE, &[&log, &after, &to], 128, &["entries_pkey", "heads_pkey"], 260),
            ("pages", store::PAGES, &[&log, &pages], 127 + 128 + 115, &["entries_pkey", "heads_pkey"], 900),
            ("changes", store::CHANGES, &[&xmax, &xip], 1_000, &["entries_txid", "epochs_pkey"], 400),
            ("a cursor's epoch", store::FIRST_UNSURE, &[&log, &0_i64], 1, &["epoch_heads_pkey", "epochs_pkey"], 20),
            ("unread", UNREAD, &[&user], 1, &["heads_pkey", "membership_user", "read_positions_pkey"], 20),
            (
                "a repeat",
                APPEND,
                &[&log, &user, &client_id],
                1,
                &["entries_client_id", "entries_pkey", "epochs_pkey", "heads_pkey", "membership_user"],
                60,
            ),
            (
                "a send",
                APPEND,
                &[&log, &user, &uuid::Uuid::new_v4()],
                1,
                &["entries_client_id", "entries_pkey", "epochs_pkey", "heads_pkey", "membership_user"],
                80,
            ),
            (
                "an edit",
                EDIT,
                &[&log, &user],
                1,
                &[
                    "conversations_pkey",
                    "entries_client_id",
                    "entries_pkey",
                    "epochs_pkey",
                    "heads_pkey",
                    "membership_user",
                ],
                120,
            ),
        ];
        for (what, sql, parameters, rows, indexes, most_buffers) in checks {
            let (returned, found) = explained.run(sql, parameters).await;
            let what = format!("{what}, analysed: {analysed}: {found:#?}");
            assert_eq!(returned, rows, "{what}");
            assert!(found.wrong.is_empty(), "{what}");
            assert!(found.buffers <= most_buffers, "{what}");
            assert!(found.indexes.iter().map(String::as_str).eq(indexes.iter().copied()), "{what}");
        }
    }
}

#[tokio::test]
async fn plans_made_while_the_table_was_empty_hold_when_it_has_grown() {
    let database = TestDatabase::create().await;
    database.connect().await.batch_execute("VACUUM entries").await.unwrap();
    let explained = Explained::connect(&database).await;
    let client = explained.client();
    let (log, user) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    client.execute("INSERT INTO heads (log_id) VALUES ($1)", &[&log]).await.unwrap();
    let member = "INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq) VALUES ($1, $2, 1, 1)";
    client.execute(member, &[&log, &user]).await.unwrap();
    // A session keeps its plans: these are made here, for what a send does and for what an edit does.
    explained.run(APPEND, &[&log, &user, &uuid::Uuid::new_v4()]).await;
    explained.run(EDIT, &[&log, &user]).await;

    let grow = "INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, kind, sender_kind, body)
                SELECT $1, n, n, n, 1, clock_timestamp(), $2, gen_random_uuid(), 16, 0, 'x' FROM generate_series(1, 20000) n";
    client.execute(grow, &[&log, &user]).await.unwrap();
    client.execute("UPDATE heads SET last_seq = 20000, last_message_no = 20000", &[]).await.unwrap();
    for (what, found) in [
        ("a send", explained.run(APPEND, &[&log, &user, &uuid::Uuid::new_v4()]).await.1),
        ("an edit", explained.run(EDIT, &[&log, &user]).await.1),
    ] {
        assert!(found.buffers <= 60 && found.wrong.is_empty(), "{what}: {found:#?}");
    }
}

#[tokio::test]
async fn adding_members_reads_their_heads_and_nobody_elses() {
    const NEW: usize = 50;
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "INSERT INTO heads (log_id) SELECT md5('user' || n)::uuid FROM generate_series(1, 20000) n;
             INSERT INTO heads (log_id, last_seq) VALUES (md5('talk')::uuid, 1);
             INSERT INTO conversations (id, kind, creator_id) VALUES (md5('talk')::uuid, 0, md5('owner')::uuid);
             INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq, role)
             VALUES (md5('talk')::uuid, md5('owner')::uuid, 1, 1, 2)",
        )
        .await
        .unwrap();
    let ids =
        "SELECT md5('talk')::uuid, md5('owner')::uuid, array_agg(md5('user' || n)::uuid) FROM generate_series(1, 50) n";
    let row = client.query_one(ids, &[]).await.unwrap();
    let (talk, owner, new): (uuid::Uuid, uuid::Uuid, Vec<uuid::Uuid>) = (row.get(0), row.get(1), row.get(2));
    let logs: Vec<uuid::Uuid> = std::iter::once(talk).chain(new.iter().copied()).collect();
    let explained = Explained::connect(&database).await;
    for state in ["never analysed", "analysed"] {
        let (rows, found) = explained.run(ADD, &[&logs, &owner, &new]).await;
        assert_eq!(rows as usize, 1 + NEW, "{state}: the adding, and a `joined` for each");
        // All heads are some 150 pages and 20,000 rows; a person costs a handful of probes and inserts.
        assert!(found.buffers <= 40 * NEW as u64, "{state}: {found:#?}");
        client.batch_execute("ANALYZE").await.unwrap();
    }
}

/// $1 logs, $2 actor, $3 what becomes the attrs, $4 kind, $5 text.
const SOCIAL: &str =
    "SELECT 1 / (outcome = 0)::int FROM append(1, $1, ARRAY[array_position($1, $2::uuid)], ARRAY[$2::uuid], '{0}',
    ARRAY[gen_random_uuid()], '{7}', ARRAY[$4::smallint], '{NULL}', '{NULL}', ARRAY[$5::text], ARRAY[$3::jsonb])";

#[tokio::test]
async fn what_is_done_with_posts_and_people_reads_a_few_rows_of_each_table() {
    let database = TestDatabase::shared("social", include_str!("../../tests/social/large.sql")).await;
    let explained = Explained::connect(&database).await;
    let ids = "SELECT md5('user150')::uuid, md5('user7')::uuid, md5('post7')::uuid";
    let row = explained.client().query_one(ids, &[]).await.unwrap();
    let (actor, other, post): (uuid::Uuid, uuid::Uuid, uuid::Uuid) = (row.get(0), row.get(1), row.get(2));
    let mut both = vec![actor, other];
    both.sort();
    let (on_post, on_user) = (serde_json::json!({ "post": post }), serde_json::json!({ "user": other }));
    let new = |field: &str| {
        let mut details = on_post.clone();
        details[field] = uuid::Uuid::new_v4().to_string().into();
        details
    };
    for analysed in [false, true] {
        if analysed {
            explained.client().batch_execute("ANALYZE").await.unwrap();
        }
        for (what, who, details, kind) in [
            ("a post", actor, new("post"), 48_i16),
            ("a deletion", other, on_post.clone(), 49),
            ("a like", actor, on_post.clone(), 50),
            ("an unlike", actor, on_post.clone(), 51),
            ("a comment", actor, new("comment"), 52),
            ("a share", actor, on_post.clone(), 53),
            ("a follow", actor, on_user.clone(), 56),
            ("an unfollow", actor, on_user.clone(), 57),
            ("a block", actor, on_user.clone(), 58),
            ("an unblock", actor, on_user.clone(), 59),
            ("a mute", actor, on_user.clone(), 60),
            ("a profile", actor, serde_json::json!({ "bio": "x" }), 62),
        ] {
            let text = Some("x");
            // What a session does for the first time, it looks up in the catalogue.
            explained.run(SOCIAL, &[&both, &who, &details, &kind, &text]).await;
            let (rows, found) = explained.run(SOCIAL, &[&both, &who, &details, &kind, &text]).await;
            let what = format!("{what}, analysed: {analysed}: {found:#?}");
            assert!(rows >= 1, "{what}");
            assert!(found.wrong.is_empty(), "{what}");
            assert!(found.buffers <= 140, "{what}");
        }
    }
}
