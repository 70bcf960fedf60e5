//! A thousand at once.

use std::sync::Arc;
use std::time::Duration;

use bowline::feed::bulkhead::{self, Bulkhead, Full, Snapshot};
use bowline::telemetry::Metrics;
use bowline_testkit::Redis as Server;
use tokio::task::JoinSet;

use crate::fixture::{Maker, Node, key, patient, soon, until};

pub(crate) const CALLERS: usize = 1_000;

/// All callers, spread over the nodes, ask for one user; what they were given.
pub(crate) async fn ask_for_one(nodes: &[Node], user: usize, maker: &Arc<Maker>) -> JoinSet<u64> {
    let mut asking = JoinSet::new();
    for caller in 0..CALLERS {
        let (node, maker) = (nodes[caller % nodes.len()].clone(), maker.clone());
        asking.spawn(async move { node.get(user, &maker).await.unwrap() });
    }
    until("it is being made", async || maker.begun() > 0).await;
    asking
}

/// Each caller asks for a user of his own, and none of them is cached. The fallback ends when all who can't be inside have
/// been refused; what is counted are those with a ranking of their own, and those who were shown the snapshot.
pub(crate) async fn ask_for_each(node: &Node, from: usize) -> (usize, usize) {
    let config =
        bulkhead::Config { rate: bowline::limits::Rate { burst: 1_000_000, interval_ms: 1 }, ..Default::default() };
    let bulkhead = Bulkhead::new(&config, &Metrics::default());
    let snapshot = Arc::new(Snapshot::default());
    snapshot.replace(Arc::new(7));
    let maker = Maker::new(0);
    let mut asking = JoinSet::new();
    for caller in 0..CALLERS {
        let (node, bulkhead, snapshot, maker) = (node.clone(), bulkhead.clone(), snapshot.clone(), maker.clone());
        asking.spawn(async move {
            let fallback = {
                let make = maker.work();
                move |making: bowline::feed::cache::Making<u64>| async move {
                    let _inside = bulkhead.enter(making.deadline).await?;
                    make(making).await.map_err(|_| Full)
                }
            };
            let own = node.cache.get(key(from + caller), soon(), fallback).await;
            own.map_or_else(|_| (*snapshot.last().unwrap(), true), |entry| (entry.value, false))
        });
    }
    let mut degraded = 0;
    while degraded < CALLERS - config.permits {
        let (value, is_degraded) = asking.join_next().await.unwrap().unwrap();
        assert_eq!((value, is_degraded), (7, true));
        degraded += 1;
    }
    assert_eq!(maker.begun(), config.permits, "no more were ever inside");
    maker.allow(config.permits);
    let own = asking.join_all().await;
    assert!(own.iter().all(|(_, is_degraded)| !is_degraded));
    (own.len(), degraded)
}

#[tokio::test]
async fn for_the_same_user_it_is_made_once() {
    let node = Node::new(patient(), None).await;
    let maker = Maker::new(0);
    let asking = ask_for_one(std::slice::from_ref(&node), 1, &maker).await;
    maker.allow(1);
    assert_eq!(asking.join_all().await, [1; CALLERS]);
    assert_eq!((maker.begun(), node.events("made")), (1, 1));
}

#[tokio::test]
async fn for_the_same_user_two_nodes_make_it_once() {
    let server = Server::start().await;
    let nodes = [Node::new(patient(), Some(&server)).await, Node::new(patient(), Some(&server)).await];
    let maker = Maker::new(0);
    let asking = ask_for_one(&nodes, 1, &maker).await;
    maker.allow(1);
    assert_eq!(asking.join_all().await, [1; CALLERS]);
    assert_eq!(maker.begun(), 1);
    assert_eq!(nodes.iter().map(|node| node.events("made")).sum::<u64>(), 1);
}

#[tokio::test]
async fn for_different_users_the_fallback_takes_a_few_and_the_others_are_shown_the_snapshot() {
    let node = Node::new(patient(), None).await;
    assert_eq!(ask_for_each(&node, 0).await, (6, 994));
}

#[tokio::test]
async fn what_was_refused_is_not_kept() {
    let node = Node::new(patient(), None).await;
    let config = bulkhead::Config { permits: 1, wait: Duration::ZERO, ..Default::default() };
    let bulkhead = Bulkhead::new(&config, &Metrics::default());
    let inside = bulkhead.enter(soon()).await;
    let ask = async || {
        let bulkhead = bulkhead.clone();
        let own = |making: bowline::feed::cache::Making<u64>| async move {
            let _inside = bulkhead.enter(making.deadline).await?;
            Ok::<_, Full>(1)
        };
        node.cache.get(key(1), soon(), own).await.is_ok()
    };
    assert!(!ask().await);
    drop(inside);
    until("it has its own", ask).await;
}
