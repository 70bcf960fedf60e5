//! Candidates for one reader, from whoever gives them in time.
//!
//! ClickHouse is asked first, where there is one: each source on its own, behind a breaker of its own and one for all. What it does not give
//! comes from PostgreSQL, behind the bulkhead; and what that has no room for from what was last trending, which is kept for
//! all readers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_protocol::UserId;
use tokio::time::timeout_at;

use super::breaker::{self, Breaker, Call};
use super::budget::{Budget, Part};
use super::bulkhead::{Bulkhead, Snapshot};
use super::candidate::{Candidate, FOLLOWEES, Sources};
use super::{Config, clickhouse, postgres};
use crate::deadline::Deadline;
use crate::storage::Pool;
use crate::storage::clickhouse::{ClickHouse, Fault};
use crate::telemetry::Metrics;

/// What is trending is looked for anew after this time.
const TRENDING_FOR: Duration = Duration::from_secs(5);

pub(super) struct Gatherer {
    pool: Pool,
    columns: Option<Columns>,
    bulkhead: Bulkhead,
    trending: Snapshot<Trending>,
    /// Held by the one who looks for what is trending, by his deadline.
    looking: tokio::sync::Mutex<()>,
}

/// ClickHouse, and what keeps it, and each source of it, from being asked in vain.
struct Columns {
    clickhouse: ClickHouse,
    all: Breaker,
    followees: Breaker,
    trending: Breaker,
    affinity: Breaker,
}

/// What is trending for everybody.
struct Trending {
    found: Instant,
    posts: Vec<Candidate>,
}

/// What was found in time.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub candidates: Vec<Candidate>,
    /// Sources that did not give their part, also where a coarser one stood in.
    pub missing: Sources,
}

/// No source gave anything in time: this says nothing about what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no source of the feed answered in time")]
pub(super) struct Unanswered;

/// What each source gave, once it did.
#[derive(Default)]
struct Found {
    follows: Option<Vec<UserId>>,
    followees: Option<Vec<Candidate>>,
    trending: Option<Vec<Candidate>>,
    affinity: Option<Vec<Candidate>>,
}

impl Gatherer {
    pub(super) fn new(pool: Pool, clickhouse: Option<ClickHouse>, config: &Config, metrics: &Metrics) -> Self {
        let columns = clickhouse.map(|clickhouse| {
            let counts = breaker::Counts::new(metrics);
            let breaker = |name| Breaker::new(name, config.budget.candidates, &config.breaker, &counts);
            Columns {
                clickhouse,
                all: breaker("clickhouse"),
                followees: breaker("followees"),
                trending: breaker("trending"),
                affinity: breaker("affinity"),
            }
        });
        Self {
            pool,
            columns,
            bulkhead: Bulkhead::new(&config.fallback, metrics),
            trending: Snapshot::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// By the deadlines of the parts `Candidates` and `Fallback`.
    pub(super) async fn gather(&self, reader: UserId, budget: &Budget) -> Result<Gathered, Unanswered> {
        let mut found = Found::default();
        let mut part = Part::Candidates;
        let mut missing = Sources::default();
        if let (Some(columns), Some(until)) = (&self.columns, budget.part(part, Instant::now())) {
            self.ask_columns(columns, reader, &mut found, until).await;
            missing = found.missing();
            part = Part::Fallback;
        }
        if found.missing() != Sources::default()
            && let Some(until) = budget.part(part, Instant::now())
        {
            self.ask_rows(reader, &mut found, until).await;
        }
        missing = missing.and(found.missing());
        if found.trending.is_none() {
            found.trending = self.trending.last().map(|trending| trending.posts.clone());
        }
        found.gathered(reader, missing)
    }

    /// What is trending for everybody, as it was last seen on this node.
    pub(super) fn last_trending(&self) -> Vec<Candidate> {
        self.trending.last().map(|trending| trending.posts.clone()).unwrap_or_default()
    }

    async fn ask_columns(&self, columns: &Columns, reader: UserId, found: &mut Found, until: Deadline) {
        let Columns { clickhouse, all, followees, trending, affinity } = columns;
        let by_followees = async {
            let follows = self.follows(reader, until).await?;
            // Nothing to ask is no answer: it would hide from the breaker that the others get none.
            let posts = match follows.is_empty() {
                true => Some(Vec::new()),
                false => asked([all, followees], clickhouse::followees(clickhouse, &follows, until)).await,
            };
            Some((follows, posts))
        };
        let (by_followees, trending, affinity) = tokio::join!(
            by_followees,
            self.trending(async || asked([all, trending], clickhouse::trending(clickhouse, until)).await, until),
            asked([all, affinity], clickhouse::affinity(clickhouse, reader, until)),
        );
        (found.follows, found.followees) = by_followees.map_or((None, None), |(follows, posts)| (Some(follows), posts));
        (found.trending, found.affinity) = (trending, affinity);
    }

    /// All that is missing, on one connection.
    async fn ask_rows(&self, reader: UserId, found: &mut Found, until: Deadline) {
        if found.trending.is_none() {
            found.trending = self.recent_trending();
        }
        let Ok(_permit) = self.bulkhead.enter(until).await else { return };
        let Ok(connection) = self.pool.get(until).await else { return };
        if found.follows.is_none() {
            found.follows = said("follows", postgres::follows(&connection, reader, FOLLOWEES, until).await);
        }
        let followees = async {
            let follows = found.follows.as_deref().filter(|_| found.followees.is_none())?;
            said("followees", postgres::followees(&connection, follows, until).await)
        };
        let trending = async {
            let ask = async || said("trending", postgres::trending(&connection, until).await);
            if found.trending.is_none() { self.trending(ask, until).await } else { None }
        };
        let affinity = async {
            let wanted = found.affinity.is_none();
            if wanted { said("affinity", postgres::affinity(&connection, reader, until).await) } else { None }
        };
        let (followees, trending, affinity) = tokio::join!(followees, trending, affinity);
        found.followees = found.followees.take().or(followees);
        found.trending = found.trending.take().or(trending);
        found.affinity = found.affinity.take().or(affinity);
    }

    async fn follows(&self, reader: UserId, until: Deadline) -> Option<Vec<UserId>> {
        let connection = self.pool.get(until).await.ok()?;
        said("follows", postgres::follows(&connection, reader, FOLLOWEES, until).await)
    }

    /// What is trending, found within the last [`TRENDING_FOR`]. Of all readers one looks for it anew; the others make do with
    /// what was found before, or wait for him where nothing was.
    async fn trending(
        &self,
        ask: impl AsyncFnOnce() -> Option<Vec<Candidate>>,
        until: Deadline,
    ) -> Option<Vec<Candidate>> {
        if let Some(posts) = self.recent_trending() {
            return Some(posts);
        }
        let _turn = match (self.looking.try_lock(), self.trending.last()) {
            (Ok(turn), _) => turn,
            (Err(_), Some(before)) => return Some(before.posts.clone()),
            (Err(_), None) => timeout_at(until.instant().into(), self.looking.lock()).await.ok()?,
        };
        if let Some(posts) = self.recent_trending() {
            return Some(posts);
        }
        let posts = ask().await?;
        self.trending.replace(Arc::new(Trending { found: Instant::now(), posts: posts.clone() }));
        Some(posts)
    }

    fn recent_trending(&self) -> Option<Vec<Candidate>> {
        let recent = self.trending.last().filter(|trending| trending.found.elapsed() < TRENDING_FOR);
        recent.map(|trending| trending.posts.clone())
    }
}

impl Found {
    fn missing(&self) -> Sources {
        Sources {
            followee: self.followees.is_none(),
            trending: self.trending.is_none(),
            affinity: self.affinity.is_none(),
        }
    }

    /// With what one source knows and another one does not: whom the reader follows, and how much an author is to him.
    fn gathered(self, reader: UserId, missing: Sources) -> Result<Gathered, Unanswered> {
        let Self { follows, followees, trending, affinity } = self;
        if followees.is_none() && trending.is_none() && affinity.is_none() {
            return Err(Unanswered);
        }
        let follows: std::collections::HashSet<UserId> = follows.into_iter().flatten().collect();
        let mut weights = std::collections::HashMap::<UserId, f64>::new();
        for candidate in affinity.iter().flatten() {
            let weight = weights.entry(candidate.author).or_default();
            *weight = weight.max(candidate.affinity_weight);
        }
        let all = [followees, trending, affinity].into_iter().flatten().flatten();
        let of_others = all.filter(|candidate| candidate.author != reader);
        let candidates = of_others.map(|candidate| Candidate {
            followed: candidate.followed || follows.contains(&candidate.author),
            affinity_weight: candidate.affinity_weight.max(weights.get(&candidate.author).copied().unwrap_or_default()),
            ..candidate
        });
        Ok(Gathered { candidates: candidates.collect(), missing })
    }
}

/// What ClickHouse gives, unless a breaker is open. That we asked for too much at once, or wrongly, says nothing about
/// whether it answers.
async fn asked(
    [all, source]: [&Breaker; 2],
    asking: impl Future<Output = Result<Vec<Candidate>, Fault>>,
) -> Option<Vec<Candidate>> {
    // The source's first: where that one is open, no probe of ClickHouse is spent on it.
    let source = source.start()?;
    let calls = [all.start()?, source];
    match asking.await {
        Ok(candidates) => {
            calls.into_iter().for_each(Call::answered);
            Some(candidates)
        }
        Err(fault) => {
            tracing::debug!(%fault, "a source of the feed");
            match fault {
                Fault::Full => drop(calls),
                Fault::Refused(_) => calls.into_iter().for_each(Call::answered),
                Fault::Late | Fault::Stopped(_) | Fault::Away(_) => calls.into_iter().for_each(Call::failed),
            }
            None
        }
    }
}

fn said<T>(what: &'static str, answer: Result<T, crate::storage::Fault>) -> Option<T> {
    answer.inspect_err(|fault| tracing::debug!(what, %fault, "a source of the feed")).ok()
}
