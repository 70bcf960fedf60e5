//! The schema: there and back, one process at a time, and what an interruption leaves.

use bowline::storage::clickhouse::ClickHouse;
use bowline::storage::clickhouse::migrate::{self, FILES};
use bowline::storage::migrate::File;
use bowline_testkit::TestDatabase;
use secrecy::SecretString;

use crate::fixture::*;

const FRUIT: &[File] = &[
    (
        "0001_fruit.up.sql",
        "-- What grows.\nCREATE TABLE IF NOT EXISTS fruit (name String) ENGINE = MergeTree ORDER BY name;\n",
    ),
    ("0001_fruit.down.sql", "DROP TABLE IF EXISTS fruit SYNC;\n"),
    (
        "0002_baskets.up.sql",
        "CREATE TABLE IF NOT EXISTS baskets (name String) ENGINE = MergeTree ORDER BY name;\n\
         ALTER TABLE baskets ADD COLUMN IF NOT EXISTS weight UInt8;\n\
         CREATE MATERIALIZED VIEW IF NOT EXISTS full_view TO baskets AS SELECT name FROM fruit;\n",
    ),
    ("0002_baskets.down.sql", "DROP VIEW IF EXISTS full_view SYNC;\nDROP TABLE IF EXISTS baskets SYNC;\n"),
];

struct Bed {
    server: bowline_testkit::ClickHouse,
    clickhouse: ClickHouse,
    turn: SecretString,
}

impl Bed {
    async fn make() -> Self {
        let server = bowline_testkit::ClickHouse::create().await;
        let turn = TestDatabase::empty().await.url().to_owned().into();
        Self { clickhouse: connect(&server.url()), server, turn }
    }

    async fn up(&self, files: &[File]) -> anyhow::Result<Vec<i64>> {
        migrate::up(&self.clickhouse, &self.turn, files).await
    }

    async fn down(&self, files: &[File], to: i64) -> anyhow::Result<Vec<i64>> {
        migrate::down(&self.clickhouse, &self.turn, files, to).await
    }

    async fn refused(&self, files: &[File], expected: &[&str]) {
        let refused = format!("{:#}", self.up(files).await.unwrap_err());
        assert!(expected.iter().all(|words| refused.contains(words)), "{refused}");
    }
}

#[tokio::test]
async fn up_down_and_up_again() {
    let bed = Bed::make().await;
    let status = async || migrate::status(&bed.clickhouse, FRUIT).await.unwrap();
    let applied = async || status().await.iter().map(|step| step.applied).collect::<Vec<_>>();
    assert_eq!(applied().await, [false, false]);
    assert_eq!(bed.up(FRUIT).await.unwrap(), [1, 2]);
    assert_eq!(bed.up(FRUIT).await.unwrap(), [] as [i64; 0]);
    assert_eq!(bed.down(FRUIT, 1).await.unwrap(), [2]);
    assert_eq!(applied().await, [true, false]);
    assert_eq!(bed.down(FRUIT, 0).await.unwrap(), [1]);
    assert_eq!(bed.up(FRUIT).await.unwrap(), [1, 2]);
    assert_eq!(applied().await, [true, true]);
}

#[tokio::test]
async fn the_files_of_this_binary_go_up_down_and_up_and_leave_nothing() {
    let bed = Bed::make().await;
    let all = bed.up(FILES).await.unwrap();
    assert_eq!(all.len() * 2, FILES.len());
    let back: Vec<_> = all.iter().rev().copied().collect();
    assert_eq!(bed.down(FILES, 0).await.unwrap(), back);
    assert_eq!(bed.server.query("SHOW TABLES").await, "migrations");
    assert_eq!(bed.up(FILES).await.unwrap(), all);
}

#[tokio::test]
async fn several_processes_at_once_apply_each_file_once() {
    let bed = Bed::make().await;
    let (a, b, c) = tokio::join!(bed.up(FRUIT), bed.up(FRUIT), bed.up(FRUIT));
    let mut applied = [a.unwrap(), b.unwrap(), c.unwrap()].concat();
    applied.sort_unstable();
    assert_eq!(applied, [1, 2]);
    assert_eq!(bed.server.query("SELECT count() FROM migrations").await, "2");
}

#[tokio::test]
async fn one_that_was_interrupted_is_finished() {
    let bed = Bed::make().await;
    bed.up(&FRUIT[..2]).await.unwrap();
    bed.server.query("RENAME TABLE fruit TO elsewhere").await;
    bed.refused(FRUIT, &["migration 0002_baskets, at `CREATE MATERIALIZED VIEW", "fruit"]).await;
    let tables = bed.server.query("SHOW TABLES LIKE 'baskets'").await;
    assert_eq!(tables, "baskets", "it stopped halfway");
    bed.server.query("RENAME TABLE elsewhere TO fruit").await;
    assert_eq!(bed.up(FRUIT).await.unwrap(), [2]);
}

#[tokio::test]
async fn an_older_binary_leaves_a_newer_schema_alone() {
    let bed = Bed::make().await;
    bed.up(FRUIT).await.unwrap();
    assert_eq!(bed.up(&FRUIT[..2]).await.unwrap(), [] as [i64; 0]);
    let refused = bed.down(&FRUIT[..2], 0).await.unwrap_err().to_string();
    assert!(refused.contains("migration 2 (baskets) is in ClickHouse but not in this binary"), "{refused}");
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused_by_name() {
    let bed = Bed::make().await;
    bed.up(FRUIT).await.unwrap();
    let changed = "CREATE TABLE IF NOT EXISTS fruit (other String) ENGINE = MergeTree ORDER BY other;\n";
    bed.refused(&[("0001_fruit.up.sql", changed), FRUIT[1]], &["migration 0001_fruit was applied", "another text"])
        .await;
    bed.refused(&[("0003_a.sql", "")], &["0003_a.sql: expected NNNN_what.up.sql"]).await;
    bed.refused(&[("0003_a.up.sql", "")], &["migration 3 has no way back"]).await;
    bed.refused(&[("0003_a.up.sql", ""), ("0003_b.up.sql", "")], &["two migrations have the number 3"]).await;
    bed.refused(&[("0003_a.up.sql", "DROP TABLE fruit;\n")], &["0003_a.up.sql", "can't be run again"]).await;
}

#[tokio::test]
async fn a_clickhouse_that_is_away_is_said_so() {
    let mut bed = Bed::make().await;
    bed.clickhouse = connect("http://bowline:secret@127.0.0.1:1/none");
    bed.refused(FRUIT, &["making the table of migrations", "away", "refused"]).await;
}
