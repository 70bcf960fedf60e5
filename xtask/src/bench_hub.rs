//! The hub beside the reference: `bowline-loadtest bench` against a server and a PostgreSQL of its own.

use anyhow::bail;

use crate::bed::{self, Bed};
use crate::nodes::Place;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long messages flow in a round, for each of those compared.
    #[arg(long, default_value = "5s")]
    duration: String,
    /// Writes the report with its plots there.
    #[arg(long, value_name = "FILE.html")]
    report: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    bed::build()?;
    let bed = Bed::make(1, &Place::default())?;
    let rounds = options.rounds.to_string();
    let mut bench = vec!["bench", "--rounds", &rounds, "-d", &options.duration];
    bench.extend(options.report.iter().flat_map(|file| ["--report", file]));
    let held = bed.load(&bench);
    bed.end()?;
    match held? {
        true => Ok(()),
        false => bail!("a ratio is below what it must be, or a delivery is missing"),
    }
}
