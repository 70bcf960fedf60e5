//! Puts a population into the database: each person on a socket of his own for as long as he has something to do, so many at once.
//! Every change has an id that is the same whenever it is done, so that doing all of it again changes nothing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::acts::{Act, Acts, stored_on};
use super::line::Line;
use super::people::{People, Who};
use super::population::Population;
use crate::options::Common;
use crate::progress::{self, Progress};
use crate::raw::Target;

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
    targets: Vec<Target>,
    patience: Duration,
    people: People,
    population: Arc<Population>,
    who: Arc<Vec<Who>>,
    /// The server's id of each post, once it has one.
    posts: Vec<OnceLock<Uuid>>,
    done: AtomicU64,
}

/// Each after all of the one before: nobody can be followed before he was seen, nor a post liked before it is there.
#[derive(Clone, Copy)]
enum Stage {
    /// Names and posts.
    Themselves,
    /// Follows, likes and comments.
    Others,
}

/// People at once: a server reads the requests of 128 connections of one address.
const AT_ONCE: usize = 100;

/// Leaves a mark when all of it is there, and does nothing where that is found. `known`: it is there without a look.
pub(super) async fn seed(
    common: &Common,
    acts: &Acts,
    people: &People,
    (population, who): (&Arc<Population>, &Arc<Vec<Who>>),
    known: bool,
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
    let mut targets = Vec::new();
    for url in &common.urls {
        targets.push(Target::resolve(url).await?);
    }
    let seeding = Arc::new(Seeding {
        targets,
        patience: common.connect_timeout,
        people: people.clone(),
        population: Arc::clone(population),
        who: Arc::clone(who),
        posts: population.posts.iter().map(|_| OnceLock::new()).collect(),
        done: AtomicU64::new(0),
    });
    let changes = who.len() + population.posts.len() + population.follows.len() + population.reactions.len();
    let mut progress = Progress::new(changes as u64);
    for stage in [Stage::Themselves, Stage::Others] {
        seeding.run(stage, &mut progress).await?;
    }
    progress.end();
    let finished = Act::Profile { name: &population.people[0], bio: &mark };
    acts.stored(first, people.client_id(&mark), &finished).await?;
    Ok(seeded(Some(started.elapsed())))
}

/// Another one for everything else than exactly this.
fn mark(population: &Population) -> String {
    let mut hasher = DefaultHasher::new();
    population.hash(&mut hasher);
    format!("the population {:016x} is whole", hasher.finish())
}

impl Seeding {
    async fn run(self: &Arc<Self>, stage: Stage, progress: &mut Progress) -> anyhow::Result<()> {
        let (next, todo) = (Arc::new(AtomicUsize::new(0)), Arc::new(self.todo(stage)));
        let mut working = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (seeding, next, todo) = (Arc::clone(self), Arc::clone(&next), Arc::clone(&todo));
            working.spawn(async move {
                while let Some((person, places)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    seeding.act(stage, *person, places).await.context("seeding")?;
                }
                anyhow::Ok(())
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

    /// Who has something to do in a stage, and the places of what: of his posts, or of his follows and then of his reactions.
    fn todo(&self, stage: Stage) -> Vec<(usize, Vec<usize>)> {
        let Population { people, posts, follows, reactions } = &*self.population;
        let mut todo: Vec<(usize, Vec<usize>)> = (0..people.len()).map(|person| (person, Vec::new())).collect();
        match stage {
            Stage::Themselves => {
                posts.iter().enumerate().for_each(|(place, post)| todo[post.author as usize].1.push(place));
            }
            Stage::Others => {
                let actors = follows.iter().map(|follow| follow.who).chain(reactions.iter().map(|one| one.who));
                actors.enumerate().for_each(|(place, who)| todo[who as usize].1.push(place));
                todo.retain(|(_, places)| !places.is_empty());
            }
        }
        todo
    }

    async fn act(&self, stage: Stage, person: usize, places: &[usize]) -> anyhow::Result<()> {
        let target = &self.targets[person % self.targets.len()];
        let line = Line::connect(target, &self.who[person], self.patience, |_| {}).await?;
        if matches!(stage, Stage::Themselves) {
            let name = Act::Profile { name: &self.population.people[person], bio: "" };
            self.store(&line, person, "name", &name).await?;
        }
        for place in places {
            match stage {
                Stage::Themselves => {
                    let post = &self.population.posts[*place];
                    let what = format!("post {} {}", post.number, post.body);
                    let made = self.store(&line, person, &what, &Act::Post(&post.body)).await?;
                    let _ = self.posts[*place].set(made.context("a post without an id")?);
                }
                Stage::Others => self.regard(&line, person, *place).await?,
            }
        }
        Ok(())
    }

    /// What one does about others: the n-th of all follows and then of all reactions. What it is called does not depend on how
    /// many people there are, so that a larger population of the same seed grows out of a smaller one.
    async fn regard(&self, line: &Line, person: usize, n: usize) -> anyhow::Result<()> {
        let Population { follows, reactions, posts, .. } = &*self.population;
        if let Some(follow) = follows.get(n) {
            let act = Act::Follow(self.who[follow.whom as usize].user);
            self.store(line, person, &format!("follow {}", follow.whom), &act).await?;
            return Ok(());
        }
        let reaction = &reactions[n - follows.len()];
        let id = *self.posts[reaction.post as usize].get().context("a post without an id")?;
        let post = &posts[reaction.post as usize];
        let about = format!("{} {} {}", post.author, post.number, post.body);
        match &reaction.comment {
            None => self.store(line, person, &format!("like {about}"), &Act::Like(id)).await?,
            Some(words) => {
                self.store(line, person, &format!("comment {about} {words}"), &Act::Comment(id, words)).await?
            }
        };
        Ok(())
    }

    /// What it made, if it made something.
    async fn store(&self, line: &Line, person: usize, what: &str, act: &Act<'_>) -> anyhow::Result<Option<Uuid>> {
        let id = self.people.client_id(&format!("{person} {what}"));
        let stored = stored_on(line, id, act).await?;
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(stored.made_id.and_then(|id| Uuid::from_slice(&id).ok()))
    }
}

impl Seeded {
    pub(super) fn words(&self) -> String {
        let Self { people, posts, follows, likes, comments, took_s } = self;
        let how = took_s.map_or("there already".to_owned(), |s| format!("seeded in {s:.1} s"));
        format!("{people} people, {posts} posts, {follows} follows, {likes} likes, {comments} comments; {how}")
    }
}
