use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::log::{Action, Command, Committed, Config, Log, Stored};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::wire::{self, ConversationKind, SenderKind};
use bowline_protocol::{ClientId, Code, Failure, LogId, Seq, UserId};
use bowline_testkit::TestDatabase;
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// Longer than anything here takes, so that a test that hangs fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) type Outcome = Result<Stored, Failure>;

/// A node that has nothing but a log.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) log: Log,
    sunk: Arc<Mutex<Vec<Committed>>>,
}

impl Node {
    pub(crate) fn start(database: &TestDatabase) -> Self {
        Self::start_with(database.url(), one_writer())
    }

    pub(crate) fn start_with(url: &str, config: Config) -> Self {
        Self::start_within(8, url, config)
    }

    /// With so many connections at the most.
    pub(crate) fn start_within(max_connections: usize, url: &str, config: Config) -> Self {
        let pool_config = storage::Config { max_connections, ..storage::Config::default() };
        let pool = Pool::new(&url.to_owned().into(), &pool_config).unwrap();
        let sunk = Arc::new(Mutex::new(Vec::new()));
        let sink = sunk.clone();
        let log = Log::start(pool, config, &Metrics::default(), move |committed: &[Committed], _| {
            sink.lock().unwrap().extend_from_slice(committed);
        });
        Self { log, sunk }
    }

    /// Hands the command in at once; the outcome comes later.
    pub(crate) fn give(&self, command: Command, deadline: Deadline) -> oneshot::Receiver<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.log.append(
            command,
            deadline,
            Box::new(move |outcome| {
                let _ = answer.send(outcome);
            }),
        );
        outcome
    }

    pub(crate) fn give_all(&self, commands: impl IntoIterator<Item = Command>) -> Vec<oneshot::Receiver<Outcome>> {
        commands.into_iter().map(|command| self.give(command, Deadline::after(LONG))).collect()
    }

    pub(crate) async fn run(&self, command: Command) -> Outcome {
        self.give(command, Deadline::after(LONG)).await.unwrap()
    }

    /// Everything that the sink got, by log, in the order in which it came.
    pub(crate) fn sunk(&self) -> BTreeMap<LogId, Vec<wire::Entry>> {
        let mut logs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for committed in self.sunk.lock().unwrap().iter() {
            logs.entry(committed.log).or_default().extend(committed.entries.iter().cloned());
        }
        logs
    }

    /// The whole of a short log, as it is now.
    pub(crate) async fn whole(&self, log: LogId) -> Vec<wire::Entry> {
        self.log.read(log, 0, Seq::MAX, Deadline::after(LONG)).await.unwrap().entries
    }
}

pub(crate) fn one_writer() -> Config {
    Config { writers: 1, ..Config::default() }
}

pub(crate) fn command(log: LogId, sender: UserId, action: Action) -> Command {
    Command { log, sender, sender_kind: SenderKind::User, client_id: ClientId::new(), action }
}

pub(crate) fn text(log: LogId, sender: UserId, body: &str) -> Command {
    command(log, sender, Action::Message(wire::Message { body: Some(body.to_owned()), ..Default::default() }))
}

/// Makes users, each with its log.
pub(crate) async fn users<const N: usize>(database: &TestDatabase) -> [UserId; N] {
    let users = [(); N].map(|()| UserId::new());
    let ids: Vec<_> = users.iter().map(|user| user.0).collect();
    database.connect().await.execute("SELECT ensure_users($1)", &[&ids]).await.unwrap();
    users
}

pub(crate) fn create(creator: UserId, kind: ConversationKind, members: &[UserId]) -> Command {
    let action = Action::CreateConversation {
        conversation: LogId::new(),
        kind,
        title: (kind != ConversationKind::Direct).then(|| "Reef knots".to_owned()),
        members: members.to_vec(),
        history_visible: false,
    };
    command(creator.log(), creator, action)
}

/// A group of which the first is the owner.
pub(crate) async fn group(node: &Node, creator: UserId, members: &[UserId]) -> LogId {
    node.run(create(creator, ConversationKind::Group, members)).await.unwrap().conversation.unwrap().0
}

pub(crate) fn codes(outcomes: Vec<Outcome>) -> Vec<Result<Seq, Code>> {
    outcomes.into_iter().map(|outcome| outcome.map(|stored| stored.seq).map_err(|failure| failure.code)).collect()
}

pub(crate) async fn all(outcomes: Vec<oneshot::Receiver<Outcome>>) -> Vec<Outcome> {
    let mut done = Vec::new();
    for outcome in outcomes {
        done.push(outcome.await.unwrap());
    }
    done
}

/// Holds the head of a log from outside, so that a statement which needs it waits.
pub(crate) struct Held {
    client: Client,
}

impl Held {
    pub(crate) async fn take(database: &TestDatabase, log: LogId) -> Self {
        let client = database.connect().await;
        client.batch_execute("BEGIN").await.unwrap();
        client.query("SELECT FROM heads WHERE log_id = $1 FOR UPDATE", &[&log.0]).await.unwrap();
        Self { client }
    }

    /// Until so many backends wait for a lock in this database.
    pub(crate) async fn wait_for_waiters(&self, waiters: i64) {
        waiting(&self.client, waiters).await;
    }

    pub(crate) async fn release(self) {
        self.client.batch_execute("COMMIT").await.unwrap();
    }
}

pub(crate) async fn waiting(client: &Client, waiters: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let until = Deadline::after(LONG);
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < waiters {
        assert!(!until.passed(), "nobody waits for a lock");
        // Within a transaction the view is a snapshot too.
        client.batch_execute("SELECT pg_sleep(0.002), pg_stat_clear_snapshot()").await.unwrap();
    }
}

/// Runs `given` while the node's one writer is held up by a command in `log`, so that all of it waits in the queue and is
/// taken at once.
pub(crate) async fn in_one_batch(
    database: &TestDatabase,
    node: &Node,
    (log, member): (LogId, UserId),
    given: Vec<Command>,
) -> Vec<Outcome> {
    let held = Held::take(database, log).await;
    let plug = node.give(text(log, member, "first"), Deadline::after(LONG));
    held.wait_for_waiters(1).await;
    let outcomes = node.give_all(given);
    held.release().await;
    plug.await.unwrap().unwrap();
    all(outcomes).await
}

/// What must hold in any database, whatever was done to it.
pub(crate) async fn check_dense(database: &TestDatabase) {
    let wrong = database
        .connect()
        .await
        .query(
            "SELECT h.log_id, h.last_seq, count(e.seq), max(e.seq), h.last_message_no, count(*) FILTER (WHERE e.kind = 16)
             FROM heads h LEFT JOIN entries e USING (log_id) GROUP BY h.log_id
             HAVING h.last_seq <> count(e.seq) OR h.last_seq <> coalesce(max(e.seq), 0)
                 OR h.last_message_no <> count(*) FILTER (WHERE e.kind = 16)",
            &[],
        )
        .await
        .unwrap();
    assert!(wrong.is_empty(), "logs whose numbers are not dense: {wrong:?}");
}
