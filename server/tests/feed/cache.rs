//! One node, or a few, each request of which looks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::feed::cache::{Cache, Codec, Config, Counts, Miss};
use bowline::telemetry::Metrics;
use bowline_testkit::Redis as Server;
use tokio::task::JoinSet;

use crate::fixture::{Failed, Maker, Node, PARTLY, key, looking, patient, soon, until};

#[tokio::test]
async fn what_is_stale_is_given_out_while_one_makes_it_anew() {
    for server in [None, Some(Server::start().await)] {
        let node = Node::new(Config { soft: Duration::ZERO, ..looking() }, server.as_ref()).await;
        let maker = Maker::new(1);
        assert_eq!(node.get(1, &maker).await.unwrap(), 1);
        for _ in 0..100 {
            assert_eq!(node.get(1, &maker).await.unwrap(), 1, "nobody waits");
        }
        until("one makes it anew", async || maker.begun() == 2).await;
        maker.allow(1);
        until("it is there", async || node.find(1).await.is_some_and(|entry| entry.value == 2)).await;
        assert_eq!(maker.begun(), 2);
    }
}

#[tokio::test]
async fn versions_grow_and_each_knows_the_one_before() {
    for server in [None, Some(Server::start().await)] {
        let node = Node::new(Config { soft: Duration::ZERO, ..looking() }, server.as_ref()).await;
        let maker = Maker::new(1_000);
        until("five were made", async || {
            node.get(1, &maker).await.unwrap();
            maker.versions().len() >= 5
        })
        .await;
        let versions = maker.versions();
        assert_eq!(versions[0].1, None);
        for pair in versions.windows(2) {
            assert_eq!(pair[1].1, Some(pair[0].0));
            assert!(pair[1].0 > pair[0].0, "{versions:?}");
        }
    }
}

#[tokio::test]
async fn stale_ones_that_are_made_anew_at_once_are_bounded() {
    let config = Config { soft: Duration::ZERO, refreshes: 3, ..looking() };
    let node = Node::new(config, None).await;
    let maker = Maker::new(10);
    for _ in 0..2 {
        for user in 0..10 {
            node.get(user, &maker).await.unwrap();
        }
    }
    until("three make", async || maker.begun() == 13).await;
    for user in 0..10 {
        node.get(user, &maker).await.unwrap();
    }
    assert_eq!(maker.begun(), 13);
}

#[tokio::test]
async fn one_who_is_slower_than_his_turn_does_not_replace_what_is_newer() {
    let server = Server::start().await;
    let config = Config { turn: Duration::from_millis(50), ..looking() };
    let (slow, fast) = (Node::new(config.clone(), Some(&server)).await, Node::new(config, Some(&server)).await);
    let (slow_maker, fast_maker) = (Maker::new(0), Maker::new(100));
    let slow_one = tokio::spawn({
        let (slow, maker) = (slow.clone(), slow_maker.clone());
        async move { slow.get(1, &maker).await.unwrap() }
    });
    until("the slow one has his turn", async || slow_maker.begun() == 1).await;
    fast_maker.begun.store(100, Ordering::Relaxed);
    assert_eq!(fast.get(1, &fast_maker).await.unwrap(), 101, "his turn ended");
    until("it is in Redis", async || slow.find(1).await.is_some()).await;
    slow_maker.allow(1);
    // He had looked before he made, so what he gives out is the newer one.
    assert_eq!(slow_one.await.unwrap(), 101);
    until("his was refused", async || slow.events("outdated") == 1).await;
    let third = Node::new(looking(), Some(&server)).await;
    assert_eq!(third.get(1, &fast_maker).await.unwrap(), 101);
    assert_eq!(fast_maker.begun(), 101);
}

#[tokio::test]
async fn the_turn_of_a_node_that_died_ends() {
    let server = Server::start().await;
    let config = Config { turn: Duration::from_millis(100), ..looking() };
    let maker = Maker::new(0);
    let server = Arc::new(server);
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    other.spawn({
        let (server, config, maker) = (server.clone(), config.clone(), maker.clone());
        async move { Node::new(config, Some(&server)).await.get(1, &maker).await }
    });
    until("it has its turn", async || maker.begun() == 1).await;
    other.shutdown_background();
    let alive = Node::new(config, Some(&server)).await;
    let maker = Maker::new(1);
    assert_eq!(alive.get(1, &maker).await.unwrap(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_changes_nothing() {
    let node = Node::new(patient(), None).await;
    let maker = Maker::new(0);
    let gone = node.cache.get(key(1), Deadline::after(Duration::from_millis(10)), maker.work()).await;
    assert!(matches!(*gone.unwrap_err(), Miss::Late));
    let aborted = tokio::spawn({
        let (node, maker) = (node.clone(), maker.clone());
        async move { node.get(2, &maker).await }
    });
    until("it is being made", async || maker.begun() == 2).await;
    aborted.abort();
    maker.allow(2);
    until("it is kept", async || node.find(2).await.is_some()).await;
    assert_eq!(maker.begun(), 2);
}

#[tokio::test]
async fn a_failure_is_everybodys_and_ends_the_turn() {
    let server = Server::start().await;
    let (node, other) = (Node::new(patient(), Some(&server)).await, Node::new(patient(), Some(&server)).await);
    let failing = Maker::failing();
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let (node, failing) = (node.clone(), failing.clone());
        asking.spawn(async move { node.get(1, &failing).await });
    }
    for outcome in asking.join_all().await {
        assert!(matches!(*outcome.unwrap_err(), Miss::Failed(Failed)));
    }
    assert_eq!((node.events("failed") as usize, node.events("made")), (failing.begun(), 0));
    assert_eq!(other.get(1, &Maker::new(1)).await.unwrap(), 1, "a turn that is not given up lasts an hour here");
}

#[tokio::test]
async fn what_another_node_made_is_found_and_nothing_is_made_for_it() {
    let server = Server::start().await;
    let (node, other) = (Node::new(patient(), Some(&server)).await, Node::new(patient(), Some(&server)).await);
    assert!(other.find(1).await.is_none());
    let maker = Maker::new(1);
    node.get(1, &maker).await.unwrap();
    until("it is found", async || other.find(1).await.is_some()).await;
    assert!(other.cache.find(key(1), soon(), |value| *value == 2).await.is_none(), "it is not what is wanted");
    assert_eq!(other.get(1, &maker).await.unwrap(), 1);
    let (made, found) = (node.find(1).await.unwrap(), other.find(1).await.unwrap());
    assert_eq!((made.version, made.value), (found.version, found.value));
}

#[tokio::test]
async fn what_is_gone_in_redis_is_made_again() {
    let server = Server::start().await;
    let config = Config { soft: Duration::from_millis(30), hard: Duration::from_millis(30), ..looking() };
    let node = Node::new(config, Some(&server)).await;
    let maker = Maker::new(2);
    assert_eq!(node.get(1, &maker).await.unwrap(), 1);
    until("it is gone", async || node.find(1).await.is_none()).await;
    assert_eq!(node.get(1, &maker).await.unwrap(), 2);
}

#[tokio::test]
async fn memory_is_bounded() {
    const BYTES: usize = 10_000;
    let config = Config { memory_bytes: 1 << 20, ..patient() };
    let codec = Codec { is_whole: |_| true, to_bytes: Vec::clone, from_bytes: |bytes| Some(bytes.to_vec()) };
    let cache = Cache::new("test", "test", config, codec, None, &Counts::new(&Metrics::default()));
    for user in 0..1_000 {
        let made = cache.get(key(user), soon(), |_| async { Ok::<_, Failed>(vec![0; BYTES]) }).await;
        assert_eq!(made.unwrap().value.len(), BYTES);
    }
    let held = async || {
        let mut held = 0;
        for user in 0..1_000 {
            held += usize::from(cache.find(key(user), soon(), |_| true).await.is_some());
        }
        held
    };
    until("what is too much is gone", async || held().await * BYTES <= 1 << 20).await;
    assert!(held().await > 10);
}

#[test]
fn a_configuration_that_contradicts_itself_is_not_allowed() {
    assert_eq!(Config::default().validate(), []);
    let wrong =
        Config { near_max: Duration::ZERO, hard: Duration::from_secs(1), turn: Duration::ZERO, ..Config::default() };
    let keys: Vec<String> = wrong.validate().into_iter().map(|invalid| invalid.key).collect();
    assert_eq!(keys, ["near_max_ms", "hard_ms", "turn_ms"]);
}

#[tokio::test]
async fn what_is_outdated_is_made_anew_by_the_next_caller_who_waits_for_it() {
    let server = Server::start().await;
    let nodes = [Node::new(patient(), Some(&server)).await, Node::new(looking(), Some(&server)).await];
    let maker = Maker::new(2);
    assert_eq!(nodes[0].get(1, &maker).await.unwrap(), 1);
    nodes[0].cache.outdate(key(1));
    assert_eq!(nodes[0].get(1, &maker).await.unwrap(), 2);
    assert_eq!(nodes[0].get(1, &Maker::failing()).await.unwrap(), 2, "once");
    until("the others have it", async || nodes[1].get(1, &Maker::failing()).await.unwrap() == 2).await;
    let versions = maker.versions();
    assert_eq!(versions[1].1, Some(versions[0].0), "it is made with the one before at hand");
}

#[tokio::test]
async fn what_is_outdated_stands_in_where_nothing_newer_can_be_made() {
    for server in [None, Some(Server::start().await)] {
        let node = Node::new(patient(), server.as_ref()).await;
        let maker = Maker::new(2);
        assert_eq!(node.get(1, &maker).await.unwrap(), 1);
        node.cache.outdate(key(1));
        assert_eq!(node.get(1, &Maker::failing()).await.unwrap(), 1);
        until("another may try", async || node.get(1, &maker).await.unwrap() == 2).await;
    }
}

#[tokio::test]
async fn what_could_not_be_made_whole_is_made_anew_at_the_next_look() {
    for server in [None, Some(Server::start().await)] {
        let node = Node::new(looking(), server.as_ref()).await;
        let maker = Maker::new(1_000);
        maker.begun.store(PARTLY as usize, Ordering::Relaxed);
        assert_eq!(node.get(1, &maker).await.unwrap(), PARTLY + 1);
        maker.begun.store(0, Ordering::Relaxed);
        until("it is whole", async || node.get(1, &maker).await.unwrap() == 1).await;
        for _ in 0..100 {
            assert_eq!(node.get(1, &maker).await.unwrap(), 1, "it is kept");
        }
    }
}
