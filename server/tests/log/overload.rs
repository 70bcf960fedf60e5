use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::log::Config;
use bowline_protocol::Code;
use bowline_testkit::TestDatabase;

use crate::fixture::*;

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn who_waits_too_long_is_told_whether_it_may_be_stored() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let held = Held::take(&database, log).await;
    let sent = node.give(text(log, a, "sent"), Deadline::after(SHORT));
    held.wait_for_waiters(1).await;
    let queued = node.give(text(log, a, "queued"), Deadline::after(SHORT / 2));
    assert_eq!(queued.await.unwrap().unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(sent.await.unwrap().unwrap_err().code, Code::OutcomeUnknown);
    held.release().await;
    // The one that waited was cancelled or stored, the one in the queue was not.
    let next = node.run(text(log, a, "next")).await.unwrap();
    let entries = node.whole(log).await;
    assert_eq!(entries.len() as u64, next.seq);
    assert!(!entries.iter().any(|entry| format!("{entry:?}").contains("queued")));
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let database = TestDatabase::create().await;
    let [a] = users(&database).await;
    let small = |config: Config| Node::start_with(database.url(), Config { writers: 1, ..config });
    let log = group(&Node::start(&database), a, &[]).await;
    for (what, node) in [
        ("in number", small(Config { queue_commands: 3, ..Config::default() })),
        ("in bytes", small(Config { queue_bytes: 3_500, ..Config::default() })),
    ] {
        let held = Held::take(&database, log).await;
        let plug = node.give(text(log, a, "plug"), Deadline::after(LONG));
        held.wait_for_waiters(1).await;
        let outcomes = node.give_all((0..8).map(|_| text(log, a, &"x".repeat(700))));
        held.release().await;
        plug.await.unwrap().unwrap();
        let outcomes = all(outcomes).await;
        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(!refused.is_empty() && refused.len() < 8, "{what}: {refused:?}");
        assert!(
            refused.iter().all(|failure| failure.code == Code::Overloaded && failure.retry_after_ms.is_some()),
            "{what}"
        );
        assert!(outcomes.iter().skip_while(|outcome| outcome.is_ok()).all(Result::is_err), "{what}: in order");
    }
    check_dense(&database).await;
}

#[tokio::test]
async fn a_queue_that_would_take_too_long_is_full() {
    let database = TestDatabase::create().await;
    let [a] = users(&database).await;
    let node = Node::start_with(
        database.url(),
        Config { writers: 1, queue_time: Duration::from_millis(50), ..Config::default() },
    );
    let log = group(&node, a, &[]).await;
    let held = Held::take(&database, log).await;
    let plug = node.give(text(log, a, "plug"), Deadline::after(LONG));
    held.wait_for_waiters(1).await;
    // The database hangs: within the queue's time it takes no more, long before any bound in number.
    let until = Deadline::after(LONG);
    let failure = loop {
        let mut outcome = node.give(text(log, a, "x"), Deadline::after(LONG));
        if let Ok(outcome) = outcome.try_recv() {
            break outcome.unwrap_err();
        }
        assert!(!until.passed());
        tokio::task::yield_now().await;
    };
    assert_eq!(failure.code, Code::Overloaded);
    held.release().await;
    plug.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_log_that_is_stuck_holds_up_no_other() {
    let database = TestDatabase::create().await;
    let node = Node::start_with(database.url(), Config::default());
    let [a] = users(&database).await;
    let (stuck, other) = (group(&node, a, &[]).await, group(&node, a, &[]).await);
    let held = Held::take(&database, stuck).await;
    let first = node.give(text(stuck, a, "first"), Deadline::after(LONG));
    held.wait_for_waiters(1).await;
    let second = node.give(text(stuck, a, "second"), Deadline::after(LONG));
    for seq in 2..=20 {
        assert_eq!(node.run(text(other, a, "x")).await.unwrap().seq, seq);
    }
    held.release().await;
    assert_eq!(codes(all(vec![first, second]).await), [Ok(2), Ok(3)]);
}

#[tokio::test]
async fn writers_that_have_nothing_to_store_keep_no_connection_from_others() {
    let database = TestDatabase::create().await;
    let node = Node::start_within(1, database.url(), Config::default());
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    for n in 1..=3 {
        let stored = node.run(text(log, a, "x")).await.unwrap();
        let read = node.log.read(log, 0, stored.seq, Deadline::after(LONG)).await.unwrap();
        assert_eq!(read.entries.len(), 1 + n);
    }
}

#[tokio::test]
async fn a_closed_log_stores_what_waits_and_takes_no_more() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let held = Held::take(&database, log).await;
    let plug = node.give(text(log, a, "plug"), Deadline::after(LONG));
    held.wait_for_waiters(1).await;
    let waits = node.give(text(log, a, "waits"), Deadline::after(LONG));
    assert!(!node.log.close(Deadline::after(Duration::ZERO)).await);
    assert_eq!(node.run(text(log, a, "late")).await.unwrap_err().code, Code::Unavailable);
    held.release().await;
    assert!(node.log.close(Deadline::after(LONG)).await);
    assert_eq!(codes(all(vec![plug, waits]).await), [Ok(2), Ok(3)]);
}

#[tokio::test]
async fn without_a_database_nothing_was_stored() {
    let database = TestDatabase::empty().await;
    let (_, name) = database.url().rsplit_once('/').unwrap();
    let away = format!("postgres://bowline@127.0.0.1:1/{name}");
    let node = Node::start_with(&away, one_writer());
    let user = bowline_protocol::UserId::new();
    let failure = node.run(text(user.log(), user, "x")).await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.retry_after_ms.is_some());
}
