//! The test command, in the order in which mistakes are cheapest to find. The tests come last, so that the runner's
//! summary is the last thing that is read.

use crate::clickhouse::ClickHouse;
use crate::command::{self, cargo};
use crate::postgres::{Cluster, Files};
use crate::{conformance, faults, packages, step, tidy};

/// Where the tests find their servers.
const DATABASE: &str = "BOWLINE_TEST_DATABASE_URL";
const CLICKHOUSE: &str = "BOWLINE_TEST_CLICKHOUSE_URL";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Format, house rules, clippy.
    Lint,
    /// The Autobahn cases against our side of WebSocket.
    Conformance,
    /// A few rounds of `cargo xtask faults`, and that its check finds what is planted.
    Faults,
    /// All tests of the workspace.
    Tests,
}

pub(crate) fn run(only: Option<Part>) -> anyhow::Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Lint) {
        lint()?;
    }
    if only != Some(Part::Lint) {
        step("packages", packages::install)?;
        // All at once, so that nothing is compiled twice for another choice of features.
        step("build", || command::run(cargo().args(["build", "--quiet", "--workspace", "--all-targets"])))?;
    }
    if wanted(Part::Conformance) {
        step("WebSocket conformance", conformance::run)?;
    }
    if wanted(Part::Faults) {
        step("faults", faults::run_a_few)?;
    }
    if wanted(Part::Tests) {
        tests()?;
    }
    Ok(())
}

/// Against the servers that the environment names, and private ones where it names none.
fn tests() -> anyhow::Result<()> {
    let given = |name: &str| std::env::var(name).ok();
    let (mut postgres, mut clickhouse) = (None, None);
    let database_url = match given(DATABASE) {
        Some(url) => url,
        None => postgres.insert(step("private PostgreSQL", || Cluster::start(Files::InMemory))?).url(),
    };
    let clickhouse_url = match given(CLICKHOUSE) {
        Some(url) => url,
        None => clickhouse.insert(step("private ClickHouse", ClickHouse::start)?).url(),
    };
    let passed = Runner::find().run(&[(DATABASE, &database_url), (CLICKHOUSE, &clickhouse_url)]);
    if let Some(clickhouse) = clickhouse {
        clickhouse.stop()?;
    }
    if let Some(postgres) = postgres {
        postgres.stop()?;
    }
    passed
}

fn lint() -> anyhow::Result<()> {
    step("format", || command::run(cargo().args(["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    step("clippy", || {
        command::run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
    })
}

/// What runs the tests: nextest where it is installed. Without it they run all the same, but slower, and nothing ends
/// one that hangs.
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn find() -> Runner {
        match command::output(cargo().args(["nextest", "--version"])) {
            Ok(_) => Runner::Nextest,
            Err(_) => Runner::Cargo,
        }
    }

    fn run(&self, servers: &[(&str, &String)]) -> anyhow::Result<()> {
        let arguments: &[&str] = match self {
            Runner::Nextest => &["nextest", "run", "--workspace"],
            Runner::Cargo => &["test", "--workspace", "--", "--test-threads=4"],
        };
        command::run(cargo().args(arguments).envs(servers.iter().copied()))
    }
}
