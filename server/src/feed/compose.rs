//! A page of one reader's feed: from the cache or made, within one budget, with the posts as they are now.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bowline_protocol::command::FeedQuery;
use bowline_protocol::wire::{self, FeedSource, entry::Content};
use bowline_protocol::{Code, Failure, LogId, PostId, UserId};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::budget::{Budget, Part};
use super::cache::{self, Cache, Making};
use super::candidate::{Candidate, Sources};
use super::export::Views;
use super::gather::{Gatherer, Unanswered};
use super::page::{Cursors, Edition, Editions, Item, Place};
use super::ranking::{rank, score_of_news};
use super::{Config, postgres};
use crate::deadline::Deadline;
use crate::posts::Posts;
use crate::storage::Pool;
use crate::storage::clickhouse::ClickHouse;
use crate::storage::redis::Redis;
use crate::telemetry::Metrics;

/// Of what is kept in Redis: changes with the bytes of [`Editions`].
const FORMAT: u32 = 2;
/// Posts that are looked at at once behind those that are not shown.
const FURTHER: usize = 100;
/// What stands in for a ranking of nothing.
const UNRANKED: usize = 100;
const RETRY_AFTER_MS: u64 = 1_000;

/// Feeds of all readers. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

/// What feeds are made with.
pub struct Parts {
    pub pool: Pool,
    pub posts: Posts,
    pub clickhouse: Option<ClickHouse>,
    pub redis: Option<Redis>,
    /// Hears of what is shown.
    pub views: Option<Views>,
}

struct Inner {
    config: Config,
    pool: Pool,
    posts: Posts,
    gatherer: Gatherer,
    cache: Cache<Editions>,
    cursors: Cursors,
    views: Option<Views>,
}

/// What is shown, and where the reader goes on.
struct Shown {
    items: Vec<wire::FeedItem>,
    next: Option<Place>,
}

impl Feed {
    /// Reads the secret of cursors by the deadline.
    pub async fn start(parts: Parts, config: &Config, metrics: &Metrics, deadline: Deadline) -> anyhow::Result<Self> {
        let Parts { pool, posts, clickhouse, redis, views } = parts;
        let connection = pool.get(deadline).await?;
        let secret = postgres::secret(&connection, deadline).await?;
        drop(connection);
        let space = format!("feed:{FORMAT}:{}", config.ranking.version);
        let codec = cache::Codec {
            is_whole: Editions::is_whole,
            to_bytes: Editions::to_bytes,
            from_bytes: Editions::from_bytes,
        };
        let counts = cache::Counts::new(metrics);
        let inner = Inner {
            gatherer: Gatherer::new(pool.clone(), clickhouse, config, metrics),
            cache: Cache::new("feed", &space, config.cache.clone(), codec, redis, &counts),
            cursors: Cursors::new(&secret),
            config: config.clone(),
            pool,
            posts,
            views,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A page, by the deadline and within the budget of a page. From the beginning it is empty only if there is no post that
    /// this reader may see.
    ///
    /// # Errors
    /// `cursor_expired` when the ranking of the cursor is no longer kept; `invalid` for a cursor that this reader was not
    /// given; `deadline_exceeded` or `unavailable` when PostgreSQL does not answer.
    pub async fn page(&self, reader: UserId, query: &FeedQuery, deadline: Deadline) -> Result<wire::FeedPage, Failure> {
        let inner = &self.inner;
        let budget = Budget::new(&inner.config.budget, deadline, Instant::now());
        let page = timeout_at(budget.deadline().instant().into(), inner.page(reader, query, &budget)).await;
        let page = page.unwrap_or(Err(Code::DeadlineExceeded.into()))?;
        if let Some(views) = &inner.views {
            page.items.iter().filter_map(|item| seen(item.post.as_ref()?)).for_each(|(post, author)| {
                views.record(reader, post, author);
            });
        }
        Ok(page)
    }
}

impl Feed {
    /// What this node stored in a log: who changes whom he follows or mutes finds it in his next page. Never waits.
    pub fn committed(&self, log: LogId, entries: &[wire::Entry]) {
        let regards = |entry: &wire::Entry| {
            matches!(
                entry.content,
                Some(
                    Content::Followed(_)
                        | Content::Unfollowed(_)
                        | Content::Blocked(_)
                        | Content::Unblocked(_)
                        | Content::UserMuted(_)
                        | Content::UserUnmuted(_)
                )
            )
        };
        if entries.iter().any(regards) {
            self.inner.cache.outdate(log.0);
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(super) fn posts(&self) -> &Posts {
        &self.inner.posts
    }

    /// Where a post that nobody has engaged with yet would stand in a reader's ranking, by when it was made; among what this
    /// node has of it.
    pub(super) async fn places(&self, reader: UserId) -> impl Fn(i64) -> u64 + use<> {
        let kept = self.inner.cache.kept(reader.0).await;
        let weights = self.inner.config.ranking.clone();
        move |created_at_ms| {
            let items = kept.as_ref().map_or(&[][..], |entry| entry.value.current().items());
            let score = score_of_news(created_at_ms, &weights, now_ms()) as f32;
            items.iter().filter(|item| item.score > score).count() as u64 + 1
        }
    }
}

impl Inner {
    async fn page(
        self: &Arc<Self>,
        reader: UserId,
        query: &FeedQuery,
        budget: &Budget,
    ) -> Result<wire::FeedPage, Failure> {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let place = query.cursor.as_deref().map(|cursor| self.cursors.open(reader, cursor)).transpose()?;
        let entry = match place {
            Some(place) => {
                let until = budget.part(Part::Cache, Instant::now()).ok_or(Code::DeadlineExceeded)?;
                let found = self.cache.find(reader.0, until, |editions| editions.contains(place)).await;
                Some(found.ok_or(Code::CursorExpired)?)
            }
            None => self.current(reader, budget).await,
        };
        let Some(entry) = entry else { return self.for_everybody(reader, limit, budget).await };
        let shown = self.show(reader, &entry.value, place, limit, budget.before(&[Part::Encoding])).await?;
        let missing = entry.value.missing(place);
        let items = match shown.items.is_empty() && place.is_none() {
            true => self.newest_page(reader, limit, budget.deadline()).await?,
            false => shown.items,
        };
        let next = shown.next.map(|place| self.cursors.seal(reader, place));
        Ok(wire::FeedPage { items, degraded: sources(missing), next })
    }

    /// The reader's ranking, kept or made; nothing where it can't be made in time.
    async fn current(self: &Arc<Self>, reader: UserId, budget: &Budget) -> Option<Arc<cache::Entry<Editions>>> {
        let until = budget.before(&[Part::Hydration, Part::Encoding]);
        let (inner, parts) = (self.clone(), budget.clone());
        let make = move |making: Making<Editions>| async move { inner.make(reader, making, &parts).await };
        let got = self.cache.get(reader.0, until, make).await;
        got.inspect_err(|miss| tracing::debug!(%miss, "a feed could not be made")).ok()
    }

    async fn make(&self, reader: UserId, making: Making<Editions>, budget: &Budget) -> Result<Editions, Unanswered> {
        let gathered = self.gatherer.gather(reader, &budget.by(making.deadline)).await?;
        let ranking = rank(gathered.candidates, &self.config.ranking, now_ms());
        if ranking.refused > 0 {
            tracing::warn!(refused = ranking.refused, "candidates of a feed have numbers that are not finite");
        }
        let mut edition = Edition::new(making.version, &ranking.posts, gathered.missing);
        if edition.items().is_empty() {
            // Where that fails, the page looks again.
            let newest = self.newest(reader, UNRANKED, budget.deadline()).await.unwrap_or_default();
            edition = Edition::unranked(making.version, &newest, gathered.missing);
        }
        Ok(Editions::new(edition, making.before.as_deref().map(|entry| &entry.value)))
    }

    /// What everybody may be shown, for one whose own ranking can't be had.
    async fn for_everybody(&self, reader: UserId, limit: usize, budget: &Budget) -> Result<wire::FeedPage, Failure> {
        let candidates = self.gatherer.last_trending().into_iter().filter(|candidate| candidate.author != reader);
        let ranking = rank(candidates.collect::<Vec<Candidate>>(), &self.config.ranking, now_ms());
        let edition = Edition::new(0, &ranking.posts, Sources::default());
        let editions = Editions::new(edition, None);
        let mut items = self.show(reader, &editions, None, limit, budget.deadline()).await?.items;
        if items.is_empty() {
            items = self.newest_page(reader, limit, budget.deadline()).await?;
        }
        let all = Sources { followee: true, trending: true, affinity: true };
        Ok(wire::FeedPage { items, degraded: sources(all), next: None })
    }

    /// From the place on, what the reader may see as it is now. Where time runs out, the page is shorter.
    async fn show(
        &self,
        reader: UserId,
        editions: &Editions,
        place: Option<Place>,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Shown, Failure> {
        let rest = editions.rest(place).map_err(|_| Code::CursorExpired)?;
        let (mut items, mut taken) = (Vec::new(), 0);
        while items.len() < limit && taken < rest.items.len() {
            let wanted = if taken == 0 { limit } else { limit.max(FURTHER) };
            let looked_at = &rest.items[taken..rest.items.len().min(taken + wanted)];
            let posts = match self.posts_of(reader, looked_at, deadline).await {
                Err(_) if !items.is_empty() => break,
                posts => posts?,
            };
            let known = posts.len();
            for (item, post) in looked_at.iter().zip(posts) {
                if items.len() == limit {
                    break;
                }
                taken += 1;
                if let Some(post) = post {
                    let place = (rest.offset() + taken) as u64;
                    items.push(wire::FeedItem { post: Some(post), place, reasons: sources(item.reasons) });
                }
            }
            if known < looked_at.len() {
                break;
            }
        }
        Ok(Shown { items, next: rest.after(taken) })
    }

    async fn posts_of(
        &self,
        reader: UserId,
        items: &[Item],
        deadline: Deadline,
    ) -> Result<Vec<Option<wire::Post>>, Failure> {
        let ids: Vec<PostId> = items.iter().map(|item| PostId(item.post)).collect();
        self.posts.in_feed(Some(reader), &ids, deadline).await
    }

    /// The newest that the reader may see as a page, for one who is shown nothing of what was ranked.
    async fn newest_page(
        &self,
        reader: UserId,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<wire::FeedItem>, Failure> {
        let newest = self.newest(reader, limit, deadline).await?;
        let edition = Edition::unranked(0, &newest, Sources::default());
        Ok(self.show(reader, &Editions::new(edition, None), None, limit, deadline).await?.items)
    }

    async fn newest(&self, reader: UserId, most: usize, deadline: Deadline) -> Result<Vec<Uuid>, Failure> {
        let connection = self.pool.get(deadline).await?;
        postgres::newest(&connection, reader, most, deadline).await.map_err(|fault| {
            tracing::warn!(%fault, "the newest posts can't be read");
            Failure::retry_after(fault.read().code, RETRY_AFTER_MS)
        })
    }
}

/// As the wire lists them.
pub(super) fn sources(sources: Sources) -> Vec<i32> {
    let all = [
        (sources.followee, FeedSource::Followee),
        (sources.trending, FeedSource::Trending),
        (sources.affinity, FeedSource::Affinity),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, source)| source.into()).collect()
}

fn seen(post: &wire::Post) -> Option<(Uuid, UserId)> {
    Some((PostId::from_wire(&post.post_id)?.0, UserId::from_wire(&post.author.as_ref()?.user_id)?))
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
