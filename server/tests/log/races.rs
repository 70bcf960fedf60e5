use std::collections::BTreeSet;
use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::log::{Action, Config};
use bowline_protocol::wire::{ConversationKind, Role};
use bowline_protocol::{Code, LogId};
use bowline_testkit::TestDatabase;

use crate::fixture::*;
use crate::proxy::{Answers, Proxy};

#[tokio::test]
async fn a_log_that_does_not_exist_is_not_found_wherever_it_stands_in_a_batch() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    for place in 0..3 {
        // Ids sort by time: this one last, a small one first.
        for forged in [LogId::new(), LogId(uuid::Uuid::nil())] {
            let mut batch = vec![text(log, a, "x"), text(log, a, "y")];
            batch.insert(place, text(forged, a, "forged"));
            let outcomes = codes(in_one_batch(&database, &node, (log, a), batch).await);
            assert_eq!(outcomes[place], Err(Code::NotFound), "place {place}");
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "place {place}: {outcomes:?}");
        }
    }
    check_dense(&database).await;
}

#[tokio::test]
async fn the_same_send_on_two_nodes_at_once_is_stored_once() {
    let database = TestDatabase::create().await;
    let (one, other) = (Node::start(&database), Node::start(&database));
    let [a] = users(&database).await;
    let log = group(&one, a, &[]).await;
    let send = text(log, a, "once");

    let held = Held::take(&database, log).await;
    let outcomes = vec![one.give(send.clone(), Deadline::after(LONG)), other.give(send.clone(), Deadline::after(LONG))];
    held.wait_for_waiters(2).await;
    held.release().await;

    let mut stored: Vec<_> = all(outcomes).await.into_iter().map(Result::unwrap).collect();
    stored.sort_by_key(|stored| stored.repeat);
    assert_eq!(stored.iter().map(|stored| (stored.seq, stored.repeat)).collect::<Vec<_>>(), [(2, false), (2, true)]);
    assert_eq!(stored[0].created_at_ms, stored[1].created_at_ms);
    check_dense(&database).await;
}

#[tokio::test]
async fn a_client_id_counts_once_within_a_batch_too() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, stranger] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let send = text(log, a, "once");
    let mut reused = text(log, a, "something else");
    reused.client_id = send.client_id;
    let refused = text(log, stranger, "let me in");

    let batch = vec![
        text(log, a, "x"),
        send.clone(),
        send.clone(),
        reused.clone(),
        refused.clone(),
        refused,
        text(log, a, "y"),
    ];
    let outcomes = in_one_batch(&database, &node, (log, a), batch).await;
    let repeats: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().is_ok_and(|stored| stored.repeat)).collect();
    assert_eq!(
        codes(outcomes),
        [Ok(3), Ok(4), Ok(4), Err(Code::IdReused), Err(Code::NotFound), Err(Code::NotFound), Ok(5)]
    );
    assert_eq!(repeats, [false, false, true, false, false, false, false]);

    let again = node.run(send).await.unwrap();
    assert_eq!((again.seq, again.repeat), (4, true));
    assert_eq!(node.run(reused).await.unwrap_err().code, Code::IdReused);
    assert_eq!(node.sunk()[&log].len(), 5, "a repeat is not handed on");
    check_dense(&database).await;
}

#[tokio::test]
async fn a_repeat_keeps_its_outcome_for_one_who_has_left() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, b] = users(&database).await;
    let log = group(&node, a, &[b]).await;
    let send = text(log, b, "goodbye");
    let leave = command(log, b, Action::Leave);
    let first = node.run(send.clone()).await.unwrap();
    let left = node.run(leave.clone()).await.unwrap();
    for (command, before) in [(send, first), (leave, left)] {
        let again = node.run(command).await.unwrap();
        assert!(again.repeat);
        assert_eq!((again.seq, again.message_no, again.version), (before.seq, before.message_no, before.version));
        assert_eq!(again.created_at_ms, before.created_at_ms);
    }
    assert_eq!(node.run(text(log, b, "one more")).await.unwrap_err().code, Code::Forbidden);
}

#[tokio::test]
async fn one_who_is_removed_while_his_send_waits_is_refused() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, b] = users(&database).await;
    let log = group(&node, a, &[b]).await;

    // The removal holds the head and is not committed when the send asks for it.
    let remover = database.connect().await;
    remover.batch_execute("BEGIN").await.unwrap();
    let removed = raw_append(&remover, log, a, 24, serde_json::json!({ "user": b.0 }), &[b.0]).await;
    assert_eq!(removed, 0);
    let send = node.give(text(log, b, "too late"), Deadline::after(LONG));
    waiting(&database.connect().await, 1).await;
    remover.batch_execute("COMMIT").await.unwrap();

    assert_eq!(send.await.unwrap().unwrap_err().code, Code::Forbidden);
    assert_eq!(node.run(text(log, a, "next")).await.unwrap().seq, 3, "no seq is burnt");
    check_dense(&database).await;
}

#[tokio::test]
async fn what_follows_a_removal_in_the_queue_is_judged_after_it() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, b] = users(&database).await;
    let log = group(&node, a, &[b]).await;
    let batch = vec![
        text(log, b, "before"),
        command(log, a, Action::RemoveMember(b)),
        text(log, b, "after"),
        text(log, a, "alone"),
        command(log, a, Action::AddMembers(vec![b])),
        text(log, b, "back"),
    ];
    let outcomes = codes(in_one_batch(&database, &node, (log, a), batch).await);
    assert_eq!(outcomes, [Ok(3), Ok(4), Err(Code::Forbidden), Ok(5), Ok(6), Ok(7)]);

    let spans = database
        .connect()
        .await
        .query("SELECT joined_seq, left_seq FROM membership WHERE user_id = $1 ORDER BY joined_seq", &[&b.0])
        .await
        .unwrap();
    let spans: Vec<(i64, Option<i64>)> = spans.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(spans, [(1, Some(4)), (6, None)]);
    check_dense(&database).await;
}

#[tokio::test]
async fn two_edits_of_one_message_are_not_stored_by_one_call() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    node.run(text(log, a, "draft")).await.unwrap();
    let edit = |version, body: &str| command(log, a, Action::Edit { target_seq: 2, version, body: body.to_owned() });
    // Seq 3 is the command that holds the queue up.
    let batch = vec![edit(2, "one"), edit(2, "lost"), edit(4, "two"), text(log, a, "next")];
    let outcomes = in_one_batch(&database, &node, (log, a), batch).await;
    assert_eq!(outcomes[1].as_ref().unwrap_err().version, Some(4));
    assert_eq!(codes(outcomes), [Ok(4), Err(Code::Conflict), Ok(5), Ok(6)]);
}

#[tokio::test]
async fn one_poisoned_command_fails_alone() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    for poisoned in [0, 7, 19] {
        let mut batch: Vec<_> = (0..20).map(|n| text(log, a, &format!("{n}"))).collect();
        batch[poisoned] = text(log, a, "nul \0 here");
        let outcomes = codes(in_one_batch(&database, &node, (log, a), batch).await);
        assert_eq!(outcomes[poisoned], Err(Code::Invalid));
        let stored: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(stored.len(), 19);
        assert!(stored.is_sorted(), "the order of the calls is kept: {stored:?}");
    }
    check_dense(&database).await;
}

#[tokio::test]
async fn a_connection_cut_at_commit_is_an_unknown_outcome_and_a_resend_is_a_repeat() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(database.url()).await;
    let node = Node::start_with(&proxy.url, one_writer());
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let send = text(log, a, "kept or not");

    proxy.answers(Answers::Cut);
    assert_eq!(node.run(send.clone()).await.unwrap_err().code, Code::OutcomeUnknown);
    proxy.answers(Answers::Pass);
    let again = node.run(send).await.unwrap();
    assert_eq!((again.seq, again.repeat), (2, true));
    assert_eq!(node.run(text(log, a, "next")).await.unwrap().seq, 3);
    check_dense(&database).await;
}

#[tokio::test]
async fn a_backend_that_is_terminated_before_the_commit_stored_nothing() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let held = Held::take(&database, log).await;
    let send = text(log, a, "again");
    let outcome = node.give(send.clone(), Deadline::after(LONG));
    held.wait_for_waiters(1).await;
    database
        .connect()
        .await
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await
        .unwrap();
    let failure = outcome.await.unwrap().unwrap_err();
    held.release().await;
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.retry_after_ms.is_some());
    let stored = node.run(send).await.unwrap();
    assert_eq!((stored.seq, stored.repeat), (2, false));
}

#[tokio::test]
async fn a_node_that_stops_reading_holds_up_nobody() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(database.url()).await;
    let (stopped, other) = (Node::start_with(&proxy.url, one_writer()), Node::start(&database));
    let [a] = users(&database).await;
    let log = group(&stopped, a, &[]).await;

    proxy.answers(Answers::Keep);
    let unanswered = stopped.give(text(log, a, "stored"), Deadline::after(Duration::from_millis(300)));
    // It gets its turn whether or not the first one reads what it was told.
    let until = Deadline::after(LONG);
    while other.log.read(log, 0, 10, until).await.unwrap().as_of_seq < 2 {}
    assert_eq!(other.run(text(log, a, "next")).await.unwrap().seq, 3);
    assert_eq!(unanswered.await.unwrap().unwrap_err().code, Code::OutcomeUnknown);
}

#[tokio::test]
async fn two_people_who_open_a_chat_at_once_get_one() {
    let database = TestDatabase::create().await;
    let [a, b, c] = users(&database).await;
    let open = |from, to| create(from, ConversationKind::Direct, &[to]);
    let nodes = [Node::start(&database), Node::start(&database)];

    // On two nodes, both waiting for the same user's head.
    let held = Held::take(&database, a.log()).await;
    let outcomes =
        vec![nodes[0].give(open(a, b), Deadline::after(LONG)), nodes[1].give(open(b, a), Deadline::after(LONG))];
    held.wait_for_waiters(2).await;
    held.release().await;
    let stored: Vec<_> = all(outcomes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored[0].conversation, stored[1].conversation);
    assert_eq!(stored.iter().filter(|stored| stored.repeat).count(), 1);

    // In one batch.
    let log = stored[0].conversation.unwrap().0;
    let outcomes = in_one_batch(&database, &nodes[0], (log, a), vec![open(a, c), open(c, a)]).await;
    let stored: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored[0].conversation, stored[1].conversation);
    assert_eq!([stored[0].repeat, stored[1].repeat], [false, true]);

    // Long after: from its end.
    let again = nodes[1].run(open(b, a)).await.unwrap();
    assert_eq!((again.repeat, again.conversation), (true, Some((log, 2))));
    check_dense(&database).await;
}

#[tokio::test]
async fn many_writers_of_two_nodes_neither_lock_up_nor_leave_holes() {
    let database = TestDatabase::create().await;
    let config = Config { writers: 4, batch_commands: 16, ..Config::default() };
    let nodes = [Node::start_with(database.url(), config.clone()), Node::start_with(database.url(), config)];
    let people: [_; 6] = users(&database).await;
    let mut logs = Vec::new();
    for owner in people {
        let others: Vec<_> = people.into_iter().filter(|user| *user != owner).collect();
        logs.push((group(&nodes[0], owner, &others).await, owner));
    }
    let mut outcomes = Vec::new();
    for round in 0..60 {
        for (at, (log, owner)) in logs.iter().enumerate() {
            let node = &nodes[(round + at) % 2];
            let other = people[(at + 1 + round % 5) % 6];
            let action = match round % 6 {
                0 => Action::RemoveMember(other),
                1 => Action::AddMembers(people.to_vec()),
                2 => Action::SetRole { user: other, role: Role::Admin },
                _ => {
                    let mentions = people.iter().map(|user| user.to_wire()).collect();
                    Action::Message(bowline_protocol::wire::Message {
                        body: Some("all".into()),
                        mentions,
                        ..Default::default()
                    })
                }
            };
            outcomes.push(node.give(command(*log, *owner, action), Deadline::after(LONG)));
        }
    }
    for outcome in all(outcomes).await {
        // Which of two nodes comes first decides whether one can be removed, added or given a role.
        if let Err(failure) = outcome {
            assert!([Code::NotFound, Code::Conflict].contains(&failure.code), "{failure}");
        }
    }
    check_dense(&database).await;
    let sunk: BTreeSet<_> = nodes
        .iter()
        .flat_map(|node| node.sunk())
        .flat_map(|(log, entries)| entries.into_iter().map(move |entry| (log, entry.seq)))
        .collect();
    let stored = database.connect().await.query_one("SELECT count(*) FROM entries", &[]).await.unwrap();
    assert_eq!(sunk.len() as i64, stored.get::<_, i64>(0), "each entry was handed on by the node that stored it");
}

/// What a node of an unknown make would send.
pub(crate) async fn raw_append(
    client: &tokio_postgres::Client,
    log: LogId,
    sender: bowline_protocol::UserId,
    kind: i16,
    details: serde_json::Value,
    named: &[uuid::Uuid],
) -> i16 {
    let mut logs = vec![log.0];
    logs.extend(named);
    logs.sort();
    let at = logs.iter().position(|id| *id == log.0).unwrap() as i32 + 1;
    let row = client
        .query_one(
            "SELECT outcome FROM append(1, $1, ARRAY[$2::int], ARRAY[$3::uuid], '{0}', ARRAY[gen_random_uuid()], '{1}',
                 ARRAY[$4::smallint], '{NULL}', '{NULL}', ARRAY['raw'], ARRAY[$5::jsonb]) WHERE NOT caused",
            &[&logs, &at, &sender.0, &kind, &details],
        )
        .await
        .unwrap();
    row.get(0)
}
