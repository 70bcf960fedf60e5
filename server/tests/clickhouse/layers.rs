//! A read ends by its deadline here and on the server, and each layer that sees to it holds alone.

use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::storage::clickhouse::{ClickHouse, Config, Fault as ReadFault};
use bowline::telemetry::Metrics;
use bowline_testkit::{Fault, FaultProxy};

use crate::fixture::*;

/// Runs for ten seconds if nobody stops it.
const TEN_SECONDS: &str = "SELECT toUInt64(sum(sleepEachRow(0.05))) FROM numbers(200) SETTINGS max_block_size = 1";
const LIMIT: i32 = 159;
const CANCELLED: i32 = 394;
const READS: &str = "readonly=2";

async fn read(clickhouse: &ClickHouse, sql: &str, deadline: Deadline) -> Result<Vec<u64>, ReadFault> {
    clickhouse.read::<u64>(sql, |query| query, deadline).await
}

/// The code with which the one long query ended on the server.
async fn how_it_ended(server: &bowline_testkit::ClickHouse) -> i32 {
    let mut ended = Vec::new();
    until("the query ends on the server", async || {
        ended = server.ended("query LIKE '%sleepEachRow%'").await;
        !ended.is_empty()
    })
    .await;
    assert_eq!(ended.len(), 1);
    assert!(ended[0].1 < 10_000, "it ran to its end: {ended:?}");
    ended[0].0
}

async fn runs(server: &bowline_testkit::ClickHouse, queries: usize) {
    let sql = "SELECT count() FROM system.processes WHERE current_database = currentDatabase() AND query LIKE '%sleepEachRow%' AND query NOT LIKE '%system.processes%'";
    until("it runs on the server", async || server.query(sql).await == queries.to_string()).await;
}

#[tokio::test]
async fn a_read_that_would_take_ten_seconds_ends_by_its_deadline_here_and_there() {
    let server = bowline_testkit::ClickHouse::create().await;
    let clickhouse = connect(&server.url());
    let fault = read(&clickhouse, TEN_SECONDS, Deadline::after(Duration::from_millis(400))).await.unwrap_err();
    assert!(matches!(fault, ReadFault::Stopped(_) | ReadFault::Late), "{fault}");
    let code = how_it_ended(&server).await;
    assert!([LIMIT, CANCELLED].contains(&code), "{code}");
}

#[tokio::test]
async fn the_server_keeps_the_limit_though_nobody_tells_it_to_stop() {
    let server = bowline_testkit::ClickHouse::create().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(READS, Fault::Unheard), ("", Fault::Hang)]);
    let deadline = Deadline::after(Duration::from_millis(400));
    let fault = read(&connect(proxy.url()), TEN_SECONDS, deadline).await.unwrap_err();
    assert!(matches!(fault, ReadFault::Late), "{fault}");
    assert_eq!(how_it_ended(&server).await, LIMIT);
}

#[tokio::test]
async fn the_server_ends_what_nobody_waits_for() {
    let server = bowline_testkit::ClickHouse::create().await;
    let proxy = FaultProxy::start(&server.url()).await;
    // No `KILL QUERY` reaches it.
    proxy.set_for(&[(READS, Fault::None), ("", Fault::Hang)]);
    leave(&server, proxy.url()).await;
    let code = how_it_ended(&server).await;
    assert!(code != LIMIT && code != 0, "{code}");
}

#[tokio::test]
async fn a_query_is_killed_though_the_server_does_not_hear_that_its_caller_has_gone() {
    let server = bowline_testkit::ClickHouse::create().await;
    let proxy = FaultProxy::start(&server.url()).await;
    proxy.set_for(&[(READS, Fault::Unheard)]);
    leave(&server, proxy.url()).await;
    assert_eq!(how_it_ended(&server).await, CANCELLED);
}

/// Asks, and goes while the query runs.
async fn leave(server: &bowline_testkit::ClickHouse, url: &str) {
    let clickhouse = connect(url);
    let caller = tokio::spawn(async move { read(&clickhouse, TEN_SECONDS, soon()).await });
    runs(server, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn whatever_becomes_of_an_answer_the_caller_has_one_by_the_deadline() {
    let server = bowline_testkit::ClickHouse::create().await;
    let proxy = FaultProxy::start(&server.url()).await;
    let clickhouse = connect(proxy.url());
    let check = async |fault: Fault, expected: &str| {
        proxy.set(fault);
        let deadline = Deadline::after(Duration::from_millis(500));
        let outcome = read(&clickhouse, "SELECT number FROM numbers(100)", deadline).await;
        let shown = outcome.map_or_else(|fault| format!("{fault:?}"), |rows| format!("{} rows", rows.len()));
        assert!(shown.starts_with(expected), "{fault:?}: {shown}");
    };
    check(Fault::Hang, "Late").await;
    check(Fault::Drip, "Late").await;
    check(Fault::Reset, "Away").await;
    check(Fault::Error, "Away").await;
    check(Fault::Late(Duration::from_secs(2)), "Late").await;
    check(Fault::CutAtAnswer, "Away").await;
    // None of it is remembered.
    proxy.set(Fault::None);
    assert_eq!(read(&clickhouse, "SELECT number FROM numbers(100)", soon()).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_costs_no_more_than_the_deadline() {
    let mut server = bowline_testkit::ClickHouse::own().await;
    let clickhouse = connect(&server.url());
    server.pause();
    let outcome = read(&clickhouse, "SELECT toUInt64(1)", Deadline::after(Duration::from_millis(300))).await;
    assert!(matches!(outcome, Err(ReadFault::Late)), "{outcome:?}");
    server.resume();
    assert_eq!(read(&clickhouse, "SELECT toUInt64(1)", soon()).await.unwrap(), [1]);
    server.kill().await;
    let outcome = read(&clickhouse, "SELECT toUInt64(1)", soon()).await;
    assert!(matches!(outcome, Err(ReadFault::Away(_))), "{outcome:?}");
    server.start_again().await;
    assert_eq!(read(&clickhouse, "SELECT toUInt64(1)", soon()).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_read_too_many_is_refused_at_once_and_nothing_is_sent() {
    let server = bowline_testkit::ClickHouse::create().await;
    let config = Config { max_in_flight: 2, ..Config::default() };
    let clickhouse = ClickHouse::new(&server.url().into(), &config, &Metrics::default()).unwrap();
    let callers = [(); 2].map(|()| {
        let clickhouse = clickhouse.clone();
        tokio::spawn(async move { read(&clickhouse, TEN_SECONDS, soon()).await })
    });
    runs(&server, 2).await;
    let outcome = read(&clickhouse, "SELECT toUInt64(7)", soon()).await;
    assert!(matches!(outcome, Err(ReadFault::Full)), "{outcome:?}");
    assert!(server.ended("query LIKE 'SELECT toUInt64(7)%'").await.is_empty());
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    until("there is a place again", async || read(&clickhouse, "SELECT toUInt64(7)", soon()).await.is_ok()).await;
}

#[tokio::test]
async fn with_no_time_left_nothing_is_asked() {
    // Nobody would answer there.
    let clickhouse = connect("http://bowline:secret@127.0.0.1:1/none");
    let outcome = read(&clickhouse, "SELECT toUInt64(1)", Deadline::after(Duration::from_millis(15))).await;
    assert!(matches!(outcome, Err(ReadFault::Late)), "{outcome:?}");
}

#[tokio::test]
async fn a_read_changes_nothing_and_a_mistake_of_ours_is_told_apart() {
    let server = bowline_testkit::ClickHouse::create().await;
    let clickhouse = connect(&server.url());
    for sql in ["CREATE TABLE t (a UInt8) ENGINE = Memory", "SELECT nothing", "SELECT"] {
        let outcome = read(&clickhouse, sql, soon()).await;
        assert!(matches!(outcome, Err(ReadFault::Refused(_))), "{sql}: {outcome:?}");
    }
}
