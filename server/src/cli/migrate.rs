use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};

use super::SourceArgs;
use super::run::{runtime, start_logging};
use crate::config::Config;
use crate::storage::Reached;
use crate::storage::clickhouse::{self, ClickHouse};
use crate::storage::migrate::{self, FILES, Step};
use crate::telemetry::Metrics;

#[derive(Clone, Copy, Debug, Default, Subcommand)]
pub enum MigrateCommand {
    /// Apply what is missing, in ClickHouse too where one is configured
    #[default]
    Up,
    /// Take back every migration above a number, newest first; data in what they added is lost
    Down {
        /// The number of the last migration that stays; 0 takes back all
        #[arg(long, value_name = "NUMBER")]
        to: i64,
        /// Where
        #[arg(long = "in", value_enum, default_value_t = Database::Postgres)]
        database: Database,
    },
    /// Show which migrations the databases have
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Database {
    Postgres,
    Clickhouse,
}

/// Works on the configured database, else on the embedded one, whether or not a server runs on it.
pub fn migrate(sources: &SourceArgs, command: MigrateCommand) -> anyhow::Result<()> {
    let config = sources.load(Vec::new())?.config;
    start_logging(&config.logging)?;
    runtime()?.block_on(async {
        let reached = Reached::for_operator(&config.database).await?;
        let outcome = run(command, &reached, &config).await;
        reached.close().await;
        outcome
    })
}

async fn run(command: MigrateCommand, reached: &Reached, config: &Config) -> anyhow::Result<()> {
    let url = reached.direct_url();
    let at = config.clickhouse.url.as_ref();
    let clickhouse = at.map(|at| ClickHouse::new(at, &config.clickhouse, &Metrics::default())).transpose()?;
    match command {
        MigrateCommand::Up => {
            report("applied", &migrate::up(url, FILES).await?);
            if let Some(clickhouse) = &clickhouse {
                let applied = clickhouse::migrate::up(clickhouse, url, clickhouse::migrate::FILES).await?;
                report("applied in ClickHouse", &applied);
            }
        }
        MigrateCommand::Down { to, database: Database::Postgres } => {
            report("taken back", &migrate::down(url, FILES, to).await?);
        }
        MigrateCommand::Down { to, database: Database::Clickhouse } => {
            let clickhouse = clickhouse.context("no ClickHouse is configured: set CLICKHOUSE_URL")?;
            let back = clickhouse::migrate::down(&clickhouse, url, clickhouse::migrate::FILES, to).await?;
            report("taken back in ClickHouse", &back);
        }
        MigrateCommand::Status => {
            show("", migrate::status(url, FILES).await?);
            if let Some(clickhouse) = &clickhouse {
                show("ClickHouse ", clickhouse::migrate::status(clickhouse, clickhouse::migrate::FILES).await?);
            }
        }
    }
    Ok(())
}

fn show(prefix: &str, steps: Vec<Step>) {
    for step in steps {
        let state = if step.applied { "applied" } else { "missing" };
        println!("{prefix}{:04}  {state}  {}", step.number, step.name);
    }
}

fn report(what: &str, numbers: &[i64]) {
    let list: Vec<_> = numbers.iter().map(|number| format!("{number:04}")).collect();
    println!("{what}: {}", if list.is_empty() { "nothing to do".to_owned() } else { list.join(", ") });
}
