//! What people do while others read: they like, comment, share, post and follow, an open loop of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_client::protocol::ClientId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::acts::{Act, Acts};
use super::pages::Pages;
use super::people::Who;
use super::population::Population;

pub(super) struct Engagement {
    pub(super) acts: Acts,
    pub(super) who: Arc<Vec<Who>>,
    pub(super) population: Arc<Population>,
    pub(super) pages: Arc<Pages>,
    pub(super) done: Mutex<Done>,
}

/// What was stored, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Done {
    pub(super) likes: u64,
    pub(super) comments: u64,
    pub(super) shares: u64,
    pub(super) posts: u64,
    pub(super) follows: u64,
    pub(super) refused: BTreeMap<String, u64>,
    /// Not done at all, since too much was under way.
    pub(super) not_done: u64,
}

/// Of a hundred things that people do; what is left is follows.
const LIKES: u32 = 55;
const COMMENTS: u32 = 15;
const SHARES: u32 = 10;
const POSTS: u32 = 15;
/// Under way at once.
const OPEN: usize = 2_000;

/// A thing to be done, decided by chance.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Like,
    Comment,
    Share,
    Post,
    Follow,
}

impl Engagement {
    /// One thing at each turn; then what is under way.
    pub(super) async fn run(self: Arc<Self>, mut turns: mpsc::Receiver<Instant>, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut open = JoinSet::new();
        while turns.recv().await.is_some() {
            while open.try_join_next().is_some() {}
            if open.len() >= OPEN {
                self.done(|done| done.not_done += 1);
                continue;
            }
            let engagement = Arc::clone(&self);
            let dice = [dice.random(), dice.random(), dice.random()];
            open.spawn(async move { engagement.act(dice).await });
        }
        while open.join_next().await.is_some() {}
    }

    async fn act(&self, [what, who, whom]: [u32; 3]) {
        let one_of = |n: u32, of: usize| n as usize % of.max(1);
        let actor = one_of(who, self.who.len());
        let words =
            self.population.posts.get(one_of(whom, self.population.posts.len())).map_or("again", |post| &post.body);
        // As long as nobody was shown anything, people write.
        let post = self.pages.some_post(whom as usize);
        let plan = Plan::of(what % 100, post.is_some());
        let act = match (plan, post) {
            (Plan::Like, Some(post)) => Act::Like(post),
            (Plan::Comment, Some(post)) => Act::Comment(post, words),
            (Plan::Share, Some(post)) => Act::Share(post),
            (Plan::Follow, _) if one_of(whom, self.who.len()) != actor => {
                Act::Follow(self.who[one_of(whom, self.who.len())].user)
            }
            _ => Act::Post(words),
        };
        let outcome = self.acts.once(&self.who[actor], ClientId::new(), &act).await;
        self.done(|done| match outcome {
            Ok(Ok(_)) => done.count(&act),
            Ok(Err(refused)) => *done.refused.entry(refused.name).or_default() += 1,
            Err(_) => *done.refused.entry("connection lost".to_owned()).or_default() += 1,
        });
    }

    pub(super) fn done<T>(&self, act: impl FnOnce(&mut Done) -> T) -> T {
        act(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Plan {
    fn of(dice: u32, something_to_react_to: bool) -> Self {
        let mut left = dice;
        for (share, plan) in
            [(LIKES, Plan::Like), (COMMENTS, Plan::Comment), (SHARES, Plan::Share), (POSTS, Plan::Post)]
        {
            if left < share {
                return if something_to_react_to { plan } else { Plan::Post };
            }
            left -= share;
        }
        Plan::Follow
    }
}

impl Done {
    pub(super) fn all(&self) -> u64 {
        self.likes + self.comments + self.shares + self.posts + self.follows
    }

    fn count(&mut self, act: &Act<'_>) {
        match act {
            Act::Like(_) => self.likes += 1,
            Act::Comment(..) => self.comments += 1,
            Act::Share(_) => self.shares += 1,
            Act::Post(_) => self.posts += 1,
            Act::Follow(_) => self.follows += 1,
            Act::Profile { .. } => {}
        }
    }
}
