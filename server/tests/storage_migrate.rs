//! Migrations on a real PostgreSQL: there and back, one process at a time, and what an interruption leaves.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "storage_support/fixture.rs"]
mod fixture;

use std::process::Command;

use bowline::storage::migrate::{self, File};
use bowline::storage::{Config, Storage};
use fixture::Database;
use secrecy::SecretString;

const FILES: &[File] = &[
    ("0001_fruit.up.sql", "CREATE TABLE fruit (id int PRIMARY KEY, name text); INSERT INTO fruit VALUES (1, 'fig')"),
    ("0001_fruit.down.sql", "DROP TABLE fruit"),
    ("0002_by_name.up.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY fruit_by_name ON fruit (name)"),
    ("0002_by_name.down.sql", "-- no-transaction\nDROP INDEX CONCURRENTLY fruit_by_name"),
];

fn url(database: &Database) -> SecretString {
    database.url.clone().into()
}

#[tokio::test]
async fn up_down_and_up_again() {
    let database = Database::create().await;
    let url = url(&database);
    assert_eq!(migrate::up(&url, FILES).await.unwrap(), [1, 2]);
    assert_eq!(migrate::up(&url, FILES).await.unwrap(), [] as [i64; 0]);
    assert_eq!(migrate::down(&url, FILES, 1).await.unwrap(), [2]);
    let applied: Vec<_> = migrate::status(&url, FILES).await.unwrap().iter().map(|step| step.applied).collect();
    assert_eq!(applied, [true, false]);
    assert_eq!(migrate::down(&url, FILES, 0).await.unwrap(), [1]);
    assert_eq!(migrate::up(&url, FILES).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn the_files_of_this_binary_go_up_down_and_up() {
    let database = Database::create().await;
    let url = url(&database);
    let all = migrate::up(&url, migrate::FILES).await.unwrap();
    assert!(!all.is_empty());
    let back: Vec<_> = all.iter().rev().copied().collect();
    assert_eq!(migrate::down(&url, migrate::FILES, 0).await.unwrap(), back);
    assert_eq!(migrate::up(&url, migrate::FILES).await.unwrap(), all);
}

#[tokio::test]
async fn several_processes_at_once_apply_each_file_once() {
    let database = Database::create().await;
    let url = url(&database);
    let (a, b, c) = tokio::join!(migrate::up(&url, FILES), migrate::up(&url, FILES), migrate::up(&url, FILES));
    let mut applied = [a.unwrap(), b.unwrap(), c.unwrap()].concat();
    applied.sort_unstable();
    assert_eq!(applied, [1, 2]);
}

#[tokio::test]
async fn an_index_left_half_built_is_built_again() {
    let database = Database::create().await;
    let url = url(&database);
    let (table, index) = FILES.split_at(2);
    migrate::up(&url, table).await.unwrap();
    let client = &database.admin;
    // As an interrupted `CREATE INDEX CONCURRENTLY` leaves it.
    client
        .batch_execute(
            "CREATE INDEX fruit_by_name ON fruit (name);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'fruit_by_name'::regclass",
        )
        .await
        .unwrap();
    assert_eq!(migrate::up(&url, &[table, index].concat()).await.unwrap(), [2]);
    let sql = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'fruit_by_name'::regclass";
    assert!(client.query_typed(sql, &[]).await.unwrap()[0].get::<_, bool>(0));
}

#[tokio::test]
async fn an_older_binary_leaves_a_newer_schema_alone() {
    let database = Database::create().await;
    let url = url(&database);
    migrate::up(&url, FILES).await.unwrap();
    assert_eq!(migrate::up(&url, &FILES[..2]).await.unwrap(), [] as [i64; 0]);
    let refused = migrate::down(&url, &FILES[..2], 0).await.unwrap_err().to_string();
    assert!(refused.contains("migration 2 is in the database but not in this binary"), "{refused}");
}

#[tokio::test]
async fn files_that_break_the_rules_are_refused_by_name() {
    let database = Database::create().await;
    let check = async |files: &[File], expected: &str| {
        let refused = migrate::up(&url(&database), files).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    check(&[("0001_a.sql", "")], "0001_a.sql: expected NNNN_what.up.sql").await;
    check(&[("first.up.sql", "")], "first.up.sql: expected NNNN_what.up.sql").await;
    check(&[("0001_a.up.sql", "")], "migration 1 has no way back").await;
    check(&[("0001_a.up.sql", ""), ("0001_b.up.sql", "")], "two migrations have the number 1").await;
    let concurrently = [("0001_a.up.sql", "CREATE INDEX CONCURRENTLY i ON t (c)"), ("0001_a.down.sql", "")];
    check(&concurrently, "0001_a.up.sql: CONCURRENTLY needs").await;
}

#[tokio::test]
async fn the_epoch_is_raised_by_the_command() {
    let database = Database::create().await;
    migrate::up(&url(&database), migrate::FILES).await.unwrap();
    for expected in ["the epoch is 2\n", "the epoch is 3\n"] {
        let mut bowline = Command::new(env!("CARGO_BIN_EXE_bowline"));
        let output = bowline.args(["epoch", "bump"]).env("DATABASE_URL", &database.url).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_database_that_may_lose_what_it_confirmed_is_refused() {
    let database = Database::create().await;
    let unsafe_commit = format!("ALTER DATABASE {} SET synchronous_commit = off", database.name);
    database.admin.batch_execute(&unsafe_commit).await.unwrap();
    let config = Config { url: Some(url(&database)), ..Config::default() };
    let refused = Storage::open(&config).await.err().unwrap().to_string();
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
    assert!(refused.contains("--allow-unsafe-database"), "{refused}");
    Storage::open(&Config { allow_unsafe: true, ..config }).await.unwrap().close().await;
}
