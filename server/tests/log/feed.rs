use bowline::deadline::Deadline;
use bowline_protocol::{LogId, Seq};
use bowline_testkit::TestDatabase;

use crate::fixture::*;
use crate::races::raw_append;

fn sorted(mut heads: Vec<(LogId, Seq)>) -> Vec<(LogId, Seq)> {
    heads.sort();
    heads
}

#[tokio::test]
async fn what_a_node_committed_and_did_not_publish_is_found_by_the_others() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let mut changes = node.log.changes();
    let soon = || Deadline::after(LONG);
    assert_eq!(changes.look(soon()).await.unwrap().heads, [], "the first look says from where on");

    let killed = database.connect().await;
    assert_eq!(raw_append(&killed, log, a, 16, serde_json::Value::Null, &[]).await, 0);
    assert_eq!(raw_append(&killed, log, a, 16, serde_json::Value::Null, &[]).await, 0);
    drop(killed);
    let change = changes.look(soon()).await.unwrap();
    assert_eq!((change.heads, change.epoch), (vec![(log, 3)], 1));
    assert_eq!(changes.look(soon()).await.unwrap().heads, [], "nothing is told twice");
}

#[tokio::test]
async fn a_commit_that_comes_after_later_ones_is_not_passed_over() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let (slow, fast) = (group(&node, a, &[]).await, group(&node, a, &[]).await);
    let mut changes = node.log.changes();
    let soon = || Deadline::after(LONG);
    changes.look(soon()).await.unwrap();

    let open = database.connect().await;
    open.batch_execute("BEGIN").await.unwrap();
    raw_append(&open, slow, a, 16, serde_json::Value::Null, &[]).await;
    for expected in 2..5 {
        node.run(text(fast, a, "x")).await.unwrap();
        assert_eq!(changes.look(soon()).await.unwrap().heads, [(fast, expected)]);
    }
    open.batch_execute("COMMIT").await.unwrap();
    node.run(text(fast, a, "x")).await.unwrap();
    assert_eq!(sorted(changes.look(soon()).await.unwrap().heads), sorted(vec![(slow, 2), (fast, 5)]));
    assert_eq!(changes.look(soon()).await.unwrap().heads, []);
}
