//! How readers ask for pages: each on a socket of his own, or over HTTP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bowline_client::protocol::wire;
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::line::Line;
use super::people::Who;
use crate::fleet::machine;
use crate::http::{Http, Refused, Request};
use crate::options::Common;
use crate::progress::Progress;
use crate::raw::Target;

pub(super) enum Doors {
    Sockets(Sockets),
    /// One a server.
    Http(Vec<Arc<Http>>),
}

/// A socket a reader, connected before it is needed, and again after it was lost.
pub(super) struct Sockets {
    targets: Vec<Target>,
    patience: Duration,
    /// Held while its reader's connection is made.
    lines: Vec<Mutex<Option<Line>>>,
}

/// Connects under way at a time.
const ENTRANCE: usize = 64;

impl Doors {
    /// Everybody who is to ask is there when this returns.
    pub(super) async fn open(
        common: &Common,
        readers: &[Who],
        http: Option<Vec<Arc<Http>>>,
    ) -> anyhow::Result<Arc<Self>> {
        if let Some(http) = http {
            return Ok(Arc::new(Self::Http(http)));
        }
        let room = machine::room_for_sockets()?;
        ensure!(
            readers.len() <= room as usize,
            "{} readers, but only {room} descriptors: --http, or fewer",
            readers.len()
        );
        let mut targets = Vec::new();
        for url in &common.urls {
            targets.push(Target::resolve(url).await?);
        }
        let lines = readers.iter().map(|_| Mutex::default()).collect();
        let doors = Arc::new(Self::Sockets(Sockets { targets, patience: common.connect_timeout, lines }));
        let entrance = Arc::new(Semaphore::new(ENTRANCE));
        let mut connecting = JoinSet::new();
        for (n, who) in readers.iter().cloned().enumerate() {
            let (doors, entrance) = (Arc::clone(&doors), Arc::clone(&entrance));
            connecting.spawn(async move {
                let _turn = entrance.acquire().await?;
                let Self::Sockets(sockets) = &*doors else { return Ok(()) };
                sockets.line(n, &who).await.map(drop)
            });
        }
        let (mut progress, mut there) = (Progress::new(readers.len() as u64), 0);
        while let Some(connected) = connecting.join_next().await {
            connected?.context("connecting the readers")?;
            there += 1;
            progress.tell(there, || format!("{there} readers connected"));
        }
        progress.end();
        Ok(doors)
    }

    /// A page of the n-th reader's feed, and when it was there.
    pub(super) async fn page(
        &self,
        n: usize,
        who: &Who,
        limit: u64,
        cursor: Option<String>,
    ) -> Result<(wire::FeedPage, Instant), Refused> {
        let lost = |error: anyhow::Error| {
            tracing::debug!("{error:#}");
            Refused::because("connection lost")
        };
        match self {
            Self::Sockets(sockets) => {
                let line = sockets.line(n, who).await.map_err(lost)?;
                match line.ask(Ask::FeedPage(wire::FeedRead { cursor, limit })).await? {
                    (Push::FeedPage(page), at) => Ok((page, at)),
                    _ => Err(Refused::because("another reply")),
                }
            }
            Self::Http(servers) => {
                let behind = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
                let path = format!("/v1/feed?limit={limit}{behind}");
                let request = Request { method: "GET", path: &path, token: &who.token, body: None };
                let answer = servers[n % servers.len()].ask(&request).await.map_err(lost)?;
                let at = Instant::now();
                Ok((answer.read()?, at))
            }
        }
    }
}

impl Sockets {
    async fn line(&self, n: usize, who: &Who) -> anyhow::Result<Line> {
        let mut line = self.lines[n].lock().await;
        if let Some(line) = line.as_ref().filter(|line| !line.is_closed()) {
            return Ok(line.clone());
        }
        let target = &self.targets[n % self.targets.len()];
        Ok(line.insert(Line::connect(target, who, self.patience, |_| {}).await?).clone())
    }
}
