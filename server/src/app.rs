//! The composition root: builds every part, connects them, starts, drains.
//!
//! It knows every room and has no rule of its own. The order matters twice: the change feed has its first position before
//! anything is followed, so that nothing falls between; and at the end nothing is taken in any more before what is under
//! way is finished.

mod connections;
mod engagement;
mod follower;
mod pages;
mod readers;
mod socket;

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_protocol::wire::{Receipt, ServerFrame, server_frame::Kind as Push};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::api::{self, Api, Rooms};
use crate::config::Config;
use crate::conversations::{self, Conversations};
use crate::deadline::Deadline;
use crate::dispatch::{Dispatch, Domain};
use crate::feed::export::Views;
use crate::feed::{self, Feed, Pushes};
use crate::graph::Graph;
use crate::log::Log;
use crate::posts::Posts;
use crate::session::{Outcome, Rules};
use crate::storage::Storage;
use crate::storage::clickhouse::ClickHouse;
use crate::storage::redis::Redis;
use crate::telemetry::Metrics;
use crate::wire::{self, Shards};
use connections::Connections;
use engagement::Engagement;
use follower::Follower;
use pages::Pages;
use readers::Readers;
use socket::{Sockets, Ticket};

/// How long a start waits for the database's first answers.
const START_TIME: Duration = Duration::from_secs(10);
/// How long the end waits for what is under way, once all sockets are closed.
const FINISH_TIME: Duration = Duration::from_secs(10);
const CLOSED_LOOK: Duration = Duration::from_millis(20);

/// Serves until `shutdown` completes; an error if the embedded database ends before that, since nothing can be stored then.
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    // Not given up halfway: a database that was started is stopped in order, whenever the end was asked for.
    let storage = Storage::open(&config.database).await?;
    let ended = serve(&config, &storage, listener, shutdown).await;
    storage.close().await;
    ended
}

async fn serve(
    config: &Config,
    storage: &Storage,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let server = Server::start(config, storage, listener).await?;
    tokio::select! {
        () = shutdown => {}
        how = storage.died() => bail!("{how}"),
    }
    server.drain(Duration::from_millis(config.http.drain_ms)).await;
    Ok(())
}

/// What is told of what was stored.
struct Live {
    shards: Shards<Sockets>,
    readers: Readers,
}

/// The parts of a server that runs.
struct Server {
    api: Api,
    log: Log,
    conversations: Conversations,
    shards: Shards<Sockets>,
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

impl Server {
    async fn start(config: &Config, storage: &Storage, listener: TcpListener) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let pool = storage.pool();
        metrics.register_collector(Connections(pool.clone()));
        let hub: Arc<OnceLock<Live>> = Arc::default();
        let log = Log::start(pool.clone(), config.log.clone(), &metrics, {
            let hub = hub.clone();
            move |committed, answer| {
                let Some(Live { shards, readers }) = hub.get() else { return };
                // Before the answer, so that one who has it finds what he stored.
                committed.iter().for_each(|committed| readers.committed(committed.log, &committed.entries));
                shards.together(|| {
                    committed.iter().for_each(|committed| shards.publish(committed.log, &committed.entries));
                    answer();
                });
            }
        });
        let follower = Follower::start(&log, Deadline::after(START_TIME)).await.context("reading the change feed")?;
        let data_dir = storage.data_dir().or(config.database.data_dir.as_deref());
        let accounts = Accounts::start(&config.accounts, data_dir, pool.clone(), log.clone(), &metrics)?;
        let conversations = Conversations::start(pool.clone(), log.clone(), config.limits.clone(), &metrics, {
            let hub = hub.clone();
            move |receipts: &[conversations::Receipt]| {
                if let Some(live) = hub.get() {
                    receipts.iter().for_each(|receipt| tell(&live.shards, receipt));
                }
            }
        });
        let posts = Posts::start(pool.clone(), log.clone(), &config.posts, &metrics);
        let graph = Graph::new(pool.clone(), log.clone());
        let clickhouse = config.clickhouse.url.as_ref();
        let clickhouse = clickhouse.map(|url| ClickHouse::new(url, &config.clickhouse, &metrics)).transpose()?;
        let views = clickhouse.is_some().then(|| Views::new(config.export.clone(), &metrics));
        let parts = feed::Parts {
            pool: pool.clone(),
            posts: posts.clone(),
            clickhouse: clickhouse.clone(),
            redis: Redis::open(&config.redis, &metrics).await?,
            views: views.clone(),
        };
        let start = Deadline::after(START_TIME);
        let feed = Feed::start(parts, &config.feed, &metrics, start).await.context("reading the secret of cursors")?;
        let pushes = Pushes::new(feed.clone());
        let domain = Domain {
            accounts: accounts.clone(),
            conversations: conversations.clone(),
            posts: posts.clone(),
            graph: graph.clone(),
            feed: feed.clone(),
            pushes: pushes.clone(),
            log: log.clone(),
        };
        let rules = Arc::new(Rules {
            limits: config.limits.clone(),
            heartbeat_interval_ms: u64::try_from(config.wire.heartbeat.as_millis()).unwrap_or(u64::MAX),
            ..Rules::default()
        });
        let wire = wire::Config {
            message_bytes: usize::try_from(config.limits.frame_bytes)?,
            open_commands: u16::try_from(config.limits.open_commands)?,
            ..config.wire.clone()
        };
        let shards = Shards::start(wire, Pages(log.clone()), &Handle::current(), &metrics, |shards| {
            Sockets::new(
                rules.clone(),
                Dispatch::new(Handle::current(), domain.clone(), shards.clone()),
                shards.clone(),
                pushes.clone(),
            )
        })?;
        // Set once, here.
        let readers =
            Readers { accounts: accounts.clone(), posts: posts.clone(), feed: feed.clone(), pushes: pushes.clone() };
        let _ = hub.set(Live { shards: shards.clone(), readers: readers.clone() });

        let stop = CancellationToken::new();
        let tasks = tokio_util::task::TaskTracker::new();
        tasks.spawn(follower.run(log.clone(), shards.clone(), readers, stop.clone()));
        let (keys, stopped) = (accounts.clone(), stop.clone());
        tasks.spawn(async move { keys.tokens().watch(stopped).await });
        let pushed = shards.clone();
        let deliver = move |address, update| pushed.complete(address, Outcome::FeedUpdate(update));
        tasks.spawn(pushes.run(deliver, stop.clone()));
        if let (Some(clickhouse), Some(views)) = (clickhouse, views) {
            let engagement = Engagement::new(clickhouse, views, storage, &config.export, &metrics);
            tasks.spawn(engagement.run(stop.clone()));
        }
        let adopting = shards.clone();
        let adopt = Box::new(move |socket| adopt(&adopting, socket));
        let rooms = Rooms { accounts, posts, graph, feed, limits: config.limits.clone() };
        let api = Api::new(config.http.clone(), rooms, pool.clone(), metrics, adopt);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(api::serve(listener, api.clone(), stop.clone()));
        tasks.close();
        Ok(Self { api, log, conversations, shards, stop, tasks })
    }

    /// Takes no more sockets, closes each at its own time within the window, finishes what is under way.
    async fn drain(self, window: Duration) {
        self.api.drain();
        self.shards.drain(window);
        all_closed(&self.shards, Deadline::after(window + FINISH_TIME)).await;
        self.stop.cancel();
        let finish = Deadline::after(FINISH_TIME);
        if !self.log.close(finish).await {
            tracing::error!("commands were still waiting when the log was closed");
        }
        self.conversations.close(finish).await;
        self.shards.stop();
        if tokio::time::timeout(finish.left(), self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were still under way when the server ended");
        }
    }
}

async fn all_closed(shards: &Shards<Sockets>, deadline: Deadline) {
    while shards.sockets() > 0 && !deadline.passed() {
        tokio::time::sleep(CLOSED_LOOK).await;
    }
}

/// Gives a socket that became a WebSocket to a shard.
fn adopt(shards: &Shards<Sockets>, socket: api::Socket) {
    let api::Socket { stream, read_buf, codec, identity, place, .. } = socket;
    if let Err(refused) = shards.adopt(stream, read_buf, codec, Ticket { identity, place }) {
        tracing::debug!(%refused, "a socket was not taken");
    }
}

/// A reader's own sessions always hear how far he has read; the others where the conversation is small.
fn tell(shards: &Shards<Sockets>, receipt: &conversations::Receipt) {
    let push = Push::Receipt(Receipt {
        log_id: receipt.log.to_wire(),
        user_id: receipt.user.to_wire(),
        seq: receipt.seq,
        message_no: receipt.message_no,
    });
    let heard_in = if receipt.to_all { receipt.log } else { receipt.user.log() };
    shards.signal(heard_in, ServerFrame { id: None, kind: Some(push) });
}
