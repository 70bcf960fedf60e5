//! What a contributor runs: `cargo xtask --help`.

mod bed;
mod bench_hub;
mod check;
mod clickhouse;
mod command;
mod conformance;
mod faults;
mod kept;
mod nodes;
mod packages;
mod pod;
mod postgres;
mod scale;
mod squeeze;
mod tidy;
mod up;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What a contributor runs.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that must pass: lints, house rules, the WebSocket conformance cases, and all tests against a private
    /// PostgreSQL. Installs what Debian needs for it, and stops what it started.
    Test {
        /// Only this part, after another.
        #[arg(long, value_enum)]
        only: Option<check::Part>,
    },
    /// PostgreSQL, Redis and ClickHouse on this machine alone, until `down`: `eval "$(cargo xtask up)"`. Their data stays.
    Up(up::Options),
    /// Ends what `up` started.
    Down(up::DownOptions),
    /// Kills servers and PostgreSQL at random moments under load, and checks that every promise held.
    Faults(faults::Options),
    /// Holds the hub against a bare writer of ready-made frames, in alternating rounds: ephemeral and durable messages.
    BenchHub(bench_hub::Options),
    /// A server in a memory cgroup with a limit, as a pod has: sockets that wait, then all of them cut and back at once.
    Pod(squeeze::Options),
    /// As many sockets as asked for, over as many servers as that takes.
    Scale(scale::Options),
    /// The rules of the house that no compiler knows.
    Tidy,
    /// Writes anew what is made from the code: the bytes of the golden vectors, and the examples and tables of the
    /// documentation.
    Bless,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test { only } => check::run(only),
        Task::Up(options) => up::up(&options),
        Task::Down(options) => up::down(&options),
        Task::Faults(options) => faults::run(&options),
        Task::BenchHub(options) => bench_hub::run(&options),
        Task::Pod(options) => squeeze::run(&options),
        Task::Scale(options) => scale::run(&options),
        Task::Tidy => tidy::run(),
        Task::Bless => command::run(
            command::cargo().args(["test", "-p", "bowline-protocol", "--test", "contract"]).env("BOWLINE_BLESS", "1"),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Says what begins, and how long it took.
fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("== {name}");
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "passed" } else { "FAILED" };
    println!("== {name} {outcome} after {:.1} s", start.elapsed().as_secs_f64());
    result.with_context(|| name.to_owned())
}
