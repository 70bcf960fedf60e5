//! What a page of somebody's posts costs: with an index on the author, a sort and an offset, and with the partial composite
//! index and a place to go on from. 10,000 posts of each of 100 authors, as they come when all write at once.
//!
//! `BOWLINE_TEST_DATABASE_URL=postgres://… cargo run --release -p bowline --example bench_posts`
//!
//! Machines are noisy: compare the lines of one run with each other, not runs.

use std::time::{Duration, Instant};

use bowline::deadline::Deadline;
use bowline::log::{Config, Log};
use bowline::posts::{self, Posts};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::command::Page;
use bowline_protocol::{PostId, UserId};
use bowline_testkit::TestDatabase;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

const AUTHORS: usize = 100;
const PAGE: i64 = 20;
const RUNS: usize = 400;
const LONG: Duration = Duration::from_secs(60);

/// One in twenty was deleted: 9,500 of 10,000 are shown.
const FILL: &str = "
    INSERT INTO users (id) SELECT md5('author' || a)::uuid FROM generate_series(0, 99) a;
    INSERT INTO posts (id, author_id, seq, body, created_at, deleted_at)
    SELECT gen_random_uuid(), md5('author' || i % 100)::uuid, i / 100 + 1, repeat('x', 128),
           timestamptz '2026-01-01' + i * interval '1 second', CASE WHEN i / 100 % 20 = 7 THEN now() END
    FROM generate_series(0, 999999) i;
    CREATE TABLE posts_before AS SELECT * FROM posts;
    CREATE INDEX posts_before_author ON posts_before (author_id);";
const SHOWN: i64 = 9_500;

const BEFORE: &str = "SELECT id, body, created_at FROM posts_before WHERE author_id = $1 AND deleted_at IS NULL
    ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3";
/// $3 and $4: the last item of the page before, of which the newest page has none.
const AFTER: &str = "SELECT id, body, created_at FROM posts WHERE author_id = $1 AND deleted_at IS NULL
    AND (created_at, id) < ($3, $4) ORDER BY created_at DESC, id DESC LIMIT $2";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client.batch_execute("SET statement_timeout = 0").await?;
    client.batch_execute(FILL).await?;
    for vacuum in ["VACUUM ANALYZE posts", "VACUUM ANALYZE posts_before", "VACUUM ANALYZE users"] {
        client.batch_execute(vacuum).await?;
    }
    let pool = Pool::new(&database.url().to_owned().into(), &storage::Config::default())?;
    let metrics = Metrics::default();
    let log = Log::start(pool.clone(), Config::default(), &metrics, |_, _| {});
    let rows = client.query("SELECT id FROM users ORDER BY id", &[]).await?;
    let authors = rows.iter().map(|row| row.get(0)).collect();
    let posts = Posts::start(pool, log, &posts::Config::default(), &metrics);
    let bench = Bench { client, posts, authors };
    for (page, offset) in [("first", 0), ("last", SHOWN - PAGE)] {
        let before = bench.before(page, offset).await?;
        let after = bench.after(page, offset).await?;
        let whole = bench.whole(page, offset).await?;
        println!("{page} page: the composite index and a place are {:.0} times as fast;", before / after);
        println!("{page} page: with counts, names and what the reader likes {:.0} times", before / whole);
    }
    Ok(())
}

struct Bench {
    client: Client,
    posts: Posts,
    authors: Vec<Uuid>,
}

type Place = (std::time::SystemTime, Uuid);

impl Bench {
    /// The median of each, in seconds.
    async fn before(&self, page: &str, offset: i64) -> anyhow::Result<f64> {
        let mut took = Vec::new();
        for author in self.picked() {
            let started = Instant::now();
            let rows = self.rows(BEFORE, &[(&author, Type::UUID), (&PAGE, Type::INT8), (&offset, Type::INT8)]).await?;
            took.push(started.elapsed());
            anyhow::ensure!(rows == PAGE as usize, "a whole page");
        }
        Ok(report(&format!("{page} page of 20, single-column index, sort and offset"), &mut took))
    }

    async fn after(&self, page: &str, offset: i64) -> anyhow::Result<f64> {
        let mut took = Vec::new();
        for author in self.picked() {
            let (at, id) = self.place(author, offset).await?;
            let started = Instant::now();
            let parameters: [(&(dyn ToSql + Sync), Type); 4] =
                [(&author, Type::UUID), (&PAGE, Type::INT8), (&at, Type::TIMESTAMPTZ), (&id, Type::UUID)];
            let rows = self.rows(AFTER, &parameters).await?;
            took.push(started.elapsed());
            anyhow::ensure!(rows == PAGE as usize, "a whole page");
        }
        Ok(report(&format!("{page} page of 20, partial composite index and a place"), &mut took))
    }

    /// As the server reads it.
    async fn whole(&self, page: &str, offset: i64) -> anyhow::Result<f64> {
        let mut took = Vec::new();
        for author in self.picked() {
            let (at, id) = self.place(author, offset).await?;
            let at_ms = at.duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
            let asked = Page { limit: PAGE as u64, after: Some((at_ms, PostId(id))) };
            let started = Instant::now();
            let reader = UserId(self.authors[0]);
            let posts = self.posts.by(reader, UserId(author), asked, Deadline::after(LONG)).await?;
            took.push(started.elapsed());
            anyhow::ensure!(posts.items.len() == PAGE as usize, "a whole page");
        }
        Ok(report(&format!("{page} page of 20, through the room: with counts, names, likes"), &mut took))
    }

    /// The last item of the page before; for the newest page a place in front of all.
    async fn place(&self, author: Uuid, offset: i64) -> anyhow::Result<Place> {
        let sql = "SELECT created_at, id FROM posts WHERE author_id = $1 AND deleted_at IS NULL
            ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET $2";
        let front = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        if offset == 0 {
            return Ok((front, Uuid::max()));
        }
        let row = self.client.query_typed(sql, &[(&author, Type::UUID), (&(offset - 1), Type::INT8)]).await?;
        Ok((row[0].get(0), row[0].get(1)))
    }

    async fn rows(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> anyhow::Result<usize> {
        Ok(self.client.query_typed(sql, parameters).await?.len())
    }

    fn picked(&self) -> impl Iterator<Item = Uuid> {
        (0..RUNS).map(|n| self.authors[n * 37 % AUTHORS])
    }
}

/// The median, in seconds.
fn report(what: &str, took: &mut [Duration]) -> f64 {
    took.sort();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or_default().as_secs_f64();
    println!("{what}: p50 {:.3} ms, p99 {:.3} ms", at(0.5) * 1e3, at(0.99) * 1e3);
    at(0.5)
}
