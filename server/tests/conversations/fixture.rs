use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::accounts::Identity;
use bowline::conversations::{Attachment, Conversations, Named, Receipt};
use bowline::deadline::Deadline;
use bowline::limits::Budget;
use bowline::log::{Action, Command, Log};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::command::{Change, Create, Cursor};
use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, ConversationKind, SenderKind, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Code, Failure, LogId, Seq, SessionId, UserId};
use bowline_testkit::TestDatabase;
use tokio::sync::oneshot;

/// A node that has conversations and a log, with a database of its own.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) log: Log,
    pub(crate) conversations: Conversations,
    receipts: Arc<Mutex<Vec<Receipt>>>,
}

/// Longer than anything here takes, so that a test that hangs fails.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// What a client names, with all the room that it wants.
pub(crate) fn named(cursors: &[Cursor]) -> Arc<Named> {
    let mut named = Named::none(&Budget::new(usize::MAX));
    named.add(cursors).unwrap();
    Arc::new(named)
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::on(TestDatabase::create().await, limits)
    }

    pub(crate) fn on(database: TestDatabase, limits: Limits) -> Self {
        let config = storage::Config { max_connections: 8, ..storage::Config::default() };
        let pool = Pool::new(&database.url().to_owned().into(), &config).unwrap();
        let metrics = Metrics::default();
        let log = Log::start(pool.clone(), bowline::log::Config::default(), &metrics, |_, _| {});
        let receipts = Arc::new(Mutex::new(Vec::new()));
        let told = receipts.clone();
        let conversations = Conversations::start(pool, log.clone(), limits, &metrics, move |receipts: &[Receipt]| {
            told.lock().unwrap().extend_from_slice(receipts);
        });
        Self { database, log, conversations, receipts }
    }

    /// Makes users, each with its log.
    pub(crate) async fn users<const N: usize>(&self) -> [UserId; N] {
        let users = [(); N].map(|()| UserId::new());
        let ids: Vec<_> = users.iter().map(|user| user.0).collect();
        self.sql("SELECT ensure_users($1)", &[&ids]).await;
        users
    }

    pub(crate) async fn sql(&self, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) {
        self.database.connect().await.execute(sql, parameters).await.unwrap();
    }

    pub(crate) async fn create(&self, user: UserId, create: Create) -> Result<wire::Conversation, Failure> {
        let (done, outcome) = oneshot::channel();
        self.conversations.create(user, create, soon(), move |result| drop(done.send(result)));
        match outcome.await.unwrap()? {
            Push::Conversation(conversation) => Ok(conversation),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn group(&self, creator: UserId, members: &[UserId]) -> LogId {
        let made = self.create(creator, group(members)).await.unwrap();
        LogId::from_wire(&made.log_id).unwrap()
    }

    pub(crate) async fn change(&self, user: UserId, log: LogId, change: Change) -> Result<Push, Failure> {
        let (done, outcome) = oneshot::channel();
        let client_id = ClientId::new();
        self.conversations.change(user, log, client_id, change, soon(), move |result| drop(done.send(result)));
        outcome.await.unwrap()
    }

    /// The seq of a change that must succeed.
    pub(crate) async fn changed(&self, user: UserId, log: LogId, change: Change) -> Seq {
        match self.change(user, log, change).await.unwrap() {
            Push::Sent(stored) | Push::Stored(stored) => stored.seq,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn say(&self, user: UserId, log: LogId, body: &str) -> Seq {
        self.changed(user, log, Change::Send(message(body))).await
    }

    pub(crate) async fn add(&self, user: UserId, log: LogId, added: UserId) -> Seq {
        self.changed(user, log, Change::Add { users: vec![added] }).await
    }

    pub(crate) async fn leave(&self, user: UserId, log: LogId) -> Seq {
        self.changed(user, log, Change::Leave).await
    }

    pub(crate) async fn revoke(&self, user: UserId, session: Option<SessionId>) {
        let (done, outcome) = oneshot::channel();
        let command = Command {
            log: user.log(),
            sender: user,
            sender_kind: SenderKind::User,
            client_id: ClientId::new(),
            action: Action::RevokeSession(session),
        };
        self.log.append(command, soon(), Box::new(move |result| drop(done.send(result))));
        outcome.await.unwrap().unwrap();
    }

    pub(crate) async fn attach(
        &self,
        user: UserId,
        user_cursor: Option<Cursor>,
        named: Vec<Cursor>,
    ) -> Result<Attachment, Failure> {
        self.conversations.attach(&identity(user), user_cursor, self::named(&named), soon()).await
    }

    /// Where the user's log ends.
    pub(crate) async fn head(&self, log: LogId) -> Seq {
        let row = self.database.connect().await;
        let row = row.query_one("SELECT last_seq FROM heads WHERE log_id = $1", &[&log.0]).await.unwrap();
        row.get::<_, i64>(0) as Seq
    }

    pub(crate) async fn bump_epoch(&self) {
        self.sql("SELECT bump_epoch()", &[]).await;
        // What `app` does once it has dropped all that it kept.
        self.log.adopt_epoch(self.log.current_epoch(soon()).await.unwrap());
    }

    /// Writes what is pending, and gives the receipts that came since the last call.
    pub(crate) async fn receipts(&self) -> Vec<Receipt> {
        self.conversations.close(soon()).await;
        std::mem::take(&mut *self.receipts.lock().unwrap())
    }
}

/// Of a token that was made just now, of a session that nobody has seen.
pub(crate) fn identity(user: UserId) -> Identity {
    Identity { user, session: SessionId::new(), issued_at_ms: now_ms(), expires_at_ms: now_ms() + 60_000 }
}

pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

pub(crate) fn cursor(log: LogId, seq: Seq) -> Cursor {
    Cursor { log, seq, epoch: 1 }
}

pub(crate) fn message(body: &str) -> wire::Message {
    wire::Message { body: Some(body.to_owned()), ..Default::default() }
}

pub(crate) fn group(members: &[UserId]) -> Create {
    Create {
        client_id: ClientId::new(),
        kind: ConversationKind::Group,
        title: Some("Reef knots".to_owned()),
        users: members.to_vec(),
        history_visible: false,
    }
}

pub(crate) fn code<T>(result: Result<T, Failure>) -> Code {
    result.err().expect("a failure").code
}
