//! How PostgreSQL runs the reads of posts on a large table, before and after it has gathered statistics.
#![cfg(test)]

use std::time::SystemTime;

use bowline_testkit::{Explained, TestDatabase};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::posts::store;

const LARGE: &str = include_str!("../../../tests/social/large.sql");

/// What is run, its parameters, how many rows it returns, the indexes that it uses, and the most pages that it reads.
type Check<'a> = (&'a str, &'a str, &'a [&'a (dyn ToSql + Sync)], u64, &'a [&'a str], u64);

#[tokio::test]
async fn reads_use_their_index_and_read_no_more_than_they_return() {
    let database = TestDatabase::shared("social", LARGE).await;
    let explained = Explained::connect(&database).await;
    let id = async |name: &str| {
        let row = explained.client().query_one(&format!("SELECT md5('{name}')::uuid"), &[]).await.unwrap();
        row.get::<_, Uuid>(0)
    };
    let (reader, author, post) = (id("user150").await, id("user7").await, id("post50").await);
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(id(&format!("post{}", n * 1_000)).await);
    }
    let readers = vec![reader; ids.len()];
    let (first, none) = (Uuid::max(), None::<SystemTime>);
    // Behind all but a hundred of the author's posts.
    let late = explained.client().query_one("SELECT timestamptz '2026-01-01' + interval '10007 seconds'", &[]).await;
    let late: Option<SystemTime> = Some(late.unwrap().get(0));
    let by = ["blocks_pkey", "post_counts_pkey", "post_likes_pkey", "posts_author", "users_pkey"];
    let under = ["blocks_pkey", "comments_post", "posts_pkey", "users_pkey"];
    for analysed in [false, true] {
        if analysed {
            // Within the transaction: for the next run the tables are as they were.
            explained.client().batch_execute("ANALYZE").await.unwrap();
        }
        // A row that is shown is one of the table, its author's, four of its counts and whether it is liked.
        let checks: [Check; 6] = [
            ("fifty posts", store::POSTS, &[&ids], 50, &["post_counts_pkey", "posts_pkey", "users_pkey"], 50 * 12),
            (
                "one's regard of fifty posts",
                store::REGARDS,
                &[&readers, &ids],
                50,
                &["blocks_pkey", "mutes_pkey", "post_likes_pkey", "posts_pkey"],
                50 * 20,
            ),
            ("the first posts", store::POSTS_BY, &[&reader, &author, &none, &first, &21_i64], 21, &by, 21 * 20),
            ("the last posts", store::POSTS_BY, &[&reader, &author, &late, &first, &21_i64], 21, &by, 21 * 20),
            ("the first comments", store::COMMENTS, &[&reader, &post, &none, &first, &21_i64], 21, &under, 21 * 20),
            ("the last comments", store::COMMENTS, &[&reader, &post, &late, &first, &21_i64], 21, &under, 21 * 20),
        ];
        for (what, sql, parameters, rows, indexes, most_buffers) in checks {
            // What a session does for the first time, it looks up in the catalogue.
            explained.run(sql, parameters).await;
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
async fn plans_of_a_fresh_database_hold_when_it_has_grown() {
    let database = TestDatabase::create().await;
    let explained = Explained::connect(&database).await;
    let (reader, author) = (Uuid::now_v7(), Uuid::now_v7());
    let (first, none) = (Uuid::max(), None::<SystemTime>);
    let client = explained.client();
    client.execute("SELECT ensure_users(ARRAY[$1, $2]::uuid[])", &[&reader, &author]).await.unwrap();
    explained.run(store::POSTS_BY, &[&reader, &author, &none, &first, &21_i64]).await;
    let grow = "INSERT INTO posts (id, author_id, seq, body, created_at)
                SELECT gen_random_uuid(), $1, n, 'x', now() + n * interval '1 second' FROM generate_series(1, 20000) n";
    client.execute(grow, &[&author]).await.unwrap();
    explained.run(store::POSTS_BY, &[&reader, &author, &none, &first, &21_i64]).await;
    let (rows, found) = explained.run(store::POSTS_BY, &[&reader, &author, &none, &first, &21_i64]).await;
    assert!(rows == 21 && found.buffers <= 21 * 16 && found.wrong.is_empty(), "{found:#?}");
    assert!(found.indexes.contains("posts_author"), "{found:#?}");
}
