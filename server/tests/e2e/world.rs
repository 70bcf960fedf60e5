//! Nodes of the real program over one database.

use std::time::{Duration, Instant};

use bowline_testkit::{Server, TestDatabase};
use serde_json::Value;

use crate::client::Client;
use crate::person::{Person, SECRET};

/// How long a test waits for what it is owed. Far longer than it takes: the bound is for a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One node over this database, with settings of the test's own.
pub(crate) async fn node(database_url: &str, settings: &[(&str, &str)]) -> Server {
    let every = [
        ("BOWLINE_ACCOUNTS_TOKENS_SECRET", SECRET),
        ("BOWLINE_LOGGING_FILTER", "warn"),
        // Tests send as fast as they can; those of the limit set one.
        ("BOWLINE_LIMITS_COMMANDS_PER_S", "0"),
    ];
    Server::start(env!("CARGO_BIN_EXE_bowline"), database_url, &[&every, settings].concat()).await
}

/// A node on a database of its own.
pub(crate) async fn server() -> Server {
    server_with(&[]).await
}

pub(crate) async fn server_with(settings: &[(&str, &str)]) -> Server {
    node(TestDatabase::create().await.url(), settings).await
}

/// Two nodes over one database, which know of each other by the database alone.
pub(crate) async fn two_nodes(settings: &[(&str, &str)]) -> (Server, Server) {
    let database = TestDatabase::create().await;
    tokio::join!(node(database.url(), settings), node(database.url(), settings))
}

/// Two people in a group of theirs, both connected.
pub(crate) async fn pair(node: &Server) -> (Client, Client, String) {
    let (ada, ben) = (Person::new(), Person::new());
    let (mut ada, mut ben) = (ada.join(node).await, ben.join(node).await);
    let log = ada.group(&[&ben]).await;
    ben.member_of(&log).await;
    (ada, ben, log)
}

/// Status and body of a page.
pub(crate) async fn get(url: String) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub(crate) async fn get_json(url: String) -> (u16, Value) {
    let (status, body) = get(url).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Waits until it holds, looking again and again.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a node shows of a metric, all labels together that begin like this.
pub(crate) async fn metric(node: &Server, name: &str) -> u64 {
    let (_, text) = get(node.url("/metrics")).await;
    let of_it = text.lines().filter_map(|line| line.strip_prefix("bowline_")?.strip_prefix(name));
    of_it.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
