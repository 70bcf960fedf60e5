//! How ClickHouse runs the statements of the sources: by prefixes of sorting keys, whatever else is in the tables.
#![cfg(test)]

use std::time::Duration;

use bowline_protocol::UserId;
use bowline_testkit::TestDatabase;
use clickhouse::query::Query;

use super::{ENGAGED, MOST_GIVEN, for_reader, newest_of_sql, trending_sql};
use crate::deadline::Deadline;
use crate::storage::clickhouse::{ClickHouse, Config, migrate};
use crate::telemetry::Metrics;

/// 4,000 authors with 100 posts each, 4,000 readers who engage with 50 authors each, and what was given most in each hour.
const FILL: [&str; 3] = [
    "INSERT INTO posts_by_author SELECT reinterpretAsUUID(toUInt128(number % 4000)), now64(3) - INTERVAL number SECOND,
         generateUUIDv7(number), 1, 0, number % 7, 0, 0 FROM numbers(400000)",
    "INSERT INTO affinity SELECT reinterpretAsUUID(toUInt128(number % 4000)),
         reinterpretAsUUID(toUInt128(cityHash64(number) % 4000)), today() - number % 20, 1, 1, 0, 0 FROM numbers(200000)",
    "INSERT INTO trending
     SELECT toStartOfHour(now()) - INTERVAL number % 160 HOUR AS hour,
            topKWeightedState(300, 2, 'counts')((author, post_at, post), toUInt64(number % 40))
     FROM (SELECT author, post_at, post, rowNumberInAllBlocks() AS number FROM posts_by_author) GROUP BY hour",
];

/// One read of a table: its name, the columns of the key that it goes by, and how much of the table it reads.
#[derive(Debug, Default)]
struct Scan {
    table: String,
    key: Vec<String>,
    granules: (u64, u64),
}

struct Bed {
    clickhouse: ClickHouse,
    /// Ends with the bed.
    _server: bowline_testkit::ClickHouse,
}

impl Bed {
    async fn make() -> Self {
        let (server, database) = tokio::join!(bowline_testkit::ClickHouse::create(), TestDatabase::empty());
        let clickhouse = ClickHouse::new(&server.url().into(), &Config::default(), &Metrics::default())
            .expect("a URL that is right");
        let turn = database.url().to_owned().into();
        migrate::up(&clickhouse, &turn, migrate::FILES).await.expect("the schema");
        for sql in FILL {
            server.query(sql).await;
        }
        for table in ["posts_by_author", "affinity", "trending"] {
            server.query(&format!("OPTIMIZE TABLE {table} FINAL")).await;
        }
        Self { clickhouse, _server: server }
    }

    /// A reader of whom there is something, who follows ten.
    async fn check(&self, sql: &str, expected: &[(&str, &[&str])]) {
        let bind = |query: Query| {
            let ids: Vec<String> = (0..10).map(|id| format!("00000000-0000-{id:04x}-0000-000000000000")).collect();
            match sql {
                _ if sql.contains("{authors") => query.param("authors", ids),
                _ if sql.contains("{reader") => for_reader(query, UserId(ids[3].parse().expect("an id"))),
                _ => query,
            }
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        let sql = format!("EXPLAIN indexes = 1 {sql}");
        let plan: Vec<String> = self.clickhouse.read(&sql, bind, deadline).await.expect("a plan");
        let plan = plan.join("\n");
        assert!(!plan.contains("FINAL"), "{plan}");
        let scans = scans(&plan);
        for (table, key) in expected {
            let scan = scans.iter().find(|scan| scan.table.ends_with(table));
            let scan = scan.unwrap_or_else(|| panic!("{table} is not read:\n{plan}"));
            assert_eq!(scan.key[..key.len().min(scan.key.len())], **key, "{plan}");
            let (read, all) = scan.granules;
            assert!(all >= 4 && read * 2 <= all, "{table}: {read} of {all} granules:\n{plan}");
        }
        assert_eq!(scans.len(), expected.len(), "{plan}");
    }
}

fn scans(plan: &str) -> Vec<Scan> {
    let mut scans: Vec<Scan> = Vec::new();
    let mut index = String::new();
    let mut in_keys = false;
    for line in plan.lines().map(|line| line.trim_start_matches([' ', '│', '├', '└', '─'])) {
        if let Some((_, table)) = line.split_once("ReadFromMergeTree (") {
            scans.push(Scan { table: table.trim_end_matches(')').to_owned(), ..Scan::default() });
            index.clear();
            continue;
        }
        let Some(scan) = scans.last_mut() else { continue };
        if ["Min-Max", "Min max", "MinMax", "Partition", "PrimaryKey", "Primary key"].contains(&line) {
            index = line.replace(' ', "");
        }
        in_keys = line.starts_with("Keys:") || in_keys && !line.contains(':');
        if !index.eq_ignore_ascii_case("PrimaryKey") {
            continue;
        }
        if in_keys && !line.starts_with("Keys:") {
            scan.key.push(line.to_owned());
        }
        if let Some((read, all)) = line.strip_prefix("Granules: ").and_then(|of| of.split_once('/')) {
            scan.granules = (read.parse().unwrap_or(u64::MAX), all.parse().unwrap_or_default());
            index.clear();
        }
    }
    scans
}

#[tokio::test]
async fn each_source_reads_prefixes_of_sorting_keys() {
    let bed = Bed::make().await;
    bed.check(&newest_of_sql(50, 500), &[("posts_by_author", &["author", "post_at"])]).await;
    bed.check(MOST_GIVEN, &[("trending", &["hour"])]).await;
    bed.check(ENGAGED, &[("affinity", &["reader"])]).await;
    // What is trending was found when this is planned.
    bed.check(&trending_sql(), &[("posts_by_author", &["author", "post_at", "post"])]).await;
}
