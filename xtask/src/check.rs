//! The test command, in the order in which mistakes are cheapest to find. The tests come last, so that the runner's
//! summary is the last thing that is read.

use anyhow::bail;

use crate::command::{self, cargo};
use crate::postgres::{Cluster, Files};
use crate::{packages, step, tidy};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Format, house rules, clippy.
    Lint,
    /// All tests of the workspace.
    Tests,
}

pub(crate) fn run(only: Option<Part>) -> anyhow::Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Lint) {
        lint()?;
    }
    if wanted(Part::Tests) {
        step("packages", packages::install)?;
        // Before anything is started: a database that waits for a compiler is of no use.
        step("build of the tests", || Runner::find().build())?;
        let given = std::env::var("BOWLINE_TEST_DATABASE_URL").ok();
        let cluster =
            if given.is_none() { Some(step("private PostgreSQL", || Cluster::start(Files::InMemory))?) } else { None };
        let url = given.or_else(|| cluster.as_ref().map(Cluster::url));
        let passed = Runner::find().run(url.as_deref());
        if let Some(cluster) = cluster {
            cluster.stop()?;
        }
        passed?;
    }
    Ok(())
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

    fn build(&self) -> anyhow::Result<()> {
        match self {
            Runner::Nextest => {
                command::run(cargo().args(["nextest", "run", "--workspace", "--no-run", "--cargo-quiet"]))
            }
            Runner::Cargo => command::run(cargo().args(["test", "--workspace", "--no-run", "--quiet"])),
        }
    }

    fn run(&self, url: Option<&str>) -> anyhow::Result<()> {
        let Some(url) = url else { bail!("no database for the tests") };
        let arguments: &[&str] = match self {
            Runner::Nextest => &["nextest", "run", "--workspace"],
            Runner::Cargo => &["test", "--workspace", "--", "--test-threads=4"],
        };
        command::run(cargo().args(arguments).env("BOWLINE_TEST_DATABASE_URL", url))
    }
}
