//! People who chat while servers are killed, and the check that every promise held.
//!
//! It starts and kills nothing: whoever does so tells this by lines on its input, and is answered by lines.
//!
//! | line | what happens | answer, once it has |
//! | --- | --- | --- |
//! | | everyone is connected, in all conversations, and writes | `ready` |
//! | `settle` | writers pause until every send has its answer and every reader has everything; then they go on | `settled` and figures |
//! | `rest` | the same, but they do not go on | `resting` |
//! | `finish` | the stored logs are read from their beginning, and compared with what everyone saw | `verdict` and the figures; the exit code is 0 if all held |

mod check;
mod people;

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use people::People;

use crate::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A server; with several, people are spread over them.
    #[arg(long, required = true)]
    url: Vec<String>,
    #[arg(long, default_value_t = 8)]
    people: usize,
    #[arg(long, default_value_t = 4)]
    conversations: usize,
    /// Between two messages of one writer.
    #[arg(long, default_value_t = 10)]
    pace_ms: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Has one reader forget an entry that it was given, to show that the check finds it.
    #[arg(long)]
    forget_one: bool,
}

/// How long a settling may take, reconnecting and retrying included.
const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let people = People::gather(&args).await?;
    println!("ready");
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        match order.as_str() {
            "settle" => {
                println!("settled {}", settle(&people).await?);
                people.write(true);
            }
            "rest" => println!("resting {}", settle(&people).await?),
            "finish" => return finish(&people, args.forget_one).await,
            other => bail!("no such order: {other}"),
        }
    }
    bail!("whoever gives the orders has gone")
}

/// The lines of the input. Its thread ends with the process.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines().map_while(Result::ok);
        lines.all(|line| sender.blocking_send(line).is_ok())
    });
    orders
}

async fn settle(people: &People) -> anyhow::Result<String> {
    people.write(false);
    tokio::time::timeout(PATIENCE, people.settled()).await.with_context(|| {
        format!("after {} s some sends have no answer, or readers lack entries: {}", PATIENCE.as_secs(), people.state())
    })?;
    Ok(people.state())
}

async fn finish(people: &People, forget_one: bool) -> anyhow::Result<Outcome> {
    let state = settle(people).await?;
    let stored = people.read_afresh().await?;
    let (mut witnesses, mut broken) = people.testimony();
    if forget_one {
        let seen = witnesses.last_mut().and_then(|w| w.seen.values_mut().next()).context("nobody has read anything")?;
        seen.remove(seen.len() / 2);
    }
    broken.extend(check::check(&stored, &witnesses).iter().map(ToString::to_string));
    for line in broken.iter().take(20) {
        println!("BROKEN {line}");
    }
    let entries: usize = stored.values().map(Vec::len).sum();
    let given: usize = witnesses.iter().flat_map(|w| w.seen.values()).map(Vec::len).sum();
    println!("verdict {state}; {entries} entries stored, {given} given to readers; {} promises broken", broken.len());
    Ok(if broken.is_empty() { Outcome::Good } else { Outcome::Bad })
}
