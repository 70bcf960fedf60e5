use std::time::Duration;

use anyhow::{Context, bail};
use bowline_protocol::{SessionId, UserId};
use clap::Args;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::SourceArgs;
use super::run::{now_ms, runtime, start_logging};
use crate::accounts::{self, Tokens};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::storage::{Pool, Reached, embedded};

const LOOK_UP: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowline token --name ada                       a token for an account, as long as the server's own are good
  bowline token --user 0190d8a2-4b5c-7def-8123-456789abcdef --ttl 12h

The token goes to standard output alone: TOKEN=$(bowline token --name ada)")]
pub struct TokenArgs {
    /// The user's id; one that has no account yet gets one when it first connects
    #[arg(long, value_name = "ID", required_unless_present = "name", conflicts_with = "name")]
    user: Option<Uuid>,
    /// The username of an account
    #[arg(long)]
    name: Option<String>,
    /// How long it is good: 90s, 15m, 12h, 7d [default: accounts.tokens.access_s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,
}

/// Makes an access token with the configured secret, or the one in the data directory, for a session of its own.
pub fn token(sources: &SourceArgs, args: &TokenArgs) -> anyhow::Result<()> {
    let config = sources.load(Vec::new())?.config;
    start_logging(&config.logging)?;
    let data_dir = match config.database.url {
        None => Some(embedded::data_dir(config.database.data_dir.as_deref())?),
        Some(_) => config.database.data_dir.clone(),
    };
    let tokens = Tokens::open(&config.accounts.tokens, data_dir.as_deref())?;
    let user = match (args.user, &args.name) {
        (Some(user), _) => UserId(user),
        (None, Some(name)) => runtime()?.block_on(find(name, &config))?,
        (None, None) => bail!("--user or --name"),
    };
    let made = tokens.mint(user, SessionId::new(), args.ttl, now_ms())?;
    println!("{}", made.token.expose_secret());
    Ok(())
}

async fn find(name: &str, config: &Config) -> anyhow::Result<UserId> {
    let reached = Reached::for_operator(&config.database).await?;
    let found = async {
        let pool = Pool::new(reached.url(), &config.database)?;
        let found = accounts::find(&pool, name, Deadline::after(LOOK_UP)).await;
        found.with_context(|| format!("looking up the account {name}"))
    };
    let found = found.await;
    reached.close().await;
    Ok(found?.user)
}

fn time(text: &str) -> Result<Duration, String> {
    let allowed = || "expected a time such as 90s, 15m, 12h or 7d".to_owned();
    let unit = text.chars().next_back().ok_or_else(allowed)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(allowed()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| allowed())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(allowed)
}
