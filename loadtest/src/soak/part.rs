//! The parts of the mix: three fleets, and one who types.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bowline_client::protocol::wire;
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::CONNECTING;
use crate::crowd::Account;
use crate::fleet::options::FleetOptions;
use crate::fleet::seats::Seats;
use crate::fleet::shared::publisher_name;
use crate::fleet::{Fleet, founding};
use crate::options::Common;
use crate::people::Minting;
use crate::raw::{RawSocket, Target};

pub(super) struct Part {
    pub(super) name: &'static str,
    /// Of all messages.
    pub(super) share: f64,
    /// Is cut now and then.
    pub(super) restless: bool,
    pub(super) fleet: Fleet,
}

pub(super) const CONVERSATIONS: &str = "conversations";
const TOPICS: &str = "topics";
const RESTLESS: &str = "those who leave and come back";
pub(super) const BODY_BYTES: usize = 128;
/// What is under way when the last message was meant to go gets this long to be answered.
const ANSWERS: Duration = Duration::from_secs(30);
const TYPING_EVERY: Duration = Duration::from_millis(250);

/// Those who publish are connected, the readers are not yet.
pub(super) async fn all(common: &Common, options: &FleetOptions, sockets: u32) -> anyhow::Result<Vec<Part>> {
    let (topics, restless) = (sockets * 3 / 10, (sockets / 10).max(1));
    let seats = |sockets: u32, follow: u32, readers: u32| {
        let targets = (sockets * follow).div_ceil(readers).max(follow);
        Seats { sockets, follow, targets, beside: 0 }
    };
    let mut parts = Vec::new();
    for (name, share, seats) in [
        (CONVERSATIONS, 0.5, seats(sockets - topics - restless, 5, 50)),
        (TOPICS, 0.4, seats(topics, 1, 100)),
        (RESTLESS, 0.1, seats(restless, 3, 10)),
    ] {
        let on_topics = name == TOPICS;
        let mut fleet = Fleet::start(options.plan(common, seats, on_topics)?, options.workers)?;
        if !on_topics {
            let logs = founding::found(fleet.plan()).await?;
            fleet.follow(logs).await?;
        }
        fleet.connect_publishers(CONNECTING).await?;
        parts.push(Part { name, share, restless: name == RESTLESS, fleet });
    }
    Ok(parts)
}

impl Part {
    /// Waits until all is answered and delivered, or nothing more comes.
    pub(super) async fn settle(&mut self, patience: Duration) -> anyhow::Result<Account> {
        let answered = self.fleet.published(ANSWERS).await;
        self.fleet.expect().await?;
        self.fleet.settle(patience).await?;
        let mut account = Account::of(&self.fleet);
        account.complaints.extend(answered.err().map(|error| format!("{error:#}")));
        Ok(account)
    }
}

/// Somebody who types in each of his conversations in turn. Ends with this value.
pub(super) struct Typing(JoinHandle<()>);

impl Typing {
    /// As the first of those who publish in `part`, on a socket more. `typed` counts.
    pub(super) async fn begin(part: &Part, typed: &Arc<AtomicU64>) -> anyhow::Result<Self> {
        let plan = part.fleet.plan();
        let minting = Minting::of(&plan.identity);
        let server = plan.servers.first().context("no server")?;
        let target = Target::resolve(&format!("http://{}", server.authority)).await?;
        let token = minting.token(minting.user(&publisher_name(0)))?;
        let mut socket = RawSocket::connect(&target, &token, plan.connect_timeout).await?;
        let (mut logs, mut more) = (Vec::new(), true);
        while more {
            socket
                .read(|frame| {
                    if let Some(Push::Heads(heads)) = frame.kind {
                        logs.extend(heads.items.into_iter().map(|head| head.log_id));
                        more = heads.more;
                    }
                })
                .await?;
        }
        anyhow::ensure!(!logs.is_empty(), "who types has no conversation");
        let typed = Arc::clone(typed);
        Ok(Self(tokio::spawn(async move {
            if let Err(error) = type_on(socket, &logs, &typed).await {
                tracing::error!("who types was ended: {error:#}");
            }
        })))
    }

    pub(super) fn end(self) {
        self.0.abort();
    }
}

async fn type_on(mut socket: RawSocket, logs: &[Vec<u8>], typed: &AtomicU64) -> anyhow::Result<()> {
    let mut tick = interval(TYPING_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for log_id in logs.iter().cycle() {
        loop {
            tokio::select! {
                _ = tick.tick() => break,
                read = socket.read(|frame| {
                    if matches!(frame.kind, Some(Push::Done(_))) {
                        typed.fetch_add(1, Ordering::Relaxed);
                    }
                }) => read?,
            }
        }
        socket.ask(Ask::Typing(wire::SetTyping { log_id: log_id.clone() }));
    }
    Ok(())
}
