use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline::deadline::Deadline;
use bowline::graph::Graph;
use bowline::log::{Log, Stored};
use bowline::posts::{self, Posts};
use bowline::storage::{self, Pool};
use bowline::telemetry::Metrics;
use bowline_protocol::command::{Draft, Page, PeopleChange, PostChange};
use bowline_protocol::wire::{self, PeopleKind};
use bowline_protocol::{ClientId, Code, CommentId, Failure, PostId, UserId};
use bowline_testkit::TestDatabase;
use tokio::sync::oneshot;

/// A node that has posts, people and a log, with a database of its own.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) posts: Posts,
    pub(crate) graph: Graph,
    pool: Pool,
    metrics: Metrics,
}

/// Longer than anything here takes, so that a test that hangs fails.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::over(TestDatabase::create().await).await
    }

    /// Another node over the same database.
    pub(crate) async fn beside(&self) -> Self {
        Self::over(self.database.clone()).await
    }

    async fn over(database: TestDatabase) -> Self {
        let config = storage::Config { max_connections: 8, ..storage::Config::default() };
        let pool = Pool::new(&database.url().to_owned().into(), &config).unwrap();
        let hears = Arc::<OnceLock<Posts>>::default();
        let (heard, metrics) = (hears.clone(), Metrics::default());
        let log = Log::start(pool.clone(), bowline::log::Config::default(), &metrics, move |committed, _| {
            let posts = heard.get().unwrap();
            committed.iter().for_each(|one| posts.committed(one.log, &one.entries));
        });
        let posts = Posts::start(pool.clone(), log.clone(), &posts::Config::default(), &metrics);
        hears.get_or_init(|| posts.clone());
        Self { database, posts, graph: Graph::new(pool.clone(), log), pool, metrics }
    }

    /// Sent to the database so far.
    pub(crate) fn statements(&self) -> u64 {
        self.pool.statements()
    }

    /// How often something happened to what is kept of posts (or of what readers have to do with them).
    pub(crate) fn near(&self, kind: &str, event: &str) -> u64 {
        let line = format!("bowline_posts_near_total{{kind=\"{kind}\",event=\"{event}\"}} ");
        self.metrics.text().lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse().unwrap()
    }

    /// Makes users, each with its log.
    pub(crate) async fn users<const N: usize>(&self) -> [UserId; N] {
        let users = [(); N].map(|()| UserId::new());
        let ids: Vec<_> = users.iter().map(|user| user.0).collect();
        self.database.connect().await.execute("SELECT ensure_users($1)", &[&ids]).await.unwrap();
        users
    }

    pub(crate) async fn change(&self, user: UserId, change: PostChange) -> Result<Stored, Failure> {
        let (done, outcome) = oneshot::channel();
        self.posts.change(user, ClientId::new(), change, soon(), move |result| drop(done.send(result)));
        outcome.await.unwrap()
    }

    pub(crate) async fn people(&self, user: UserId, change: PeopleChange) -> Stored {
        let (done, outcome) = oneshot::channel();
        self.graph.change(user, ClientId::new(), change, soon(), move |result| drop(done.send(result)));
        outcome.await.unwrap().unwrap()
    }

    pub(crate) async fn post(&self, author: UserId, body: &str) -> PostId {
        let draft = Draft { body: body.to_owned(), attachments: Vec::new(), attrs: None };
        PostId(self.change(author, PostChange::Create(draft)).await.unwrap().made.unwrap())
    }

    pub(crate) async fn comment(&self, user: UserId, post: PostId, body: &str) -> CommentId {
        let comment = PostChange::Comment { post, body: body.to_owned() };
        CommentId(self.change(user, comment).await.unwrap().made.unwrap())
    }

    pub(crate) async fn by(
        &self,
        reader: UserId,
        author: UserId,
        limit: u64,
        after: Option<&wire::Post>,
    ) -> Result<wire::Posts, Code> {
        let after = after.map(|post| (post.created_at_ms, PostId::from_wire(&post.post_id).unwrap()));
        self.posts.by(reader, author, Page { limit, after }, soon()).await.map_err(|failure| failure.code)
    }

    /// The bodies under a post, newest first, read in pages of this length.
    pub(crate) async fn said_under(&self, reader: UserId, post: PostId, limit: u64) -> Result<Vec<String>, Code> {
        let (mut said, mut after) = (Vec::new(), None);
        loop {
            let page = self.posts.comments(reader, post, Page { limit, after }, soon()).await;
            let page = page.map_err(|failure| failure.code)?;
            let last = page.items.last().map(|c| (c.created_at_ms, CommentId::from_wire(&c.comment_id).unwrap()));
            assert!(page.items.len() as u64 <= limit && (last.is_some() || !page.more), "{page:?}");
            said.extend(page.items.into_iter().map(|comment| comment.body));
            after = last;
            if !page.more {
                return Ok(said);
            }
        }
    }

    /// Who is on a list, newest first, read in pages of this length.
    pub(crate) async fn listed(
        &self,
        reader: UserId,
        kind: PeopleKind,
        of: UserId,
        limit: u64,
    ) -> Result<Vec<UserId>, Code> {
        let (mut people, mut after) = (Vec::new(), None);
        loop {
            let page = self.graph.people(reader, kind, of, Page { limit, after }, soon()).await;
            let page = page.map_err(|failure| failure.code)?;
            let items: Vec<_> = page.items.iter().map(|listed| (listed.since_ms, id(listed.person.as_ref()))).collect();
            after = items.last().copied();
            people.extend(items.into_iter().map(|(_, user)| user));
            if !page.more {
                return Ok(people);
            }
        }
    }
}

pub(crate) fn id(person: Option<&wire::Person>) -> UserId {
    UserId::from_wire(&person.unwrap().user_id).unwrap()
}
