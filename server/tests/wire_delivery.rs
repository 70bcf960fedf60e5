//! Logs over real sockets: fan-out, replay, slow readers, joining and leaving while it goes on.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::wire::Config;
use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::wire::{Edited, MemberLeft, ServerFrame, Typing};
use bowline_protocol::{Codec, LogId, Seq, UserId};
use support::client::{Client, Place};
use support::node::{Node, entry, until};

async fn client(node: &Node, codec: Codec) -> Client {
    Client::connect(node.address, UserId::new(), codec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_with_caught_up_and_is_followed_live() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    for i in 0..300 {
        node.store(log, format!("message {i}"));
    }
    for codec in Codec::ALL {
        let mut client = client(&node, codec).await;
        client.follow(log, 7).await;
        let mut place = Place::at(7);
        let head = node.log.read(log, &[]).as_of_seq;
        place.reach(head, &mut client).await;
        match client.frame().await {
            Kind::CaughtUp(caught_up) => assert_eq!(caught_up.seq, head),
            other => panic!("not caught up: {other:?}"),
        }
        let live = node.send(log, "live");
        place.reach(live, &mut client).await;
        assert_eq!(place.seqs, (8..=live).collect::<Vec<_>>(), "{codec:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_page_share_one_read() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    for i in 0..100 {
        node.store(log, format!("message {i}"));
    }
    let mut clients = Vec::new();
    for i in 0..50 {
        clients.push(client(&node, Codec::ALL[i % 2]).await);
    }
    for client in &mut clients {
        client.follow(log, 0).await;
    }
    for client in &mut clients {
        Place::at(0).reach(100, client).await;
    }
    assert_eq!(node.reads(log), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_published_comes_with_the_announced_head() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    let mut client = client(&node, Codec::Proto).await;
    client.follow(log, 0).await;
    let mut place = Place::at(0);
    assert!(matches!(client.frame().await, Kind::CaughtUp(_)));
    node.store(log, "lost");
    let entry = node.store(log, "published");
    node.shards.publish(log, &[entry]);
    place.reach(2, &mut client).await;
    node.store(log, "lost too");
    node.shards.head(log, 3);
    place.reach(3, &mut client).await;
    assert_eq!(place.seqs, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_between_the_look_and_the_following_is_not_missed() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    for i in 0..3 {
        node.send(log, format!("message {i}"));
    }
    let mut client = client(&node, Codec::Proto).await;
    client.order(format!("!follow {log} 1 1 1")).await;
    let mut place = Place::at(1);
    place.reach(3, &mut client).await;
    assert_eq!(place.seqs, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_are_made_again() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    node.store(log, "kept");
    node.fail_reads(3);
    let mut client = client(&node, Codec::Proto).await;
    client.follow(log, 0).await;
    Place::at(0).reach(1, &mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_decide_what_a_replay_shows() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    for i in 0..200 {
        node.store(log, format!("message {i}"));
    }
    let mut client = client(&node, Codec::Json).await;
    client.order(format!("!follow {log} 0 200 50 150")).await;
    let mut place = Place::at(0);
    place.reach(150, &mut client).await;
    assert_eq!(place.seqs, (50..=150).collect::<Vec<_>>());
    match client.frame().await {
        Kind::CaughtUp(caught_up) => assert_eq!((caught_up.seq, caught_up.read_seq), (150, 1), "and it has ended"),
        other => panic!("not caught up: {other:?}"),
    }
    client.order(format!("!cursor {log}")).await;
    assert_eq!(client.notice().await, "None");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_gets_his_leaving_and_nothing_after_it() {
    let node = Node::start(Config::default());
    let (log, user) = (LogId::new(), UserId::new());
    let mut client = Client::connect(node.address, user, Codec::Proto).await;
    client.follow(log, 0).await;
    assert!(matches!(client.frame().await, Kind::CaughtUp(_)));
    let first = node.store(log, "before");
    let left = node.log.append(log, entry(Content::MemberLeft(MemberLeft { user_id: user.to_wire() })));
    let after = node.store(log, "after");
    node.shards.publish(log, &[first, left, after]);
    let mut place = Place::at(0);
    place.reach(2, &mut client).await;
    node.send(log, "later");
    client.order(format!("!cursor {log}")).await;
    assert_eq!(client.notice().await, "None", "nothing came in between");
    assert_eq!(node.passed(user), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_of_a_watched_log_is_told_to_the_application() {
    let node = Node::start(Config::default());
    let (log, user) = (LogId::new(), UserId::new());
    for i in 0..150 {
        node.store(log, format!("message {i}"));
    }
    let mut client = Client::connect(node.address, user, Codec::Proto).await;
    client.order(format!("!watch {log} 100")).await;
    let mut place = Place::at(100);
    place.reach(150, &mut client).await;
    let live = node.send(log, "live");
    place.reach(live, &mut client).await;
    // A shard writes first and tells afterwards: the client may have an entry that the application is yet to hear of.
    until("the last one is told", || node.passed(user).last() == Some(&live)).await;
    assert_eq!(node.passed(user), (101..=151).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_who_is_level_and_are_kept_for_nobody() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    let typing = |user: UserId| ServerFrame {
        id: None,
        kind: Some(Kind::Typing(Typing { log_id: log.to_wire(), user_id: user.to_wire() })),
    };
    node.shards.signal(log, typing(UserId::new()));
    let mut clients = [client(&node, Codec::Proto).await, client(&node, Codec::Json).await];
    for client in &mut clients {
        client.follow(log, 0).await;
        assert!(matches!(client.frame().await, Kind::CaughtUp(_)));
    }
    let user = UserId::new();
    node.shards.signal(log, typing(user));
    for client in &mut clients {
        match client.frame().await {
            Kind::Typing(typing) => assert_eq!(typing.user_id, user.to_wire()),
            other => panic!("not a signal: {other:?}"),
        }
    }
}

/// 200 readers of one log: most read on, some stop for a while and then catch up, some leave, some come. Everyone ends
/// with every entry from his place on, once and in order.
async fn check_fan_out(config: Config, messages: Seq, edits: bool) {
    let node = Arc::new(Node::start(config));
    let (log, sent) = (LogId::new(), Arc::new(AtomicU64::new(0)));
    node.send(log, "first");
    let mut readers = Vec::new();
    for i in 0..200 {
        readers.push(tokio::spawn(read_as(i, Arc::clone(&node), log, Arc::clone(&sent), messages)));
    }
    until("the readers are there", || node.shards.sockets() >= 150).await;
    for i in 1..messages {
        if edits && i % 7 == 0 {
            let fact = entry(Content::Edited(Edited { target_seq: i - 3, body: Some("edited".into()) }));
            let fact = node.log.append(log, fact);
            node.log.rewrite(log, i - 3, |target| target.version = fact.seq);
            node.shards.publish(log, &[fact]);
        } else {
            node.send(log, format!("{i} {}", "x".repeat(200)));
        }
        sent.store(i + 1, Ordering::SeqCst);
        if i % 5 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        reader.await.expect("no reader fails");
    }
    until("all sockets are gone", || node.shards.sockets() == 0).await;
    assert_eq!(node.closed(), 200 + 40, "each socket ended once");
}

async fn read_as(i: usize, node: Arc<Node>, log: LogId, sent: Arc<AtomicU64>, messages: Seq) {
    let codec = Codec::ALL[i % 2];
    let window = (i % 4 == 3).then_some(4096);
    let share = |part: Seq| messages * part / 10;
    let mut client = Client::with_window(node.address, UserId::new(), codec, window).await;
    match i % 5 {
        // Comes while it goes on.
        1 => until("half is sent", || sent.load(Ordering::SeqCst) >= share(5)).await,
        // Leaves, comes back with its place.
        2 => {
            client.follow(log, 0).await;
            let mut place = Place::at(0);
            place.reach(share(3), &mut client).await;
            client = Client::with_window(node.address, UserId::new(), codec, window).await;
            client.follow(log, place.seq).await;
            place.reach(messages, &mut client).await;
            assert_eq!(place.seqs, (1..=messages).collect::<Vec<_>>(), "reader {i}");
            return;
        }
        _ => {}
    }
    client.follow(log, 0).await;
    let mut place = Place::at(0);
    if i % 5 == 3 {
        // Stops reading until everything is sent.
        place.reach(share(1), &mut client).await;
        until("all is sent", || sent.load(Ordering::SeqCst) >= messages).await;
    }
    place.reach(messages, &mut client).await;
    assert_eq!(place.seqs, (1..=messages).collect::<Vec<_>>(), "reader {i}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_everything() {
    check_fan_out(Config::default(), 2_000, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_everything_with_little_memory_facts_and_two_shards() {
    let config = Config { tail_bytes: 40_000, shards: 2, inbox_entries: 16, ..Config::default() };
    check_fan_out(config, 1_000, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_no_burden_and_loses_nothing() {
    let node = Node::start(Config { tail_bytes: 50_000, ..Config::default() });
    let log = LogId::new();
    let mut slow = Client::with_window(node.address, UserId::new(), Codec::Proto, Some(4096)).await;
    let mut quick = client(&node, Codec::Proto).await;
    let (mut slow_place, mut quick_place) = (Place::at(0), Place::at(0));
    for client in [&mut slow, &mut quick] {
        client.follow(log, 0).await;
        assert!(matches!(client.frame().await, Kind::CaughtUp(_)));
    }
    let messages = 3_000;
    for i in 0..messages {
        let seq = node.send(log, format!("{i} {}", "x".repeat(1_000)));
        if i % 100 == 0 {
            tokio::time::timeout(Duration::from_secs(30), quick_place.reach(seq, &mut quick)).await.expect("in time");
        }
    }
    quick_place.reach(messages, &mut quick).await;
    slow_place.reach(messages, &mut slow).await;
    assert_eq!(slow_place.seqs, (1..=messages).collect::<Vec<_>>());
    assert!(node.reads(log) > 0, "it has fallen behind what is in memory");
}
