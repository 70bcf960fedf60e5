//! What the log costs, without sockets: appending, replaying a page, and what the composite index is worth.
//!
//! `BOWLINE_TEST_DATABASE_URL=postgres://… cargo run --release -p bowline --example bench_log [-- append|index|replay …]`
//!
//! `replay` fills a table of 10,000,000 rows: 5 GB of disk, and minutes. Without names: all.
//!
//! Machines are noisy: compare the lines of one run with each other, not runs.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline::deadline::Deadline;
use bowline::log::{Action, Command, Config, Log};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::wire::{self, SenderKind};
use bowline_protocol::{ClientId, LogId, UserId};
use bowline_testkit::TestDatabase;
use tokio::sync::{Semaphore, mpsc};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

const CONVERSATIONS: usize = 1_000;
const BODY_BYTES: usize = 128;
const LONG: Duration = Duration::from_secs(60);

/// A thousand conversations of one member each, who talks.
const PEOPLE: &str =
    "INSERT INTO heads (log_id, last_seq) SELECT md5('log' || n)::uuid, 0 FROM generate_series(0, 999) n;
    INSERT INTO conversations (id, kind, creator_id)
    SELECT md5('log' || n)::uuid, 0, md5('user' || n)::uuid FROM generate_series(0, 999) n;
    INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq)
    SELECT md5('log' || n)::uuid, md5('user' || n)::uuid, 1, 1 FROM generate_series(0, 999) n;";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    if asked("append") {
        fdatasync()?;
        for (state, then) in [("never analysed", ""), ("analysed", "VACUUM ANALYZE")] {
            for batch in [1, 100, 250] {
                raw_append(state, then, batch).await?;
            }
        }
        group_commit().await?;
    }
    if asked("index") {
        index().await?;
    }
    if asked("replay") {
        replay().await?;
    }
    Ok(())
}

/// What one commit costs the disk, at the least.
fn fdatasync() -> anyhow::Result<()> {
    let mut file = File::create(std::env::temp_dir().join(format!("bowline-bench-{}", std::process::id())))?;
    let mut took = Vec::new();
    for _ in 0..500 {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; 8_192])?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed());
    }
    report("fdatasync of 8 KiB", &mut took);
    std::fs::remove_file(std::env::temp_dir().join(format!("bowline-bench-{}", std::process::id())))?;
    Ok(())
}

/// The SQL function alone, one call after the other on one connection.
async fn raw_append(state: &str, then: &str, batch: usize) -> anyhow::Result<()> {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client.batch_execute(PEOPLE).await?;
    if then.is_empty() {
        client.batch_execute("ALTER TABLE entries SET (autovacuum_enabled = false)").await?;
        client.batch_execute("ALTER TABLE heads SET (autovacuum_enabled = false)").await?;
    }
    let (logs, users) = (ids(&client, "log").await?, ids(&client, "user").await?);
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let calls = (30_000 / batch).min(2_000);
    for n in 0..calls / 4 {
        append_once(&client, (&logs, &users), batch, n).await?;
    }
    client.batch_execute(then).await?;
    let (started, cpu) = (Instant::now(), cpu_time(pid));
    for n in 0..calls {
        append_once(&client, (&logs, &users), batch, n).await?;
    }
    let rows = (calls * batch) as f64;
    let wall = started.elapsed().as_secs_f64();
    let backend = match (cpu, cpu_time(pid)) {
        (Some(before), Some(after)) => {
            format!("{:.1} µs of backend CPU a row", (after - before).as_secs_f64() * 1e6 / rows)
        }
        _ => "the backend is elsewhere".to_owned(),
    };
    println!("append, {state}, batches of {batch}: {:.0} rows/s, {backend}", rows / wall);
    Ok(())
}

async fn append_once(
    client: &Client,
    (all_logs, users): (&[Uuid], &[Uuid]),
    batch: usize,
    call: usize,
) -> anyhow::Result<()> {
    let of = |n: usize| (n * 7 + call * 13) % CONVERSATIONS;
    let mut logs: Vec<Uuid> = (0..batch).map(|n| all_logs[of(n)]).collect();
    let wanted = logs.clone();
    logs.sort();
    logs.dedup();
    let at: Vec<i32> = wanted.iter().map(|log| logs.binary_search(log).map_or(0, |at| at as i32 + 1)).collect();
    let senders: Vec<Uuid> = (0..batch).map(|n| users[of(n)]).collect();
    let clients: Vec<Uuid> = (0..batch).map(|_| Uuid::now_v7()).collect();
    let none: Vec<Option<i64>> = vec![None; batch];
    let rows = client
        .query_typed(
            "SELECT * FROM append(1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                (&logs, Type::UUID_ARRAY),
                (&at, Type::INT4_ARRAY),
                (&senders, Type::UUID_ARRAY),
                (&vec![0_i16; batch], Type::INT2_ARRAY),
                (&clients, Type::UUID_ARRAY),
                (&vec![1; batch], Type::INT4_ARRAY),
                (&vec![16_i16; batch], Type::INT2_ARRAY),
                (&none, Type::INT8_ARRAY),
                (&none, Type::INT8_ARRAY),
                (&vec!["x".repeat(BODY_BYTES); batch], Type::TEXT_ARRAY),
                (&vec![None::<serde_json::Value>; batch], Type::JSONB_ARRAY),
            ],
        )
        .await?;
    anyhow::ensure!(rows.iter().all(|row| row.get::<_, i16>("outcome") == 0), "not stored");
    Ok(())
}

/// As the server does it: sends of many, gathered by the writers.
async fn group_commit() -> anyhow::Result<()> {
    for (in_flight, sends) in [(1, 300), (50, 5_000), (1_000, 60_000), (4_000, 100_000)] {
        let database = TestDatabase::create().await;
        let client = database.connect().await;
        client.batch_execute(PEOPLE).await?;
        let (logs, users) = (ids(&client, "log").await?, ids(&client, "user").await?);
        let log = open(&database)?;
        let places = Arc::new(Semaphore::new(in_flight));
        let (answers, mut answered) = mpsc::unbounded_channel();
        let started = Instant::now();
        for n in 0..sends {
            let place = places.clone().acquire_owned().await?;
            let (answers, sent) = (answers.clone(), Instant::now());
            let at = n % CONVERSATIONS;
            let command = Command {
                log: LogId(logs[at]),
                sender: UserId(users[at]),
                sender_kind: SenderKind::User,
                client_id: ClientId::new(),
                action: Action::Message(wire::Message { body: Some("x".repeat(BODY_BYTES)), ..Default::default() }),
            };
            let done = Box::new(move |outcome: Result<_, _>| {
                let _ = answers.send((sent.elapsed(), outcome.is_ok()));
                drop(place);
            });
            log.append(command, Deadline::after(LONG), done);
        }
        drop(answers);
        let (mut took, mut refused) = (Vec::new(), 0);
        while let Some((time, stored)) = answered.recv().await {
            if stored { took.push(time) } else { refused += 1 }
        }
        let rate = took.len() as f64 / started.elapsed().as_secs_f64();
        report(&format!("{in_flight} sends in flight: {rate:.0} sends/s, {refused} refused; send to ack"), &mut took);
    }
    Ok(())
}

/// The newest 50 messages of a conversation: one index on the conversation and a sort, or the key that holds the order.
async fn index() -> anyhow::Result<()> {
    let client = TestDatabase::empty().await.connect().await;
    client
        .batch_execute(
            "CREATE TABLE before (log_id uuid, at timestamptz, body text);
             INSERT INTO before SELECT md5('log' || n % 100)::uuid, now() + n * interval '1 s', repeat('x', 128)
                 FROM generate_series(1, 1000000) n;
             CREATE INDEX before_log ON before (log_id);
             CREATE TABLE after (log_id uuid, seq bigint, body text, PRIMARY KEY (log_id, seq));
             INSERT INTO after SELECT md5('log' || n % 100)::uuid, n / 100, repeat('x', 128) FROM generate_series(0, 999999) n",
        )
        .await?;
    for vacuum in ["VACUUM ANALYZE before", "VACUUM ANALYZE after"] {
        client.batch_execute(vacuum).await?;
    }
    let logs = ids(&client, "log").await?;
    let mut medians = Vec::new();
    for (what, sql) in [
        ("single-column index and sort", "SELECT * FROM before WHERE log_id = $1 ORDER BY at DESC LIMIT 50"),
        ("composite index", "SELECT * FROM after WHERE log_id = $1 ORDER BY seq DESC LIMIT 50"),
    ] {
        let statement = client.prepare(sql).await?;
        let mut took = Vec::new();
        for n in 0..400 {
            let log = logs[n * 37 % 100];
            let started = Instant::now();
            anyhow::ensure!(client.query(&statement, &[&log]).await?.len() == 50);
            took.push(started.elapsed());
        }
        report(&format!("newest 50 of 10,000 in 1,000,000 rows, {what}"), &mut took);
        medians.push(took[took.len() / 2].as_secs_f64());
    }
    println!("the composite index is {:.0} times as fast", medians[0] / medians[1]);
    Ok(())
}

/// One page of 128 of a conversation of 10,000, in tables of growing size.
async fn replay() -> anyhow::Result<()> {
    for logs in [1, 200, 1_000] {
        let database = TestDatabase::create().await;
        let client = database.connect().await;
        let rows = logs * 10_000;
        client
            .batch_execute(&format!(
                "INSERT INTO heads (log_id, last_seq) SELECT md5('log' || n)::uuid, 10000 FROM generate_series(0, {logs} - 1) n;
                 INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, kind, sender_kind, body)
                 SELECT md5('log' || n % {logs})::uuid, n / {logs} + 1, 1, n / {logs} + 1, 1, now(), md5('user' || n % {logs})::uuid,
                        md5('client' || n)::uuid, 16, 0, repeat('x', {BODY_BYTES}) FROM generate_series(0, {rows} - 1) n",
            ))
            .await?;
        client.batch_execute("VACUUM ANALYZE entries").await?;
        let (log, all_logs) = (open(&database)?, ids(&client, "log").await?);
        let mut took = Vec::new();
        for n in 0..2_000 {
            let id = LogId(all_logs[n * 37 % logs]);
            let started = Instant::now();
            let range = log.read_pages(id, &[1 + n as u64 * 31 % 76], Deadline::after(LONG)).await?;
            took.push(started.elapsed());
            anyhow::ensure!(range.entries.len() == 128, "a whole page");
        }
        report(&format!("replay of a page of 128, {rows} rows in the table"), &mut took);
    }
    Ok(())
}

/// Of the first thousand things of this name.
async fn ids(client: &Client, name: &str) -> anyhow::Result<Vec<Uuid>> {
    let sql = "SELECT md5($1 || n)::uuid FROM generate_series(0, 999) n ORDER BY n";
    Ok(client.query_typed(sql, &[(&name, Type::TEXT)]).await?.iter().map(|row| row.get(0)).collect())
}

fn open(database: &TestDatabase) -> anyhow::Result<Log> {
    let pool = Pool::new(&database.url().to_owned().into(), &storage::Config::default())?;
    Ok(Log::start(pool, Config::default(), &Metrics::default(), |_, _| {}))
}

/// User and system time of a process of this machine.
fn cpu_time(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
}
