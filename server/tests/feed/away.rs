//! Redis is killed, or hangs, while a thousand callers wait: memory and the bulkhead hold.

use std::time::Duration;

use bowline::feed::cache::Config;
use bowline_testkit::Redis as Server;

use crate::fixture::{Maker, Node, looking, patient, until};
use crate::stampede::{CALLERS, ask_for_each, ask_for_one};

/// Both nodes with what `patient` keeps near, over one Redis that `fail` takes away while the first ranking is made.
async fn check(mut server: Server, fail: impl AsyncFnOnce(&mut Server), heal: impl AsyncFnOnce(&mut Server)) {
    let nodes = [Node::hasty(patient(), &server).await, Node::hasty(patient(), &server).await];
    let maker = Maker::new(0);
    let asking = ask_for_one(&nodes, 0, &maker).await;
    fail(&mut server).await;
    maker.allow(CALLERS);
    let given = asking.join_all().await;
    assert!(given.iter().all(|value| [1, 2].contains(value)), "everybody has one");
    assert!(maker.begun() <= 2, "once a node at most");

    for node in &nodes {
        until("it is away", async || !node.redis.as_ref().unwrap().is_up()).await;
        let before = maker.begun();
        let again = ask_for_one(std::slice::from_ref(node), 0, &maker).await.join_all().await;
        assert_eq!((again.len(), maker.begun()), (CALLERS, before), "memory holds");
        assert_eq!(ask_for_each(node, 1).await, (6, 994), "the bulkhead holds");
    }

    heal(&mut server).await;
    for node in &nodes {
        until("it is back", async || node.redis.as_ref().unwrap().is_up()).await;
    }
    let maker = Maker::new(1);
    let user = 1_000_000;
    assert_eq!(nodes[0].get(user, &maker).await.unwrap(), 1);
    assert_eq!(nodes[1].get(user, &maker).await.unwrap(), 1);
    assert_eq!(maker.begun(), 1, "the nodes share again");
}

#[tokio::test]
async fn killed() {
    check(Server::start().await, Server::kill, Server::start_again).await;
}

#[tokio::test]
async fn hung() {
    check(Server::start().await, async |server| server.hang(), async |server| server.go_on()).await;
}

/// Made while Redis was away, it is not replaced by the older one that Redis has when it is back.
#[tokio::test]
async fn what_was_made_without_redis_is_newer_than_what_it_kept() {
    let server = Server::start().await;
    // A turn that Redis gives when it goes on, to one who has long given up, ends by itself.
    let config = Config { soft: Duration::ZERO, turn: Duration::from_millis(300), ..looking() };
    let node = Node::hasty(config, &server).await;
    let maker = Maker::new(1);
    node.get(1, &maker).await.unwrap();
    let other = Node::new(looking(), Some(&server)).await;
    until("it is in Redis", async || other.find(1).await.is_some()).await;
    server.hang();
    until("it is away", async || {
        node.get(1, &Maker::failing()).await.unwrap();
        !node.redis.as_ref().unwrap().is_up()
    })
    .await;
    maker.allow(1);
    until("it is made anew", async || node.get(1, &maker).await.unwrap() == 2).await;
    server.go_on();
    until("Redis is back", async || node.redis.as_ref().unwrap().is_up()).await;
    assert_eq!(node.get(1, &Maker::failing()).await.unwrap(), 2);
    maker.allow(1_000);
    until("the others have one that is newer still", async || {
        node.get(1, &maker).await.unwrap();
        other.get(1, &Maker::failing()).await.unwrap() > 2
    })
    .await;
}
