//! The feed: pages at a rate, timed from when each was meant to be asked for, for a population made of real chat; people who do
//! things meanwhile, sessions that are pushed to, and what is done to the servers at given seconds. A page that is empty for one
//! who follows somebody, or that comes later than its budget and the machine's own lateness, fails the run.

mod account;
mod acts;
mod choice;
mod commands;
mod doors;
mod engage;
mod judge;
mod line;
mod live;
mod pages;
mod people;
mod population;
mod result;
mod seeding;
mod tally;
mod trace;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::Outcome;
use crate::http::Http;
use crate::lateness::Lateness;
use crate::options::{Common, duration};
use crate::pacer::Pacer;
use crate::process;
use crate::progress::{self, Progress};
use crate::run::Run;
use crate::timeline::Plot;
use crate::transcript::Transcript;
use acts::Acts;
use choice::{Choice, Spread};
use commands::{Commands, Timed};
use doors::Doors;
use engage::{Done, Engagement};
use live::Live;
use pages::{Pages, Reader};
use people::{People, Who};
use population::Population;
use tally::Tally;
use trace::Trace;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Real chat that the population is made of: JSON lines (or the same gzipped) of {room, at, from, body}
    #[arg(long, value_name = "FILE", default_value = "loadtest/data/irc-ubuntu.jsonl.gz")]
    transcript: PathBuf,
    /// People: the transcript's, cut or repeated to so many
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// Posts of each of them, at most
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    posts_each: u32,
    /// The database holds them already; without it, that is looked up
    #[arg(long)]
    no_seed: bool,
    /// Pages a second in all
    #[arg(short, long, default_value_t = 50.0, value_name = "R")]
    rate: f64,
    /// How long pages are asked for
    #[arg(short, long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How many different people ask
    #[arg(long, default_value_t = 200, value_name = "N")]
    readers: usize,
    /// How often which of them asks
    #[arg(long, value_enum, default_value = "zipf")]
    spread: Spread,
    /// Everybody asks once, so that each page has to be made
    #[arg(long, conflicts_with_all = ["readers", "spread", "deeper"])]
    cold: bool,
    /// The share of pages that go on in the ranking of the reader's page before, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    deeper: f64,
    /// Posts on a page
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u64,
    /// Ask over HTTP instead of over a socket each
    #[arg(long)]
    http: bool,
    /// Connections of HTTP, to each server: for --http, and for what people do meanwhile
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Likes, comments, shares, posts and follows a second meanwhile
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    engage: f64,
    /// Sessions that are pushed the posts of an author who writes one every second
    #[arg(long, default_value_t = 0, value_name = "N")]
    subscribers: usize,
    /// A command of the shell, run at that second of the pages: '10=kill -STOP PID'; may be given several times
    #[arg(long = "at", value_name = "SECONDS=COMMAND")]
    commands: Vec<Timed>,
    /// Servers whose metrics are traced, where these are not those of --url
    #[arg(long, value_name = "URL")]
    metrics: Vec<String>,
    /// Instead of a rate: so many first pages at once, each for another user
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "duration", "readers", "spread", "cold", "deeper", "http", "engage", "subscribers", "commands"])]
    burst: Option<usize>,
    /// All of the burst for the same user
    #[arg(long, requires = "burst")]
    same: bool,
}

const TRACE_EVERY: Duration = Duration::from_millis(250);
/// What is there for some milliseconds is to be seen.
const TRACE_BURST_EVERY: Duration = Duration::from_millis(5);

pub(crate) async fn run(mut args: Args) -> anyhow::Result<Outcome> {
    args.common.check_targets()?;
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate: above 0");
    ensure!(args.engage >= 0.0 && args.engage.is_finite(), "--engage: 0 or more");
    ensure!((0.0..=1.0).contains(&args.deeper), "--deeper: from 0 to 1");
    ensure!(args.readers > 0 && args.burst != Some(0), "--readers and --burst: at least 1");
    match args.burst {
        Some(_) => args.common.refuse_messages("--burst says how many pages")?,
        None => args.duration = args.common.flows_for(args.rate, args.duration),
    }
    args.commands.sort_by_key(|timed| timed.at);
    let last = args.commands.last().map_or(Duration::ZERO, |timed| timed.at);
    ensure!(args.commands.is_empty() || last < args.duration, "--at: before the end of --duration");
    let limit = args.common.timeout;
    timeout(limit, measured(args)).await.context("not done within --timeout")?
}

async fn measured(args: Args) -> anyhow::Result<Outcome> {
    let transcript = Transcript::read(&args.transcript, None, None)?;
    let population = Arc::new(Population::new(&transcript, args.users, args.posts_each));
    drop(transcript);
    let people = People::new(&args.common)?;
    let who: anyhow::Result<Vec<Who>> =
        population.people.iter().enumerate().map(|(n, name)| people.who(&format!("{n} {name}"))).collect();
    let who = Arc::new(who?);
    let mut servers = Vec::new();
    for url in &args.common.urls {
        servers.push(Arc::new(Http::new(url, args.connections.into()).await?));
    }
    let acts = Acts::new(servers.clone());
    let seeded = seeding::seed(&args.common, &acts, &people, (&population, &who), args.no_seed).await?;

    let run = Run::start("feed", &args.common)?;
    let (readers, asking) = readers(&args, &population, &who)?;
    let doors = Doors::open(&args.common, &asking, args.http.then_some(servers)).await?;
    let live = match args.subscribers {
        0 => None,
        subscribers => Some(Live::gather(&args.common, &people, &acts, subscribers).await?),
    };
    let lateness = Lateness::start()?;
    let trace = trace(&args, &run)?;
    let before = process::usage(&args.common.pids)?;

    let start = Instant::now();
    let moments: Vec<Duration> = args.commands.iter().map(|timed| timed.at).collect();
    let tally = Tally::new(start, &moments);
    let pages = Arc::new(Pages::new(doors, readers, args.limit, lateness.watch(), tally));
    draw(&run, &pages, &lateness);
    let commands = Commands::start(&args.commands, start, run.timeline());
    let done = Mutex::default();
    let engagement = Arc::new(Engagement { acts, who, population, pages: Arc::clone(&pages), done });
    let listening = async {
        if let Some(live) = &live {
            live.run(start, args.duration).await;
        }
    };
    let (asked, engaged, ()) = tokio::join!(ask(&args, &pages), engage(&args, engagement), listening);
    let (flowed, pacing_late) = asked?;
    let parts = result::Parts {
        seeded,
        flowed,
        pacing_late,
        engaged: engaged?,
        live: live.map(|live| live.told()),
        usage: before.zip(process::usage(&args.common.pids)?),
        commands: commands.end(&args.commands).await,
        trace: trace.stop(),
        scheduling: lateness.stop(),
    };
    let summary = result::Summary::new(&args, &pages.tally(), parts);
    run.finish(&summary)
}

fn trace(args: &Args, run: &Run) -> anyhow::Result<Trace> {
    let urls = if args.metrics.is_empty() { &args.common.urls } else { &args.metrics };
    let every = if args.burst.is_some() { TRACE_BURST_EVERY } else { TRACE_EVERY };
    Ok(Trace::start(urls.clone(), every, Arc::clone(run.timeline()))?)
}

/// What people did meanwhile, if they are to do something.
async fn engage(args: &Args, engagement: Arc<Engagement>) -> anyhow::Result<Option<Done>> {
    if args.engage == 0.0 {
        return Ok(None);
    }
    let (pacer, turns) = Pacer::new(args.engage, 1, args.duration);
    pacer.run();
    tokio::spawn(Arc::clone(&engagement).run(one(turns), args.common.seed)).await?;
    Ok(Some(engagement.done(|done| done.clone())))
}

/// Who asks, in the order in which they are chosen, and the same as users.
fn readers(args: &Args, population: &Population, who: &[Who]) -> anyhow::Result<(Vec<Reader>, Vec<Who>)> {
    let owed = population.owed();
    let chosen = match args.burst {
        Some(pages) if args.same => {
            let first = choice::draw(who.len(), who.len(), args.common.seed).into_iter().find(|n| owed[*n]);
            vec![first.context("nobody follows anybody")?; pages]
        }
        Some(pages) => {
            ensure!(pages <= who.len(), "--burst {pages}: there are {} --users", who.len());
            choice::draw(who.len(), pages, args.common.seed)
        }
        None if args.cold => choice::draw(who.len(), who.len(), args.common.seed),
        None => choice::draw(who.len(), args.readers, args.common.seed),
    };
    let asking: Vec<Who> = chosen.iter().map(|n| who[*n].clone()).collect();
    let readers = chosen.iter().map(|n| Reader::new(who[*n].clone(), owed[*n])).collect();
    Ok((readers, asking))
}

/// Asks for all pages; how long that took, and the most that this tool was late with one.
async fn ask(args: &Args, pages: &Arc<Pages>) -> anyhow::Result<(Duration, Option<Duration>)> {
    let started = Instant::now();
    if let Some(burst) = args.burst {
        let turn = |n| tokio::spawn(Arc::clone(pages).turn(n, started, false));
        for page in (0..burst).map(turn).collect::<Vec<_>>() {
            page.await?;
        }
        return Ok((started.elapsed(), None));
    }
    let (pacer, turns) = Pacer::new(args.rate, 1, args.duration);
    let late = pacer.run();
    let seed = args.common.seed;
    let choice = if args.cold {
        Choice::once(args.users as usize, seed)
    } else {
        Choice::new(pages.readers(), args.spread, seed)
    };
    let asking = tokio::spawn(Arc::clone(pages).run(one(turns), choice, args.deeper));
    let flowed = watch(pages, asking, args.duration).await?;
    Ok((flowed, late.join().ok()))
}

/// The turns of a pacer that has one who takes them.
fn one(turns: Vec<tokio::sync::mpsc::Receiver<Instant>>) -> tokio::sync::mpsc::Receiver<Instant> {
    turns.into_iter().next().unwrap_or_else(|| tokio::sync::mpsc::channel(1).1)
}

/// Until all is asked and answered; how long that was.
async fn watch(pages: &Arc<Pages>, mut asking: JoinHandle<()>, duration: Duration) -> anyhow::Result<Duration> {
    let mut progress = Progress::new(duration.as_secs().max(1));
    let started = Instant::now();
    let mut tick = tokio::time::interval(progress::EVERY);
    loop {
        tokio::select! {
            asked = &mut asking => {
                asked?;
                break;
            }
            _ = tick.tick() => {
                let s = started.elapsed().as_secs().min(duration.as_secs());
                progress.tell(s, || format!("{} pages", pages.answered()));
            }
        }
    }
    progress.end();
    Ok(started.elapsed())
}

fn draw(run: &Run, pages: &Arc<Pages>, lateness: &Lateness) {
    let (answered, warm, cold, machine) = (Arc::clone(pages), Arc::clone(pages), Arc::clone(pages), lateness.watch());
    run.sampler().watch_rate(Plot::PAGES, "answered", move || answered.answered());
    run.sampler().watch(Plot::LATENCY, "warm p99", move || warm.tally().warm.lately().map(|times| times.p99_ms));
    run.sampler().watch(Plot::LATENCY, "cold p99", move || cold.tally().cold.lately().map(|times| times.p99_ms));
    run.sampler().watch(Plot::LATENCY, "machine, at most", move || machine.lately().map(|times| times.max_ms));
}
