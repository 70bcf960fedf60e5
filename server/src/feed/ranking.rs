//! The order of one reader's feed. Pure: the same candidates in any order, at the same time, give the same ranking.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use bowline_protocol::UserId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::candidate::{Candidate, Sources};
use crate::config::Invalid;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

/// Posts in a ranking; the worst beyond it are left out.
pub const POSTS: usize = 500;
/// Posts in a row by one author, as long as there is another author.
const IN_A_ROW: usize = 2;
const HOUR_MS: f64 = 3_600_000.0;

/// What counts in a ranking, and how much.
///
/// A post scores (`freshness`·F + `engagement`·E + `affinity`·A) · (1 if followed, else `stranger`), where
/// F = 2^(−age / `half_life_h`), E = min(1, ln(1 + n) / ln(1 + `engagement_p99`)) of n = likes + 2·comments + 3·shares, and
/// A = 1 − e^(−w / `affinity_scale`). The author's k-th further post counts
/// ((1 − `repeat_floor`)·`repeat_decay`^k + `repeat_floor`) of that.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Raised whenever another value is changed: rankings made with other weights are then no longer used.
    pub version: u32,
    pub freshness: f64,
    pub engagement: f64,
    pub affinity: f64,
    /// The age at which a post is worth half as fresh.
    pub half_life_h: f64,
    /// The engagement that counts in full: that of the best post of a hundred.
    pub engagement_p99: f64,
    pub affinity_scale: f64,
    /// What is left of a post whose author the reader does not follow.
    pub stranger: f64,
    pub repeat_decay: f64,
    pub repeat_floor: f64,
}

/// A post in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub post: Uuid,
    pub author: UserId,
    pub created_at_ms: i64,
    /// Finite; with the author's earlier posts taken into account.
    pub score: f64,
    /// Every source that proposed it.
    pub reasons: Sources,
}

/// The best of the candidates, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Each post once; at most [`POSTS`].
    pub posts: Vec<Ranked>,
    /// Candidates that were refused because a number in them is not finite.
    pub refused: usize,
}

/// Merges the candidates to one row a post, and orders them by score, then by the newer, then by the greater id.
///
/// Never three in a row by one author while a post by another author is left. A post that several sources propose has the
/// highest of each of their counts. A post from the future is as fresh as one made at `now_ms`.
pub fn rank(candidates: impl IntoIterator<Item = Candidate>, weights: &Weights, now_ms: i64) -> Ranking {
    let (merged, mut refused) = merge(candidates);
    let mut authors: HashMap<UserId, Vec<Scored>> = HashMap::new();
    for candidate in merged.into_values() {
        let score = score(&candidate, weights, now_ms);
        if score.is_finite() {
            authors.entry(candidate.author).or_default().push(Scored { score, candidate });
        } else {
            refused += 1;
        }
    }
    Ranking { posts: Order::new(authors.into_values().collect(), weights).take(POSTS).collect(), refused }
}

/// What a post is worth to a follower of its author before anybody has engaged with it.
pub fn score_of_news(created_at_ms: i64, weights: &Weights, now_ms: i64) -> f64 {
    let age_h = now_ms.saturating_sub(created_at_ms).max(0) as f64 / HOUR_MS;
    weights.freshness * (-age_h / weights.half_life_h).exp2()
}

/// What a post is worth to this reader before the author's other posts are looked at.
fn score(candidate: &Candidate, weights: &Weights, now_ms: i64) -> f64 {
    let age_h = now_ms.saturating_sub(candidate.created_at_ms).max(0) as f64 / HOUR_MS;
    let freshness = (-age_h / weights.half_life_h).exp2();
    let engaged = candidate.likes as f64 + 2.0 * candidate.comments as f64 + 3.0 * candidate.shares as f64;
    let engagement = (engaged.ln_1p() / weights.engagement_p99.ln_1p()).min(1.0);
    let affinity = 1.0 - (-candidate.affinity_weight.max(0.0) / weights.affinity_scale).exp();
    let worth = weights.freshness * freshness + weights.engagement * engagement + weights.affinity * affinity;
    worth * if candidate.followed { 1.0 } else { weights.stranger }
}

/// What counts of an author's post after `earlier` others of his.
fn variety(earlier: usize, weights: &Weights) -> f64 {
    let earlier = i32::try_from(earlier).unwrap_or(i32::MAX);
    (1.0 - weights.repeat_floor) * weights.repeat_decay.powi(earlier) + weights.repeat_floor
}

/// One row a post, and how many candidates were refused. Sources look at different moments, and counts mostly grow.
fn merge(candidates: impl IntoIterator<Item = Candidate>) -> (HashMap<Uuid, Candidate>, usize) {
    let mut merged: HashMap<Uuid, Candidate> = HashMap::new();
    let mut refused = 0;
    for candidate in candidates {
        if !candidate.affinity_weight.is_finite() {
            refused += 1;
            continue;
        }
        match merged.get_mut(&candidate.post) {
            Some(known) => join(known, &candidate),
            None => _ = merged.insert(candidate.post, candidate),
        }
    }
    (merged, refused)
}

/// The same whichever came first, also for sources that contradict each other.
fn join(known: &mut Candidate, other: &Candidate) {
    known.author = known.author.min(other.author);
    known.created_at_ms = known.created_at_ms.min(other.created_at_ms);
    known.likes = known.likes.max(other.likes);
    known.comments = known.comments.max(other.comments);
    known.shares = known.shares.max(other.shares);
    known.affinity_weight = known.affinity_weight.max(other.affinity_weight);
    known.followed |= other.followed;
    known.sources.followee |= other.sources.followee;
    known.sources.trending |= other.sources.trending;
    known.sources.affinity |= other.sources.affinity;
}

struct Scored {
    score: f64,
    candidate: Candidate,
}

/// Gives the posts in their order: always the best of those that the authors have next.
struct Order<'a> {
    weights: &'a Weights,
    /// Of each author, the posts that are left; the best is the last.
    authors: Vec<Vec<Scored>>,
    /// The next post of each author that has one.
    next: BinaryHeap<Next>,
    /// Who came last, and how often in a row.
    run: (usize, usize),
}

impl<'a> Order<'a> {
    fn new(mut authors: Vec<Vec<Scored>>, weights: &'a Weights) -> Self {
        let place = |scored: &Scored| (scored.score, scored.candidate.created_at_ms, scored.candidate.post);
        authors.iter_mut().for_each(|posts| posts.sort_by(|a, b| compare(place(a), place(b))));
        let mut order = Self { weights, next: BinaryHeap::with_capacity(authors.len()), authors, run: (0, 0) };
        (0..order.authors.len()).for_each(|author| order.offer(author, 0));
        order
    }

    /// The author's best post that is left, after `earlier` others of his.
    fn offer(&mut self, author: usize, earlier: usize) {
        if let Some(Scored { score, candidate }) = self.authors[author].pop() {
            self.next.push(Next { score: score * variety(earlier, self.weights), candidate, author, earlier });
        }
    }

    fn choose(&mut self) -> Option<Next> {
        let best = self.next.pop()?;
        let (author, times) = self.run;
        if best.author != author || times < IN_A_ROW {
            return Some(best);
        }
        let other = self.next.pop();
        match other {
            Some(other) => {
                self.next.push(best);
                Some(other)
            }
            None => Some(best),
        }
    }
}

impl Iterator for Order<'_> {
    type Item = Ranked;

    fn next(&mut self) -> Option<Ranked> {
        let Next { score, candidate, author, earlier } = self.choose()?;
        self.run = (author, if self.run.0 == author { self.run.1 + 1 } else { 1 });
        self.offer(author, earlier + 1);
        let Candidate { post, author, created_at_ms, sources, .. } = candidate;
        Some(Ranked { post, author, created_at_ms, score, reasons: sources })
    }
}

struct Next {
    score: f64,
    candidate: Candidate,
    author: usize,
    earlier: usize,
}

impl Next {
    fn place(&self) -> (f64, i64, Uuid) {
        (self.score, self.candidate.created_at_ms, self.candidate.post)
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.place(), other.place())
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

/// The greater stands before the smaller in a feed. Total, since no two posts have the same id.
fn compare(a: (f64, i64, Uuid), b: (f64, i64, Uuid)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            version: 1,
            freshness: 0.30,
            engagement: 0.40,
            affinity: 0.30,
            half_life_h: 4.6,
            engagement_p99: 100.0,
            affinity_scale: 8.0,
            stranger: 0.75,
            repeat_decay: 0.5,
            repeat_floor: 0.25,
        }
    }
}

impl Weights {
    pub fn validate(&self) -> Vec<Invalid> {
        let ranges = [
            ("freshness", self.freshness, 0.0..=1_000.0),
            ("engagement", self.engagement, 0.0..=1_000.0),
            ("affinity", self.affinity, 0.0..=1_000.0),
            ("half_life_h", self.half_life_h, 0.001..=1_000_000.0),
            ("engagement_p99", self.engagement_p99, 1.0..=1e15),
            ("affinity_scale", self.affinity_scale, 0.001..=1_000_000.0),
            ("stranger", self.stranger, 0.0..=1.0),
            ("repeat_decay", self.repeat_decay, 0.0..=1.0),
            ("repeat_floor", self.repeat_floor, 0.0..=1.0),
        ];
        let outside = ranges.into_iter().filter(|(_, value, allowed)| !allowed.contains(value));
        outside
            .map(|(key, value, allowed)| {
                Invalid::new(key, value, format!("a number from {} to {}", allowed.start(), allowed.end()))
            })
            .collect()
    }
}
