//! The terminal client behind `bowline chat`: one conversation, its history, its lines as they come, and what is typed.
//! Works on a terminal and over pipes alike.
//!
//! It stands on `bowline-client` alone and uses no room of the server: what it can do, any app can. A line that was typed
//! is kept in a file until the server has stored it, over lost connections and over the end of this program.

mod login;
mod outbox;
mod place;
mod screen;
mod talk;
mod typed;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bowline_client::protocol::LogId;
use bowline_client::{Client, Config};
use tokio::time::timeout;

use screen::Screen;
use talk::Talk;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// Your user name
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Your password; without it, it is asked for
    #[arg(long, env = "BOWLINE_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    password: Option<String>,
    /// Make the account first
    #[arg(long)]
    register: bool,
    /// With whom: one name for a direct conversation, several for a group
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", conflicts_with = "conversation")]
    with: Vec<String>,
    /// A conversation that you are in
    #[arg(long, value_name = "ID", required_unless_present = "with")]
    conversation: Option<LogId>,
    /// How many of its last messages are shown first
    #[arg(long, default_value_t = 50, value_name = "N")]
    history: u64,
    /// Where lines are kept until they are stored [default: ~/.local/state/bowline]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  bowline chat --user alice --register --with bob      make the account alice, and talk to bob
  bowline chat --user bob --with alice,carol           a group of three
  echo 'disk is full' | bowline chat --user ops --with alice
The password comes from --password, from BOWLINE_PASSWORD, or is asked for.";

const NAME: &str = "bowline chat";
/// Logging out is a courtesy, and must not hold up the end.
const LOG_OUT: Duration = Duration::from_secs(2);

pub async fn run(args: Args) -> anyhow::Result<()> {
    let accounts = bowline_client::accounts::Accounts::new(&args.url)?.client_name(NAME);
    let (me, token) = login::log_in(&accounts, &args).await?;
    let outbox = outbox::open(args.state_dir.clone(), me.user).context("the file that keeps unsent lines")?;
    let mut config = Config::new(&args.url, token);
    config.outbox = Box::new(outbox);
    config.info.name = NAME.into();
    let (client, events) = Client::start(config)?;
    let asked = place::Asked { with: args.with, conversation: args.conversation, history: args.history };
    let screen = Screen::new(me.user, &args.user);
    let spoken = Talk::new(client.clone(), events, screen).run(asked, &accounts, &me).await;
    client.close().await;
    let (token, session) = me.latest();
    let _ = timeout(LOG_OUT, accounts.log_out(&token, session)).await;
    spoken
}
