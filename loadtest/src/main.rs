//! `bowline-loadtest`: real sockets against a real server. Each scenario says what it saw, and fails when that is not
//! what it must be.
//!
//! - [`chat`] replays a transcript and compares what every reader saw with it; [`check`] is the comparison.
//! - [`sends`] measures durable sends, over sockets of [`raw`].
//! - [`idle`], [`fanout`], [`storm`] and [`slow`] hold many sockets: a [`fleet`] of them, in a run that is a [`crowd`]'s, at
//!   the server's [`cost`].
//! - [`feed`] asks for pages of feeds, over sockets or [`http`], and judges each beside the machine's own [`lateness`].
//! - [`faults`] chats while servers are killed, and checks that every promise held.
//! - [`people`] gives the users; [`pacer`] says when something is to happen; [`probe`], [`process`] and [`environment`] measure the machine.
//! - [`run`] is what all runs share: [`sample`] writes the [`timeline`], [`threshold`] and [`compare`] judge the [`figures`],
//!   [`report`] tells them. [`progress`] speaks meanwhile.

mod bare;
mod bench;
mod chat;
mod check;
mod compare;
mod cost;
mod crowd;
mod environment;
mod fanout;
mod faults;
mod feed;
mod figures;
mod fleet;
mod http;
mod idle;
mod lateness;
mod options;
mod pacer;
mod people;
mod probe;
mod process;
mod progress;
mod raw;
mod report;
mod run;
mod sample;
mod sends;
mod slow;
mod soak;
mod storm;
mod stress;
mod threshold;
mod timeline;
mod times;
mod transcript;
mod unit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load, replay and checking of a Bowline server over real sockets.
#[derive(Parser)]
#[command(name = "bowline-loadtest", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Replay a transcript as real conversations, cut sockets, and compare what every reader saw with it
    Chat(chat::Args),
    /// Durable sends at a rate: how long until they are committed, beside what the disk itself takes
    Sends(sends::Args),
    /// Chat while servers are killed, and check that every promise held (told what to do by `cargo xtask faults`)
    Faults(faults::Args),
    /// Many sockets that mostly wait: memory a socket, and exact delivery
    Idle(idle::Args),
    /// One message to many readers, at a rate, of topics or of conversations
    Fanout(fanout::Args),
    /// Cut all sockets at once, and have all come back with what they missed
    Storm(storm::Args),
    /// Have a share of the readers stop reading for a while
    Slow(slow::Args),
    /// Feed pages at a rate, of a population made of real chat: none empty, none late, whatever is done to the servers
    Feed(feed::Args),
    /// 100 users who chat, held to what chat must keep
    Baseline(sends::baseline::Args),
    /// A mix of everything for a long time: does memory, do descriptors, threads or p99 grow?
    Soak(soak::Args),
    /// More and more, until a threshold breaks: where the knee is, and what ran out first
    Stress(stress::Args),
    /// The hub beside a bare writer of ready-made frames, in alternating rounds: deliveries a processor second
    Bench(bench::Args),
    /// The bare writer
    #[command(hide = true, name = bare::SUBCOMMAND)]
    Bare,
    /// One of this tool's own processes, told what to do by the first one
    #[command(hide = true, name = fleet::worker::SUBCOMMAND)]
    Worker,
}

/// What a scenario came to.
enum Outcome {
    Good,
    /// It ran, and what it saw is not what it must be.
    Bad,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Cli::parse().scenario {
        Scenario::Chat(args) => chat::run(args).await,
        Scenario::Sends(args) => sends::run(args).await,
        Scenario::Faults(args) => faults::run(args).await,
        Scenario::Idle(args) => idle::run(args).await,
        Scenario::Fanout(args) => fanout::run(args).await,
        Scenario::Storm(args) => storm::run(args).await,
        Scenario::Slow(args) => slow::run(args).await,
        Scenario::Feed(args) => feed::run(args).await,
        Scenario::Baseline(args) => sends::baseline::run(args).await,
        Scenario::Soak(args) => soak::run(args).await,
        Scenario::Stress(args) => stress::run(args).await,
        Scenario::Bench(args) => bench::run(args).await,
        Scenario::Bare => bare::run(),
        Scenario::Worker => fleet::worker::run(),
    };
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
