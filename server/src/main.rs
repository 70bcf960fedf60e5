//! The binary: chooses a command.

use std::process::ExitCode;

use bowline::cli::{self, Cli, Command};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let Cli { command, sources, serve } = Cli::parse();
    let outcome = match command {
        None => cli::serve(&sources, &serve),
        Some(Command::Serve(args)) => cli::serve(&sources, &args),
        Some(Command::Migrate(args)) => cli::migrate(&sources, args.command.unwrap_or_default()),
        Some(Command::Epoch(args)) => cli::epoch(&sources, &args),
        Some(Command::Token(args)) => cli::token(&sources, &args),
        Some(Command::Chat(args)) => cli::chat(args),
        Some(Command::Config) => cli::show_config(&sources),
        Some(Command::PostgresChild(args)) => bowline::storage::embedded::become_child(&args),
    };
    cli::exit_code(outcome)
}
