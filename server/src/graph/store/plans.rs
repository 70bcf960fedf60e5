//! How PostgreSQL runs the reads of people on large tables, before and after it has gathered statistics.
#![cfg(test)]

use std::time::SystemTime;

use bowline_testkit::{Explained, TestDatabase};
use uuid::Uuid;

use crate::graph::store;

const LARGE: &str = include_str!("../../../tests/social/large.sql");

#[tokio::test]
async fn reads_use_their_index_and_read_no_more_than_they_return() {
    let database = TestDatabase::shared("social", LARGE).await;
    let explained = Explained::connect(&database).await;
    let id = async |name: &str| {
        let row = explained.client().query_one(&format!("SELECT md5('{name}')::uuid"), &[]).await.unwrap();
        row.get::<_, Uuid>(0)
    };
    let (reader, famous, blocker) = (id("user150").await, id("user0").await, id("user300").await);
    let (first, none) = (Uuid::max(), None::<SystemTime>);
    for analysed in [false, true] {
        if analysed {
            // Within the transaction: for the next run the tables are as they were.
            explained.client().batch_execute("ANALYZE").await.unwrap();
        }
        let (rows, found) = explained.run(store::PROFILE, &[&reader, &famous]).await;
        assert!(
            rows == 1 && found.wrong.is_empty() && found.buffers <= 40,
            "profile, analysed: {analysed}: {found:#?}"
        );
        for (kind, of, rows, index) in [
            (0_i16, famous, 21, "follows_followers"),
            (1, reader, 20, "follows_followees"),
            (2, blocker, 4, "blocks_newest"),
            (3, blocker, 4, "mutes_newest"),
        ] {
            let me = if kind < 2 { reader } else { blocker };
            let (returned, found) = explained.run(store::PEOPLE, &[&me, &of, &kind, &none, &first, &21_i64]).await;
            let what = format!("{index}, analysed: {analysed}: {found:#?}");
            assert!(returned.abs_diff(rows) <= 1, "{returned} rows of {what}");
            assert!(found.wrong.is_empty() && found.buffers <= 21 * 8, "{what}");
            assert!(found.indexes.contains(index), "{what}");
        }
    }
}
