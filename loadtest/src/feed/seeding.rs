//! Puts a population into the database: as many changes under way as there are connections, each under an id that is the same
//! whenever it is done, so that doing all of it again changes nothing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::acts::{Act, Acts};
use super::people::{People, Who};
use super::population::Population;
use crate::progress::{self, Progress};

/// What was put there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seeded {
    people: usize,
    posts: usize,
    follows: usize,
    likes: usize,
    comments: usize,
    /// Absent: it was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_s: Option<f64>,
}

struct Seeding {
    acts: Acts,
    people: People,
    population: Arc<Population>,
    who: Arc<Vec<Who>>,
    /// The server's id of each post, once it has one.
    posts: Vec<OnceLock<Uuid>>,
    done: AtomicU64,
}

/// What may be done at once, each after all before it: nobody can be followed before he was seen, nor a post liked before
/// it is there.
#[derive(Clone, Copy)]
enum Stage {
    People,
    Posts,
    Follows,
    Reactions,
}

const STAGES: [Stage; 4] = [Stage::People, Stage::Posts, Stage::Follows, Stage::Reactions];

/// Leaves a mark when all of it is there, and does nothing where that is found. `known`: it is there without a look.
pub(super) async fn seed(
    acts: &Acts,
    people: &People,
    population: &Arc<Population>,
    who: &Arc<Vec<Who>>,
    (workers, known): (usize, bool),
) -> anyhow::Result<Seeded> {
    let likes = population.reactions.iter().filter(|reaction| reaction.comment.is_none()).count();
    let seeded = |took: Option<Duration>| Seeded {
        people: population.people.len(),
        posts: population.posts.len(),
        follows: population.follows.len(),
        likes,
        comments: population.reactions.len() - likes,
        took_s: took.map(|took| took.as_secs_f64()),
    };
    let first = who.first().context("nobody to seed")?;
    let mark = mark(population);
    if known || acts.profile(first).await?.is_some_and(|profile| profile.bio == mark) {
        return Ok(seeded(None));
    }
    let started = Instant::now();
    let seeding = Arc::new(Seeding {
        acts: acts.clone(),
        people: people.clone(),
        population: Arc::clone(population),
        who: Arc::clone(who),
        posts: population.posts.iter().map(|_| OnceLock::new()).collect(),
        done: AtomicU64::new(0),
    });
    let mut progress = Progress::new(STAGES.iter().map(|stage| seeding.size(*stage) as u64).sum());
    for stage in STAGES {
        seeding.run(stage, workers, &mut progress).await?;
    }
    progress.end();
    let finished = Act::Profile { name: &population.people[0], bio: &mark };
    acts.stored(first, seeding.people.client_id(&mark), &finished).await?;
    Ok(seeded(Some(started.elapsed())))
}

/// Another one for everything else than exactly this.
fn mark(population: &Population) -> String {
    let mut hasher = DefaultHasher::new();
    population.hash(&mut hasher);
    format!("the population {:016x} is whole", hasher.finish())
}

impl Seeding {
    async fn run(self: &Arc<Self>, stage: Stage, workers: usize, progress: &mut Progress) -> anyhow::Result<()> {
        let (next, size) = (Arc::new(AtomicUsize::new(0)), self.size(stage));
        let mut working = JoinSet::new();
        for _ in 0..workers {
            let (seeding, next) = (Arc::clone(self), Arc::clone(&next));
            working.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= size {
                        return anyhow::Ok(());
                    }
                    seeding.act(stage, n).await.context("seeding")?;
                    seeding.done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut tick = tokio::time::interval(progress::EVERY);
        loop {
            tokio::select! {
                worked = working.join_next() => match worked {
                    None => return Ok(()),
                    Some(worked) => worked??,
                },
                _ = tick.tick() => {
                    let done = self.done.load(Ordering::Relaxed);
                    progress.tell(done, || format!("{done} changes seeded"));
                }
            }
        }
    }

    fn size(&self, stage: Stage) -> usize {
        match stage {
            Stage::People => self.population.people.len(),
            Stage::Posts => self.population.posts.len(),
            Stage::Follows => self.population.follows.len(),
            Stage::Reactions => self.population.reactions.len(),
        }
    }

    async fn act(&self, stage: Stage, n: usize) -> anyhow::Result<()> {
        let population = &self.population;
        let (actor, what, act) = match stage {
            Stage::People => (n as u32, "name".to_owned(), Act::Profile { name: &population.people[n], bio: "" }),
            Stage::Posts => {
                let post = &population.posts[n];
                (post.author, format!("post {}", post.number), Act::Post(&post.body))
            }
            Stage::Follows => {
                let follow = population.follows[n];
                (follow.who, format!("follow {}", follow.whom), Act::Follow(self.who[follow.whom as usize].user))
            }
            Stage::Reactions => {
                let reaction = &population.reactions[n];
                let post = *self.posts[reaction.post as usize].get().context("a post without an id")?;
                match &reaction.comment {
                    None => (reaction.who, format!("like {}", reaction.post), Act::Like(post)),
                    Some(body) => (reaction.who, format!("comment {n}"), Act::Comment(post, body)),
                }
            }
        };
        let id = self.people.client_id(&format!("{actor} {what}"));
        let stored = self.acts.stored(&self.who[actor as usize], id, &act).await?;
        if matches!(stage, Stage::Posts) {
            let made = stored.made_id.and_then(|id| Uuid::from_slice(&id).ok()).context("a post without an id")?;
            let _ = self.posts[n].set(made);
        }
        Ok(())
    }
}

impl Seeded {
    pub(super) fn words(&self) -> String {
        let Self { people, posts, follows, likes, comments, took_s } = self;
        let how = took_s.map_or("there already".to_owned(), |s| format!("seeded in {s:.1} s"));
        format!("{people} people, {posts} posts, {follows} follows, {likes} likes, {comments} comments; {how}")
    }
}
