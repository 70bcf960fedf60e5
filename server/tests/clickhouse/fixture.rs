use std::time::{Duration, Instant};

use bowline::deadline::Deadline;
use bowline::storage::clickhouse::{self, ClickHouse, Config};
use bowline::telemetry::Metrics;
use bowline_testkit::TestDatabase;

/// Longer than anything here takes, so that a test that hangs fails.
pub(crate) const LONG: Duration = Duration::from_secs(25);

pub(crate) fn soon() -> Deadline {
    Deadline::after(LONG)
}

pub(crate) fn connect(url: &str) -> ClickHouse {
    ClickHouse::new(&url.to_owned().into(), &Config::default(), &Metrics::default()).unwrap()
}

/// A database of ClickHouse with the schema of this binary, and one of PostgreSQL.
pub(crate) async fn databases() -> (bowline_testkit::ClickHouse, TestDatabase) {
    let (server, database) = tokio::join!(bowline_testkit::ClickHouse::create(), TestDatabase::create());
    migrate(&server, &database).await;
    (server, database)
}

pub(crate) async fn migrate(server: &bowline_testkit::ClickHouse, database: &TestDatabase) {
    let turn = database.url().to_owned().into();
    let files = clickhouse::migrate::FILES;
    clickhouse::migrate::up(&connect(&server.url()), &turn, files).await.unwrap();
}

/// Waits for a condition; the bound is for a test that fails.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < LONG, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
