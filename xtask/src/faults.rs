//! Kills what can die, at random moments, while people chat; starts it again; and has every promise checked.
//!
//! The load and the check are `bowline-loadtest faults`: this task starts and kills, and tells it when to settle.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use crate::command::{self, cargo};
use crate::nodes::{Nodes, Place};
use crate::packages;
use crate::postgres::{Cluster, Files};

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// How often something is killed.
    #[arg(long, default_value_t = 50)]
    pub(crate) rounds: u32,
    /// The same seed makes the same choices; by default from the clock, and printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// What is killed.
    #[arg(long, value_enum, default_value_t = Victim::Both)]
    pub(crate) kill: Victim,
    /// Servers over one database.
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: usize,
    /// One server on its embedded database, instead of a PostgreSQL of its own.
    #[arg(long, conflicts_with = "nodes")]
    pub(crate) embedded: bool,
    /// Damages something after the rounds: the check must find it, and this task fails if it does not.
    #[arg(long, value_enum)]
    pub(crate) plant: Option<Plant>,
    /// Optimised builds of server and load.
    #[arg(long)]
    pub(crate) release: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Victim {
    /// A server.
    Server,
    /// PostgreSQL, with all its processes.
    Postgres,
    /// Either, or both at once.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Plant {
    /// One acked message is deleted from the database.
    Stored,
    /// One reader forgets an entry that was delivered.
    Delivered,
}

const DAMAGE: &str = "DELETE FROM entries WHERE (log_id, seq) IN \
    (SELECT log_id, seq FROM entries JOIN heads USING (log_id) WHERE body IS NOT NULL AND seq < last_seq ORDER BY random() LIMIT 1)";

/// The longest that servers and clients may take to be whole again after a kill.
const RECOVERY: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    packages::install()?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--bins", "--package", "bowline", "--package", "bowline-loadtest"]);
    command::run(build.args(if options.release { &["--release"][..] } else { &[] }))?;
    run_built(options)
}

/// What every run of the tests includes: each way of running, and each fault that can be planted.
pub(crate) fn run_a_few() -> anyhow::Result<()> {
    let few =
        Options { rounds: 2, seed: None, kill: Victim::Both, nodes: 2, embedded: false, plant: None, release: false };
    run_built(&Options { rounds: 5, ..few })?;
    run_built(&Options { rounds: 3, embedded: true, ..few })?;
    run_built(&Options { plant: Some(Plant::Stored), ..few })?;
    run_built(&Options { plant: Some(Plant::Delivered), nodes: 1, ..few })
}

fn run_built(options: &Options) -> anyhow::Result<()> {
    let seed = options
        .seed
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_millis() as u64));
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let built = |program| command::built(program, options.release);
    let mut database = if options.embedded { None } else { Some(Cluster::start(Files::OnDisk)?) };
    let nodes = if options.embedded { 1 } else { options.nodes.max(1) };
    let url = database.as_ref().map(Cluster::url);
    let mut nodes = Nodes::start(&built("bowline"), nodes, url.as_deref(), &Place::default())?;
    let mut load = Load::start(&built("bowline-loadtest"), &nodes.urls(), seed, options.plant)?;
    load.expect("ready")?;
    for round in 1..=options.rounds {
        thread::sleep(Duration::from_millis(100 + dice.below(900)));
        let hit = Hit::choose(options, nodes.len(), &mut dice);
        let start = Instant::now();
        hit.strike(&mut nodes, database.as_mut(), &mut dice)?;
        let ready = start.elapsed();
        let settled = load.ask("settle", "settled")?;
        println!("round {round}: {hit}, ready after {} ms; {settled}", ready.as_millis());
    }
    load.ask("rest", "resting")?;
    if options.plant == Some(Plant::Stored) {
        let database = database.as_ref().context("--plant stored needs --nodes, not --embedded")?;
        database.query(DAMAGE)?;
        // What was damaged behind their backs must not be served from memory.
        nodes.restart_all()?;
    }
    let sound = load.finish()?;
    let dense = database.as_ref().map(is_dense).transpose()?.unwrap_or(true);
    nodes.stop()?;
    if let Some(database) = database {
        database.stop()?;
    }
    match (options.plant, sound && dense) {
        (None, true) => println!("faults: {} rounds, every promise held", options.rounds),
        (None, false) => bail!("a promise was broken"),
        (Some(plant), false) => println!("faults: the planted fault ({plant:?}) was found, as it must be"),
        (Some(plant), true) => bail!("the planted fault ({plant:?}) was not found: the check is worth nothing"),
    }
    Ok(())
}

/// Looked at beside the servers: in each log the seqs are 1, 2, 3 …, and the head is the last.
fn is_dense(database: &Cluster) -> anyhow::Result<bool> {
    let broken = database.query(
        "SELECT count(*) FROM heads h LEFT JOIN (SELECT log_id, min(seq), max(seq), count(*) FROM entries GROUP BY 1) e \
         USING (log_id) WHERE h.last_seq <> coalesce(e.max, 0) OR e.count <> e.max OR e.min <> 1",
    )?;
    if broken != "0" {
        println!("{broken} logs have holes in the database");
    }
    Ok(broken == "0")
}

/// What dies in one round.
struct Hit {
    node: Option<usize>,
    postgres: bool,
}

impl Hit {
    fn choose(options: &Options, nodes: usize, dice: &mut Dice) -> Hit {
        let node = dice.below(nodes as u64) as usize;
        match options.kill {
            Victim::Server => Hit { node: Some(node), postgres: false },
            Victim::Postgres => Hit { node: None, postgres: true },
            Victim::Both => match dice.below(3) {
                0 => Hit { node: Some(node), postgres: false },
                1 => Hit { node: None, postgres: true },
                _ => Hit { node: Some(node), postgres: true },
            },
        }
    }

    /// Kills, leaves it so for a moment, and starts again what is dead.
    fn strike(&self, nodes: &mut Nodes, database: Option<&mut Cluster>, dice: &mut Dice) -> anyhow::Result<()> {
        let away = Duration::from_millis(dice.below(400));
        match database {
            Some(database) => {
                if self.postgres {
                    database.kill()?;
                }
                if let Some(node) = self.node {
                    nodes.kill(node)?;
                }
                thread::sleep(away);
                if self.postgres {
                    database.again()?;
                }
            }
            // An embedded server ends with its database, and the database with its server.
            None => {
                if self.postgres {
                    nodes.kill_database(0)?;
                }
                if self.node.is_some() || self.postgres {
                    nodes.kill(0)?;
                }
                thread::sleep(away);
            }
        }
        nodes.start_the_dead()
    }
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.node, self.postgres) {
            (Some(node), true) => write!(f, "killed node {node} and PostgreSQL"),
            (Some(node), false) => write!(f, "killed node {node}"),
            (None, _) => write!(f, "killed PostgreSQL"),
        }
    }
}

/// The process that chats and checks. It is told by lines, and answers by lines.
struct Load {
    process: Child,
    lines: Receiver<String>,
}

impl Load {
    fn start(program: &Path, urls: &[String], seed: u64, plant: Option<Plant>) -> anyhow::Result<Load> {
        let mut command = Command::new(program);
        command.args(["faults", "--seed", &seed.to_string()]);
        command.args(urls.iter().flat_map(|url| ["--url", url]));
        command.args(if plant == Some(Plant::Delivered) { &["--forget-one"][..] } else { &[] });
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the load can't be started")?;
        let output = process.stdout.take().context("no output of the load")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || pass_on(output, &sender));
        Ok(Load { process, lines })
    }

    fn ask(&mut self, word: &str, answer: &str) -> anyhow::Result<String> {
        let input = self.process.stdin.as_mut().context("the load was told to finish")?;
        writeln!(input, "{word}").context("the load has ended")?;
        self.expect(answer)
    }

    /// The rest of the line that begins with `answer`. Other lines are for people.
    fn expect(&mut self, answer: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line =
                line.with_context(|| format!("the load did not say `{answer}` within {} s", RECOVERY.as_secs()))?;
            match line.strip_prefix(answer) {
                Some(rest) => return Ok(rest.trim().to_owned()),
                None => println!("{line}"),
            }
        }
    }

    /// Has everything checked. True: all promises held.
    fn finish(mut self) -> anyhow::Result<bool> {
        let verdict = self.ask("finish", "verdict")?;
        println!("{verdict}");
        Ok(self.process.wait()?.success())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Already ended after `finish`; after a failure it must not go on alone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pass_on(output: ChildStdout, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Small, seeded, and good enough to choose moments (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
