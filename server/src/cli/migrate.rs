use clap::Subcommand;

use super::SourceArgs;
use super::run::{runtime, start_logging};
use crate::storage::Reached;
use crate::storage::migrate::{self, FILES};

#[derive(Clone, Copy, Debug, Default, Subcommand)]
pub enum MigrateCommand {
    /// Apply what is missing
    #[default]
    Up,
    /// Take back every migration above a number, newest first; data in what they added is lost
    Down {
        /// The number of the last migration that stays; 0 takes back all
        #[arg(long, value_name = "NUMBER")]
        to: i64,
    },
    /// Show which migrations the database has
    Status,
}

/// Works on the configured database, else on the embedded one, whether or not a server runs on it.
pub fn migrate(sources: &SourceArgs, command: MigrateCommand) -> anyhow::Result<()> {
    let config = sources.load(Vec::new())?.config;
    start_logging(&config.logging)?;
    runtime()?.block_on(async {
        let reached = Reached::for_operator(&config.database).await?;
        let outcome = run(command, &reached).await;
        reached.close().await;
        outcome
    })
}

async fn run(command: MigrateCommand, reached: &Reached) -> anyhow::Result<()> {
    let url = reached.direct_url();
    match command {
        MigrateCommand::Up => report("applied", &migrate::up(url, FILES).await?),
        MigrateCommand::Down { to } => report("taken back", &migrate::down(url, FILES, to).await?),
        MigrateCommand::Status => {
            for step in migrate::status(url, FILES).await? {
                let state = if step.applied { "applied" } else { "missing" };
                println!("{:04}  {state}  {}", step.number, step.name);
            }
        }
    }
    Ok(())
}

fn report(what: &str, numbers: &[i64]) {
    let list: Vec<_> = numbers.iter().map(|number| format!("{number:04}")).collect();
    println!("{what}: {}", if list.is_empty() { "nothing to do".to_owned() } else { list.join(", ") });
}
