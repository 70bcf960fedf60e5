use bowline::deadline::Deadline;
use bowline::log;
use bowline_protocol::{Code, LogId};
use bowline_testkit::TestDatabase;

use crate::fixture::*;

#[tokio::test]
async fn after_a_restore_a_node_stores_nothing_until_it_believes_in_the_new_epoch() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let mut changes = node.log.changes();
    changes.look(Deadline::after(LONG)).await.unwrap();

    assert_eq!(log::bump_epoch(&database.connect().await).await.unwrap(), 2);
    let failure = node.run(text(log, a, "old")).await.unwrap_err();
    assert_eq!(failure.code, Code::EpochChanged);
    assert!(failure.retry_after_ms.is_some());
    assert_eq!(node.log.epoch(), 1);
    assert_eq!(changes.look(Deadline::after(LONG)).await.unwrap().epoch, 2);

    node.log.adopt_epoch(2);
    assert_eq!(node.run(text(log, a, "new")).await.unwrap().seq, 2);
    check_dense(&database).await;
}

#[tokio::test]
async fn a_cursor_is_unsure_from_the_lowest_head_of_the_epochs_after_its_own() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let operator = database.connect().await;
    log::bump_epoch(&operator).await.unwrap();
    node.log.adopt_epoch(2);
    node.run(text(log, a, "x")).await.unwrap();
    log::bump_epoch(&operator).await.unwrap();
    let first_unsure = |log, epoch| node.log.first_unsure_seq(log, epoch, Deadline::after(LONG));
    assert_eq!(first_unsure(log, 1).await.unwrap(), Some(2));
    assert_eq!(first_unsure(log, 2).await.unwrap(), Some(3));
    assert_eq!(first_unsure(log, 3).await.unwrap(), None);
    assert_eq!(first_unsure(LogId::new(), 2).await.unwrap(), Some(1), "a log that was not there then");
}

#[tokio::test]
async fn rows_that_are_ahead_of_a_new_cluster_do_not_blind_its_change_feed() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let operator = database.connect().await;
    operator.batch_execute("UPDATE entries SET txid = txid + 1000000000").await.unwrap();
    log::bump_epoch(&operator).await.unwrap();
    node.log.adopt_epoch(2);
    let mut changes = node.log.changes();
    changes.look(Deadline::after(LONG)).await.unwrap();
    assert_eq!(changes.look(Deadline::after(LONG)).await.unwrap().heads, []);
    node.run(text(log, a, "x")).await.unwrap();
    assert_eq!(changes.look(Deadline::after(LONG)).await.unwrap().heads, [(log, 2)]);
}
