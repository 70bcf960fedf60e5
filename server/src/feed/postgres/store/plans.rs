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
