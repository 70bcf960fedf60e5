//! Redis away, hung and back: nobody waits for it, and it is found again.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "storage_support/fixture.rs"]
mod fixture;

use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::storage::redis::{Config, Fault, Redis};
use bowline::telemetry::Metrics;
use bowline_testkit::Redis as Server;
use secrecy::SecretString;

/// A command has minutes here, so that only what the test does to Redis ends it.
async fn open(url: &str, metrics: &Metrics) -> Redis {
    let config =
        Config { url: Some(SecretString::from(url)), command_timeout: Duration::from_secs(60), ..Config::default() };
    Redis::open(&config, metrics).await.unwrap().unwrap()
}

/// With the timeout of production.
async fn impatient(url: &str, in_flight: usize) -> Redis {
    let config = Config { url: Some(SecretString::from(url)), in_flight, ..Config::default() };
    Redis::open(&config, &Metrics::default()).await.unwrap().unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

async fn ping(redis: &Redis) -> Result<String, Fault> {
    redis.run(&redis::cmd("PING"), soon()).await
}

#[tokio::test]
async fn without_a_url_there_is_none() {
    assert!(Redis::open(&Config::default(), &Metrics::default()).await.unwrap().is_none());
}

#[tokio::test]
async fn killed_it_is_away_at_once_and_back_when_it_answers() {
    let mut server = Server::start().await;
    let metrics = Metrics::default();
    let redis = open(&server.url(), &metrics).await;
    assert_eq!(ping(&redis).await.unwrap(), "PONG");
    assert!(metrics.text().contains("bowline_redis_up 1\n"));
    server.kill().await;
    fixture::until("it is away", async || matches!(ping(&redis).await, Err(Fault::Away))).await;
    assert!(metrics.text().contains("bowline_redis_up 0\n"));
    server.start_again().await;
    fixture::until("it is back", async || ping(&redis).await.is_ok()).await;
    assert!(metrics.text().contains("bowline_redis_up 1\n"));
}

#[tokio::test]
async fn hung_it_is_away_after_three_commands() {
    let server = Server::start().await;
    let redis = impatient(&server.url(), 1_024).await;
    fixture::until("it answers", async || ping(&redis).await.is_ok()).await;
    server.hang();
    fixture::until("it is away", async || matches!(ping(&redis).await, Err(Fault::Away))).await;
    server.go_on();
    fixture::until("it is back", async || ping(&redis).await.is_ok()).await;
}

#[tokio::test]
async fn one_that_is_not_there_at_the_start_is_found_later() {
    let mut server = Server::start().await;
    server.kill().await;
    let redis = open(&server.url(), &Metrics::default()).await;
    assert!(matches!(ping(&redis).await, Err(Fault::Away)));
    server.start_again().await;
    fixture::until("it is there", async || ping(&redis).await.is_ok()).await;
}

#[tokio::test]
async fn one_that_lets_nobody_in_is_tried_again() {
    let server = Server::start().await;
    let admin = open(&server.url(), &Metrics::default()).await;
    let set = async |password: &str| {
        let command = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).take();
        admin.run::<()>(&command, soon()).await.unwrap();
    };
    set("secret").await;
    let redis = open(&server.url(), &Metrics::default()).await;
    assert!(matches!(ping(&redis).await, Err(Fault::Away)));
    set("").await;
    fixture::until("it lets us in", async || ping(&redis).await.is_ok()).await;
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    let server = Server::start().await;
    let redis = open(&server.url(), &Metrics::default()).await;
    for _ in 0..10 {
        let refused = redis.run::<()>(&redis::cmd("NONSENSE"), soon()).await;
        assert!(matches!(refused, Err(Fault::Refused(_))));
    }
    assert!(redis.is_up());
}

#[tokio::test]
async fn commands_under_way_are_bounded_and_use_one_connection() {
    let server = Server::start().await;
    let config = Config {
        url: Some(SecretString::from(server.url())),
        command_timeout: Duration::from_secs(60),
        in_flight: 100,
    };
    let redis = Redis::open(&config, &Metrics::default()).await.unwrap().unwrap();
    server.hang();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..130 {
        let redis = redis.clone();
        running.spawn(async move { ping(&redis).await });
    }
    for _ in 0..30 {
        assert!(matches!(running.join_next().await.unwrap().unwrap(), Err(Fault::Full)));
    }
    server.go_on();
    assert!(running.join_all().await.iter().all(Result::is_ok));
    let clients: String = redis.run(redis::cmd("CLIENT").arg("LIST"), soon()).await.unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
}

#[tokio::test]
async fn a_deadline_that_is_near_says_nothing_about_redis() {
    let server = Server::start().await;
    let redis = open(&server.url(), &Metrics::default()).await;
    server.hang();
    for _ in 0..10 {
        let late = redis.run::<()>(&redis::cmd("PING"), Deadline::after(Duration::from_millis(1))).await;
        assert!(matches!(late, Err(Fault::Late)));
    }
    assert!(redis.is_up());
    server.go_on();
    assert_eq!(ping(&redis).await.unwrap(), "PONG");
}

#[test]
fn a_url_that_cannot_work_is_refused_without_being_repeated() {
    for url in ["rediss://root:hunter2@cache", "http://hunter2", "hunter2", "redis://"] {
        let config = Config { url: Some(SecretString::from(url)), ..Config::default() };
        let found = config.validate();
        assert_eq!(found.len(), 1, "{url}");
        assert!(found[0].allowed.contains("redis://") && !format!("{found:?}").contains("hunter2"), "{found:?}");
    }
}
