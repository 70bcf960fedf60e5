//! The command line: what a person or an init system runs. Reads the configuration, starts the one thing that was asked
//! for, and says in words what went wrong.

mod chat;
mod epoch;
mod migrate;
mod run;
mod serve;
mod show_config;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded, Sources};
use crate::storage::embedded::ChildArgs;
pub use chat::chat;
pub use epoch::{EpochArgs, epoch};
pub use migrate::{MigrateCommand, migrate};
pub use run::exit_code;
pub use serve::{ServeArgs, serve};
pub use show_config::show_config;
pub use token::{TokenArgs, token};

const EXAMPLES: &str = "\
Examples:
  bowline                                    serve on 127.0.0.1:8080, with a database of its own in ./bowline-data
  bowline serve --listen 127.0.0.1:0         serve on a free port, which is printed
  DATABASE_URL=postgres://bowline@db/bowline bowline serve --listen 0.0.0.0:8080
  bowline migrate status                     what the database has and what it lacks
  bowline token --name ada                   an access token for an account
  bowline --config /etc/bowline.toml config  check a configuration, and show what is in force

Every key of the configuration can be set in the file (section [database], max_connections = 15), in the environment
(BOWLINE_DATABASE_MAX_CONNECTIONS=15) and here (--set database.max_connections=15); the later of these counts.
DATABASE_URL, DATABASE_DIRECT_URL, DATABASE_MAX_CONNECTIONS and CLICKHOUSE_URL are read too.";

/// Bowline: durable, ordered, gap-free realtime chat on one socket.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (what `bowline` alone does)
    Serve(ServeArgs),
    /// Bring the database's schema up to date, take it back, or show where it is
    Migrate(MigrateArgs),
    /// What to do after the database was restored
    Epoch(EpochArgs),
    /// Make an access token, for trying things out or for a program of one's own
    Token(TokenArgs),
    /// Talk in a terminal: a conversation's history, then its lines as they come
    Chat(crate::chat::Args),
    /// Check the configuration and print what is in force, secrets hidden
    Config,
    /// How the server starts PostgreSQL; not for people
    #[command(hide = true)]
    PostgresChild(ChildArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The configuration file (TOML); ./bowline.toml is read if it is there
    #[arg(long, global = true, env = "BOWLINE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the embedded database keeps its files [default: ./bowline-data, or /var/lib/bowline for root]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Set one key of the configuration; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(after_help = MIGRATE_EXAMPLES)]
pub struct MigrateArgs {
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,
}

const MIGRATE_EXAMPLES: &str = "\
Examples:
  bowline migrate                 apply what is missing
  bowline migrate down --to 3     take back every migration above 3
  bowline migrate down --to 0 --in clickhouse
  bowline migrate status

Migrations need a session of their own: behind a PgBouncer in transaction mode, set DATABASE_DIRECT_URL to PostgreSQL.";

impl SourceArgs {
    fn load(&self, more: Vec<(String, String, &'static str)>) -> anyhow::Result<Loaded> {
        let mut flags: Vec<_> = self.set.iter().map(|(key, value)| (key.clone(), value.clone(), "--set")).collect();
        flags.extend(self.data_dir.iter().map(|dir| ("database.data_dir".to_owned(), dir.clone(), "--data-dir")));
        flags.extend(more);
        // A variable that is not text is not one of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let file = self.config.clone().or_else(config::default_file);
        Ok(Sources { file, environment, flags }.load()?)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
