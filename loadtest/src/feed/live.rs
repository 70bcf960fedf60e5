//! Sessions that hear of posts as they are written: they follow an author who writes one every second, and now and then ask for a
//! page. A post is due to each of them once: pushed, or shown on a page before it could be pushed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{ClientId, wire};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::account::Account;
use super::acts::{Act, Acts};
use super::line::Line;
use super::people::{People, Who};
use crate::options::Common;
use crate::raw::Target;
use crate::times::{Percentiles, Times};

pub(super) struct Live {
    acts: Acts,
    author: Who,
    subscribers: Vec<Subscriber>,
    board: Arc<Board>,
}

struct Subscriber {
    line: Line,
    account: Arc<Mutex<Account>>,
}

/// What the author has written in this run.
struct Board {
    /// His posts of this run begin with this.
    prefix: String,
    /// When each was meant to be sent, and whether it is stored.
    posts: Mutex<Vec<(Instant, bool)>>,
    times: Times,
    refused: Mutex<BTreeMap<String, u64>>,
}

/// The keys are documented in docs/loadtest.md.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    subscribers: usize,
    posts: usize,
    due: u64,
    pushed: u64,
    by_page: u64,
    pub(super) missing: u64,
    pub(super) repeated: u64,
    more: u64,
    pub(super) sockets_lost: usize,
    refused: BTreeMap<String, u64>,
    send_to_update: Percentiles,
}

const EVERY: Duration = Duration::from_secs(1);
/// A subscription holds from soon after its reply on.
const SOON: Duration = Duration::from_secs(2);
/// A post that was not pushed by then is missing: the change feed has it within 2 s, and pushes to a session are a second apart.
const LATEST: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of each subscriber, over the run.
const PAGES: usize = 2;
const LIMIT: u64 = 50;

impl Live {
    /// Everybody is subscribed when this returns.
    pub(super) async fn gather(
        common: &Common,
        people: &People,
        acts: &Acts,
        subscribers: usize,
    ) -> anyhow::Result<Self> {
        let board = Arc::new(Board {
            prefix: format!("live {} ", Uuid::new_v4().simple()),
            posts: Mutex::default(),
            times: Times::new(),
            refused: Mutex::default(),
        });
        let author = people.who("the author who is heard of")?;
        acts.stored(&author, people.client_id("live author"), &Act::Profile { name: "author", bio: "" }).await?;
        let mut live = Self { acts: acts.clone(), author, subscribers: Vec::new(), board };
        for n in 0..subscribers {
            let who = people.who(&format!("subscriber {n}"))?;
            let target = Target::resolve(common.url(n)).await?;
            live.subscribe(&target, &who, people.client_id(&format!("subscriber {n} follows")), common.connect_timeout)
                .await
                .with_context(|| format!("subscriber {n}"))?;
        }
        sleep(SOON).await;
        Ok(live)
    }

    async fn subscribe(&mut self, target: &Target, who: &Who, id: ClientId, patience: Duration) -> anyhow::Result<()> {
        self.acts.stored(who, id, &Act::Follow(self.author.user)).await?;
        let account = Arc::new(Mutex::new(Account::default()));
        let (board, own) = (Arc::clone(&self.board), Arc::clone(&account));
        let pushed = move |push| {
            if let Push::FeedUpdate(update) = push {
                board.pushed(&mut lock(&own), &update);
            }
        };
        let line = Line::connect(target, who, patience, pushed).await?;
        let subscribed = line.ask(Ask::FeedSubscribe(wire::FeedSubscribe {})).await;
        subscribed.map_err(|refused| anyhow::anyhow!("feed_subscribe: {}", refused.name))?;
        self.subscribers.push(Subscriber { line, account });
        Ok(())
    }

    /// A post every second and the subscribers' pages, from `start` on for so long; then what is due gets its time.
    pub(super) async fn run(&self, start: Instant, duration: Duration) {
        tokio::join!(self.write(start, duration), self.read(start, duration));
        let give_up = Instant::now() + LATEST;
        while !self.everything_is_there() && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
    }

    async fn write(&self, start: Instant, duration: Duration) {
        let mut at = start;
        for n in 0.. {
            if at >= start + duration {
                return;
            }
            sleep_until(at).await;
            lock(&self.board.posts).push((at, false));
            let body = format!("{}{n}", self.board.prefix);
            match self.acts.once(&self.author, ClientId::new(), &Act::Post(&body)).await {
                Ok(Ok(_)) => lock(&self.board.posts)[n].1 = true,
                Ok(Err(refused)) => self.board.refused(&refused.name),
                Err(_) => self.board.refused("connection lost"),
            }
            at += EVERY;
        }
    }

    /// Pages of all subscribers in turn, spread over the middle of the time.
    async fn read(&self, start: Instant, duration: Duration) {
        let turns = (self.subscribers.len() * PAGES).max(1) as u32;
        let (first, step) = (start + duration / 6, duration * 2 / 3 / turns);
        let in_turn = self.subscribers.iter().cycle().take(turns as usize);
        for (n, Subscriber { line, account }) in (0..).zip(in_turn) {
            sleep_until(first + step * n).await;
            match line.ask(Ask::FeedPage(wire::FeedRead { cursor: None, limit: LIMIT })).await {
                Ok((Push::FeedPage(page), at)) => {
                    let shown = self.board.numbers(&page.items);
                    lock(account).page(shown, at);
                }
                Ok(_) => self.board.refused("another reply"),
                Err(refused) => self.board.refused(&refused.name),
            }
        }
    }

    fn everything_is_there(&self) -> bool {
        let stored = self.board.stored();
        self.subscribers.iter().all(|subscriber| lock(&subscriber.account).missing(&stored) == 0)
    }

    pub(super) fn told(&self) -> Told {
        let stored = self.board.stored();
        let sum = |of: &dyn Fn(&Account) -> u64| self.subscribers.iter().map(|one| of(&lock(&one.account))).sum();
        Told {
            subscribers: self.subscribers.len(),
            posts: stored.len(),
            due: (self.subscribers.len() * stored.len()) as u64,
            pushed: sum(&Account::pushed),
            by_page: sum(&|account| account.by_page(&stored)),
            missing: sum(&|account| account.missing(&stored)),
            repeated: sum(&Account::repeated),
            more: sum(&|account| account.more),
            sockets_lost: self.subscribers.iter().filter(|subscriber| subscriber.line.is_closed()).count(),
            refused: lock(&self.board.refused).clone(),
            send_to_update: self.board.times.percentiles(),
        }
    }
}

impl Board {
    fn pushed(&self, account: &mut Account, update: &wire::FeedUpdate) {
        let now = Instant::now();
        account.more += u64::from(update.more);
        for n in self.numbers(&update.items) {
            let sent = lock(&self.posts).get(n).map(|(sent, _)| *sent);
            if let Some(sent) = sent.filter(|_| account.push(n, now)) {
                self.times.record(now.saturating_duration_since(sent));
            }
        }
    }

    /// Which of this run's posts are among these.
    fn numbers(&self, items: &[wire::FeedItem]) -> Vec<usize> {
        let bodies = items.iter().filter_map(|item| item.post.as_ref().map(|post| &post.body));
        bodies.filter_map(|body| body.strip_prefix(&self.prefix)?.parse().ok()).collect()
    }

    fn stored(&self) -> Vec<usize> {
        lock(&self.posts).iter().enumerate().filter(|(_, (_, stored))| *stored).map(|(n, _)| n).collect()
    }

    fn refused(&self, name: &str) {
        *lock(&self.refused).entry(name.to_owned()).or_default() += 1;
    }
}

impl Told {
    pub(super) fn words(&self) -> String {
        format!(
            "{} subscribers, {} posts: {} of {} pushed, {} shown by a page before, {} missing, {} repeated, {} sockets lost",
            self.subscribers,
            self.posts,
            self.pushed,
            self.due,
            self.by_page,
            self.missing,
            self.repeated,
            self.sockets_lost
        )
    }

    pub(super) fn times(&self) -> Percentiles {
        self.send_to_update
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
