use clap::{Args, Subcommand};

use super::SourceArgs;
use super::run::{runtime, start_logging};
use crate::storage::{Reached, epoch};

#[derive(Debug, Args)]
#[command(after_help = "\
After the database was restored from a backup, and before the servers are started again:
  bowline epoch bump")]
pub struct EpochArgs {
    #[command(subcommand)]
    command: EpochCommand,
}

#[derive(Debug, Subcommand)]
enum EpochCommand {
    /// Begin the next epoch: clients drop what the restored database may not have
    Bump,
}

pub fn epoch(sources: &SourceArgs, args: &EpochArgs) -> anyhow::Result<()> {
    let EpochCommand::Bump = args.command;
    let config = sources.load(Vec::new())?.config;
    start_logging(&config.logging)?;
    runtime()?.block_on(async {
        let reached = Reached::for_operator(&config.database).await?;
        let bumped = epoch::bump(reached.direct_url()).await;
        reached.close().await;
        println!("the epoch is {}", bumped?);
        Ok(())
    })
}
