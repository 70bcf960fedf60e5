//! The schema in ClickHouse: files of `migrations/clickhouse`, compiled in, applied by number. Each has its way back.
//!
//! ClickHouse has no transactions and no locks. So a file is a list of statements that may be run again, one that was
//! interrupted begins anew, and processes take turns by a lock in PostgreSQL.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use ::clickhouse::Row;
use anyhow::{Context as _, bail, ensure};
use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ClickHouse;
use crate::deadline::Deadline;
use crate::storage::migrate::{File, Name, Step, Turn};

/// The files compiled in, in order of name.
pub const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/clickhouse_migrations.rs"));

/// A process that migrates ClickHouse holds this advisory lock of PostgreSQL.
const LOCK: i64 = 0x626f_776c_696e_6503;
const STATEMENT_TIME: Duration = Duration::from_secs(60);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number UInt32, name String, checksum String, applied UInt8, at DateTime64(9, 'UTC') DEFAULT now64(9)
) ENGINE = MergeTree ORDER BY (number, at)";

struct Migration {
    number: i64,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

#[derive(Row, Deserialize)]
struct Applied {
    number: u32,
    name: String,
    checksum: String,
}

/// Applies what is missing; returns the numbers that were applied. `turn` is PostgreSQL, where processes wait for each
/// other. A database that knows newer files than this binary is left as it is.
pub async fn up(clickhouse: &ClickHouse, turn: &SecretString, files: &[File]) -> anyhow::Result<Vec<i64>> {
    let migrations = read(files)?;
    let turn = Turn::take(turn, LOCK).await?;
    execute(clickhouse, TABLE).await.context("making the table of migrations")?;
    let applied = applied(clickhouse).await?;
    let mut done = Vec::new();
    for migration in &migrations {
        match applied.get(&migration.number) {
            Some(known) => migration.refuse_changed(known)?,
            None => {
                migration.run(clickhouse, migration.up, true).await?;
                done.push(migration.number);
            }
        }
    }
    turn.end().await?;
    Ok(done)
}

/// Takes back every migration above `to` (0: all), newest first; returns the numbers that were taken back.
pub async fn down(clickhouse: &ClickHouse, turn: &SecretString, files: &[File], to: i64) -> anyhow::Result<Vec<i64>> {
    let migrations = read(files)?;
    let turn = Turn::take(turn, LOCK).await?;
    let mut done = Vec::new();
    for (number, known) in applied(clickhouse).await?.iter().rev().filter(|(number, _)| **number > to) {
        let Some(migration) = migrations.iter().find(|migration| migration.number == *number) else {
            bail!(
                "migration {number} ({}) is in ClickHouse but not in this binary: take it back with the binary that has it",
                known.name
            );
        };
        migration.run(clickhouse, migration.down, false).await?;
        done.push(*number);
    }
    turn.end().await?;
    Ok(done)
}

/// Every migration that this binary or the database knows.
pub async fn status(clickhouse: &ClickHouse, files: &[File]) -> anyhow::Result<Vec<Step>> {
    let mut applied = applied(clickhouse).await?;
    let mut steps: Vec<Step> = Vec::new();
    for migration in read(files)? {
        let applied = applied.remove(&migration.number).is_some();
        steps.push(Step { number: migration.number, name: migration.name.replace('_', " "), applied });
    }
    for number in applied.into_keys() {
        steps.push(Step { number, name: "(not in this binary)".to_owned(), applied: true });
    }
    steps.sort_by_key(|step| step.number);
    Ok(steps)
}

impl Migration {
    async fn run(&self, clickhouse: &ClickHouse, sql: &str, applied: bool) -> anyhow::Result<()> {
        for statement in statements(sql) {
            let first = statement.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
            execute(clickhouse, statement)
                .await
                .with_context(|| format!("migration {:04}_{}, at `{first}`", self.number, self.name))?;
        }
        let row = format!(
            "INSERT INTO migrations (number, name, checksum, applied) VALUES ({}, '{}', '{}', {})",
            self.number,
            self.name,
            self.checksum(),
            u8::from(applied)
        );
        execute(clickhouse, &row).await.context("noting a migration")
    }

    fn refuse_changed(&self, known: &Applied) -> anyhow::Result<()> {
        ensure!(
            known.checksum == self.checksum(),
            "migration {:04}_{} was applied to ClickHouse as another text (as {}): a file is never changed once it was \
             released, add one that changes what is there",
            self.number,
            self.name,
            known.name
        );
        Ok(())
    }

    fn checksum(&self) -> String {
        Sha256::digest(self.up).iter().fold(String::new(), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

async fn execute(clickhouse: &ClickHouse, sql: &str) -> anyhow::Result<()> {
    Ok(clickhouse.execute(sql, Deadline::after(STATEMENT_TIME)).await?)
}

async fn applied(clickhouse: &ClickHouse) -> anyhow::Result<BTreeMap<i64, Applied>> {
    let deadline = Deadline::after(STATEMENT_TIME);
    let there = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'migrations'";
    let there = clickhouse.read::<u64>(there, |query| query, deadline).await.context("asking ClickHouse")?;
    if there == [0] {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT number, argMax(name, at) AS name, argMax(checksum, at) AS checksum FROM migrations
               GROUP BY number HAVING argMax(applied, at) = 1 ORDER BY number";
    let applied = clickhouse.read::<Applied>(sql, |query| query, deadline).await.context("reading the migrations")?;
    Ok(applied.into_iter().map(|applied| (applied.number.into(), applied)).collect())
}

fn read(files: &[File]) -> anyhow::Result<Vec<Migration>> {
    let mut found: Vec<Migration> = Vec::new();
    let mut downs = BTreeMap::new();
    for (file, sql) in files {
        let Name { number, what, up } = Name::read(file)?;
        for statement in statements(sql) {
            ensure!(
                ["IF NOT EXISTS", "IF EXISTS"].iter().any(|again| statement.contains(again)),
                "migration {file}: a statement without IF NOT EXISTS or IF EXISTS can't be run again"
            );
        }
        if up {
            ensure!(found.iter().all(|other| other.number != number), "two migrations have the number {number}");
            found.push(Migration { number, name: what, up: sql, down: "" });
        } else {
            downs.insert(number, *sql);
        }
    }
    for migration in &mut found {
        let down = downs.get(&migration.number);
        migration.down =
            down.with_context(|| format!("migration {} has no way back: add its .down.sql", migration.number))?;
    }
    found.sort_by_key(|migration| migration.number);
    Ok(found)
}

/// Each ends with `;` at the end of a line.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    let blank =
        |statement: &&str| statement.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with("--"));
    sql.split(";\n").map(|statement| statement.trim().trim_end_matches(';')).filter(move |statement| !blank(statement))
}
