//! What the pool promises, against a real PostgreSQL and through PgBouncer in transaction mode.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "storage_support/fixture.rs"]
mod fixture;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bowline::deadline::Deadline;
use bowline::storage::{Config, Fault, Pool};
use bowline_protocol::Code;
use fixture::{Database, PgBouncer};
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn pool(url: &str, max_connections: usize, max_waiting: usize) -> Pool {
    Pool::new(&url.into(), &Config { max_connections, max_waiting, ..Config::default() }).unwrap()
}

async fn backends(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'bowline'";
    database.admin.query_typed(sql, &[(&database.name, Type::TEXT)]).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn never_more_connections_than_configured() {
    let database = Database::create().await;
    let pool = pool(&database.url, 3, 1_000);
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let connection = pool.get(soon()).await.unwrap();
            connection.query("SELECT pg_sleep(0.001)", &[], soon()).await.unwrap();
        });
    }
    let mut most = 0;
    while tasks.join_next().await.is_some() {
        most = most.max(backends(&database).await);
        assert!(pool.open() <= 3);
    }
    assert_eq!(most, 3);
}

#[tokio::test]
async fn one_more_waiter_than_allowed_is_told_to_come_back() {
    let database = Database::create().await;
    let pool = pool(&database.url, 2, 4);
    let held = (pool.get(soon()).await.unwrap(), pool.get(soon()).await.unwrap());
    let mut waiters = JoinSet::new();
    for _ in 0..4 {
        let pool = pool.clone();
        waiters.spawn(async move { pool.get(soon()).await.map(drop) });
    }
    fixture::until("four wait", async || pool.waiting() == 4).await;

    let refused = pool.get(soon()).await.err().unwrap();
    assert_eq!(refused.code, Code::Overloaded);
    assert!(refused.retry_after_ms.is_some());

    drop(held);
    while let Some(waiter) = waiters.join_next().await {
        waiter.unwrap().unwrap();
    }
}

#[tokio::test]
async fn nobody_waits_past_the_deadline() {
    let database = Database::create().await;
    let pool = pool(&database.url, 2, 4);
    let _held = (pool.get(soon()).await.unwrap(), pool.get(soon()).await.unwrap());
    let late = pool.get(Deadline::after(Duration::from_millis(30))).await.err().unwrap();
    assert_eq!((late.code, late.retry_after_ms.is_some()), (Code::Overloaded, true));
    let passed = pool.get(Deadline::after(Duration::ZERO)).await.err().unwrap();
    assert_eq!(passed.code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_at_once() {
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pool = pool(&format!("postgres://bowline@127.0.0.1:{port}/none"), 2, 4);
    let long = Deadline::after(Duration::from_secs(3_600));
    let failure = pool.ping(long).await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.retry_after_ms.is_some());
}

#[tokio::test]
async fn a_database_that_accepts_and_never_answers_is_unavailable_long_before_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool = pool(&format!("postgres://bowline@127.0.0.1:{port}/none"), 2, 4);
    let hour = Duration::from_secs(3_600);
    let started = Instant::now();
    assert_eq!(pool.ping(Deadline::after(hour)).await.unwrap_err().code, Code::Unavailable);
    assert!(started.elapsed() < hour / 2);
}

#[tokio::test]
async fn a_connection_cut_by_the_server_is_replaced() {
    let database = Database::create().await;
    let pool = pool(&database.url, 2, 4);
    let connection = pool.get(soon()).await.unwrap();
    let row = &connection.query("SELECT pg_backend_pid()", &[], soon()).await.unwrap()[0];
    let pid: i32 = row.get(0);
    let kill = async || {
        database.admin.query_typed("SELECT pg_terminate_backend($1)", &[(&pid, Type::INT4)]).await.unwrap();
    };
    let (cut, ()) = tokio::join!(connection.query("SELECT pg_sleep(60)", &[], soon()), async {
        fixture::until("it sleeps", async || database.runs("pg_sleep(60)").await).await;
        kill().await;
    });
    let fault = cut.unwrap_err();
    assert_eq!(fault.read().code, Code::Unavailable, "{fault}");
    drop(connection);
    pool.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn a_statement_past_its_deadline_is_cancelled_and_its_connection_not_used_again() {
    let database = Database::create().await;
    let pool = pool(&database.url, 2, 4);
    let connection = pool.get(soon()).await.unwrap();
    let late = connection.query("SELECT pg_sleep(61)", &[], Deadline::after(Duration::from_millis(50))).await;
    let fault = late.unwrap_err();
    assert!(matches!(fault, Fault::Late));
    assert_eq!((fault.read().code, fault.write().code), (Code::DeadlineExceeded, Code::OutcomeUnknown));
    drop(connection);
    assert_eq!(pool.open(), 0);
    fixture::until("it is cancelled", async || !database.runs("pg_sleep(61)").await).await;
}

#[tokio::test]
async fn a_dropped_statement_is_cancelled_too() {
    let database = Database::create().await;
    let pool = pool(&database.url, 2, 4);
    let task = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get(soon()).await.unwrap().query("SELECT pg_sleep(62)", &[], soon()).await.map(drop) }
    });
    fixture::until("it runs", async || database.runs("pg_sleep(62)").await).await;
    task.abort();
    fixture::until("it is cancelled", async || !database.runs("pg_sleep(62)").await).await;
    fixture::until("it left the pool", async || pool.open() == 0).await;
}

#[tokio::test]
async fn a_fault_says_what_is_known_of_the_outcome() {
    let database = Database::create().await;
    let other = &database.admin;
    other.batch_execute("CREATE TABLE t (id int CONSTRAINT t_key PRIMARY KEY); CREATE TABLE locked ()").await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE locked").await.unwrap();
    let pool = pool(&database.url, 2, 4);
    let check = async |sql: &str, write: Code, constraint: Option<&str>| {
        let connection = pool.get(soon()).await.unwrap();
        let fault = connection.query(sql, &[], soon()).await.unwrap_err();
        assert_eq!((fault.write().code, fault.constraint()), (write, constraint), "{sql}: {fault}");
    };
    check("INSERT INTO t VALUES (1), (1)", Code::Internal, Some("t_key")).await;
    check("no such statement", Code::Internal, None).await;
    let waits = "DO $$ BEGIN SET LOCAL lock_timeout = 10; LOCK TABLE locked; END $$";
    check(waits, Code::DeadlineExceeded, None).await;
    let read_only = "DO $$ BEGIN SET LOCAL transaction_read_only = on; INSERT INTO t VALUES (2); END $$";
    check(read_only, Code::Unavailable, None).await;
}

#[tokio::test]
async fn works_through_pgbouncer_in_transaction_mode() {
    let database = Database::create().await;
    let pgbouncer = PgBouncer::start(&database).await;
    // Two pools stand for two processes: with named statements they would meet each other's.
    let pools = [pool(&pgbouncer.url, 15, 1_000), pool(&pgbouncer.url, 15, 1_000)];
    let mut tasks = JoinSet::new();
    for call in 0..600_i64 {
        let pool = pools[usize::try_from(call).unwrap() % 2].clone();
        tasks.spawn(async move {
            let sql = format!("SELECT $1::bigint + {}", call % 7);
            let connection = pool.get(soon()).await.unwrap();
            let rows = connection.query(&sql, &[(&call, Type::INT8)], soon()).await.unwrap();
            assert_eq!(rows[0].get::<_, i64>(0), call + call % 7);
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    assert!(pools.iter().all(|pool| pool.open() <= 15));
}

#[test]
fn an_url_that_cannot_work_is_refused_without_being_repeated() {
    for (url, expected) in [
        ("mysql://root:hunter2@db/x", "postgres://"),
        ("postgres:///x?user=hunter2", "no host"),
        ("postgres://bowline:hunter2@db/x?sslmode=require", "sslmode=require is not supported"),
    ] {
        let config = Config { url: Some(SecretString::from(url)), ..Config::default() };
        let found = config.validate();
        assert_eq!(found.len(), 1, "{url}");
        assert!(found[0].allowed.contains(expected), "{url}: {found:?}");
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
