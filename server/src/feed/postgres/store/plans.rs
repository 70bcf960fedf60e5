//! How PostgreSQL runs the sources on large tables, before and after it has gathered statistics.
#![cfg(test)]

use bowline_testkit::{Explained, TestDatabase};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::feed::postgres::store;

const LARGE: &str = include_str!("../../../../tests/social/large.sql");

/// What is run, its parameters, the least rows that it returns, indexes that it uses, and the most pages that it reads.
type Check<'a> = (&'a str, &'a str, &'a [&'a (dyn ToSql + Sync)], u64, &'a [&'a str], u64);

#[tokio::test]
async fn sources_use_their_indexes_and_read_what_they_look_at() {
    let database = TestDatabase::shared("social", LARGE).await;
    let explained = Explained::connect(&database).await;
    let id = async |name: &str| {
        let row = explained.client().query_one(&format!("SELECT md5('{name}')::uuid"), &[]).await.unwrap();
        row.get::<_, Uuid>(0)
    };
    // Follows twenty; has liked what ten authors wrote.
    let reader = id("user150").await;
    let mut authors = Vec::new();
    for n in 0..100 {
        authors.push(id(&format!("user{n}")).await);
    }
    let liked = "INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, payload_crc,
            kind, sender_kind, attrs)
        SELECT $1, 2000 + n, 0, 2000 + n, 2, now(), $1, gen_random_uuid(), 1, 50, 0,
               jsonb_build_object('post', md5('post' || n)::uuid, 'author', md5('user' || n % 10)::uuid, 'counted', true)
        FROM generate_series(0, 1999) n";
    explained.client().execute(liked, &[&reader]).await.unwrap();
    for analysed in [false, true] {
        if analysed {
            explained.client().batch_execute("ANALYZE").await.unwrap();
        }
        // Of each candidate its counts are added up; what is sorted was read by an index before.
        let checks: [Check; 5] = [
            ("follows", store::FOLLOWS, &[&reader, &2_000_i64], 15, &["follows_followees", "mutes_pkey"], 200),
            (
                "followees",
                store::FOLLOWEES,
                &[&authors, &50_i64, &500_i64],
                500,
                &["post_counts_pkey", "posts_author"],
                5_000 + 100 * 6 + 500 * 6,
            ),
            (
                "trending",
                store::TRENDING,
                &[&5_000_i64, &200_i64],
                100,
                &["entries_engagement", "post_counts_pkey", "posts_pkey"],
                5_100 + 200 * 10,
            ),
            (
                "affinity",
                store::AFFINITY,
                &[&reader, &1_000_i64, &50_i64, &20_i64, &300_i64],
                100,
                &["entries_pkey", "post_counts_pkey", "posts_author"],
                1_100 + 50 * 26 + 300 * 6,
            ),
            (
                "newest",
                store::NEWEST,
                &[&reader, &100_i64],
                100,
                &["blocks_pkey", "mutes_pkey", "posts_newest"],
                100 * 10,
            ),
        ];
        for (what, sql, parameters, least, indexes, most_buffers) in checks {
            explained.run(sql, parameters).await;
            let (returned, found) = explained.run(sql, parameters).await;
            let what = format!("{what}, analysed: {analysed}: {found:#?}");
            assert!(returned >= least, "{returned} rows: {what}");
            let scanned = found.wrong.iter().any(|plan| plan.contains("Seq Scan"));
            assert!(!scanned, "{what}");
            assert!(found.buffers <= most_buffers, "{what}");
            assert!(found.indexes.iter().map(String::as_str).eq(indexes.iter().copied()), "{what}");
        }
    }
}

/// One step of growth: posts $1 to $2 of a hundred authors; a reader $3 likes each of them, and follows ever more people.
const GROW: [&str; 5] = [
    "INSERT INTO users (id) SELECT md5('user' || n)::uuid FROM generate_series($1::int, $2::int) n
     WHERE n < 100 AND $3::uuid IS NOT NULL",
    "INSERT INTO posts (id, author_id, seq, body, created_at)
     SELECT md5('post' || n)::uuid, md5('user' || n % 100)::uuid, n / 100 + 1, 'x', now() + n * interval '1 ms'
     FROM generate_series($1::int, $2::int) n WHERE $3::uuid IS NOT NULL",
    "INSERT INTO post_counts (post_id, slot, likes, comments, shares)
     SELECT md5('post' || n)::uuid, n % 16, 1, 0, 0 FROM generate_series($1::int, $2::int) n WHERE $3::uuid IS NOT NULL",
    "INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, payload_crc, kind,
         sender_kind, attrs)
     SELECT $3, n + 1, 0, n + 1, n, now(), $3, gen_random_uuid(), 1, 50, 0, jsonb_build_object(
         'post', md5('post' || n)::uuid, 'author', md5('user' || n % 100)::uuid, 'counted', true)
     FROM generate_series($1::int, $2::int) n",
    "INSERT INTO follows (follower_id, followee_id, created_at)
     SELECT $3, md5('user' || n)::uuid, now() + n * interval '1 ms' FROM generate_series($1::int, $2::int) n",
];

/// What is run, its parameters, the most rows that are sorted, and the most pages that are read, however much there is.
type Bounds<'a> = (&'a str, &'a [&'a (dyn ToSql + Sync)], u64, u64);

/// The plans that one session made when there was nothing, and those that it makes as there comes more.
#[tokio::test]
async fn what_a_feed_reads_of_a_fresh_database_stays_bounded_as_it_grows() {
    let database = TestDatabase::create().await;
    let explained = Explained::connect(&database).await;
    let client = explained.client();
    let reader = Uuid::now_v7();
    let ids = async |kind: &str, count: i32| {
        let sql = "SELECT array_agg(md5($1::text || n)::uuid) FROM generate_series(0, $2 - 1) n";
        client.query_one(sql, &[&kind, &count]).await.unwrap().get::<_, Vec<Uuid>>(0)
    };
    let (authors, posts) = (ids("user", 100).await, ids("post", 50).await);
    let readers = vec![reader; posts.len()];
    for (from, to) in [(0, -1), (0, 199), (200, 1_999), (2_000, 19_999)] {
        for sql in GROW {
            client.execute(sql, &[&from, &to, &reader]).await.unwrap();
        }
        let checks: [Bounds; 7] = [
            ("SELECT * FROM read_regards($1, $2)", &[&readers, &posts], 0, 50 * 20),
            (store::FOLLOWS, &[&reader, &2_000_i64], 0, 2_000 * 5),
            (store::FOLLOWEES, &[&authors, &50_i64, &500_i64], 5_000, 5_000 + 100 * 6 + 500 * 6),
            (store::TRENDING, &[&5_000_i64, &200_i64], 5_000, 5_100 + 200 * 10),
            (store::AFFINITY, &[&reader, &1_000_i64, &50_i64, &20_i64, &300_i64], 1_000, 1_100 + 50 * 26 + 300 * 6),
            (store::NEWEST, &[&reader, &100_i64], 0, 100 * 10),
            ("SELECT * FROM read_posts($1)", &[&posts], 0, 50 * 12),
        ];
        for (sql, parameters, most_sorted, most_buffers) in checks {
            explained.run(sql, parameters).await;
            let (rows, found) = explained.run(sql, parameters).await;
            let what = format!("{sql} of {}: {found:#?}", to + 1);
            assert_eq!(rows > 0, to > 0, "{what}");
            assert!(found.buffers <= most_buffers, "{what}");
            for plan in &found.wrong {
                let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
                // What comes in counts: of a sort with a limit not all of it comes out.
                let sorted = plan["Plans"][0]["Actual Rows"].as_f64();
                assert!(sorted.is_some_and(|rows| rows <= most_sorted as f64), "{what}");
            }
        }
    }
}
