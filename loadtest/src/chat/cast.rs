//! The authors: each registered and connected when he is first needed, kept until the end.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bowline_client::outbox::MemoryOutbox;
use bowline_client::protocol::{Codec, UserId};
use bowline_client::{Client, Config, Start, TokenSource};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{OnceCell, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::Args;
use super::reader::{Reader, Readings};
use super::stage::Stage;
use crate::people::{Minting, Registering};

pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) client: Client,
}

pub(crate) struct Cast {
    urls: Vec<String>,
    codec: Codec,
    minting: Option<Minting>,
    registering: Registering,
    /// Connects under way at a time, so that the start is no flood.
    entrance: Semaphore,
    people: Vec<OnceCell<Arc<Person>>>,
    readers: Mutex<Vec<JoinHandle<Readings>>>,
    end: watch::Sender<bool>,
}

const ENTRANCE: usize = 64;
/// Events that wait for a reader; each socket has room for them.
const EVENTS: usize = 32;

impl Cast {
    pub(crate) fn new(args: &Args, authors: usize) -> Self {
        Self {
            urls: args.common.urls.clone(),
            codec: args.codec.into(),
            minting: args.common.minting(),
            registering: Registering::new(),
            entrance: Semaphore::new(ENTRANCE),
            people: (0..authors).map(|_| OnceCell::new()).collect(),
            readers: Mutex::default(),
            end: watch::channel(false).0,
        }
    }

    /// The author, on his socket.
    pub(crate) async fn person(&self, stage: &Arc<Stage>, author: u32) -> anyhow::Result<Arc<Person>> {
        let cell = &self.people[author as usize];
        Ok(Arc::clone(cell.get_or_try_init(|| self.enter(stage, author)).await?))
    }

    async fn enter(&self, stage: &Arc<Stage>, author: u32) -> anyhow::Result<Arc<Person>> {
        let _turn = self.entrance.acquire().await?;
        let n = author as usize;
        let url = &self.urls[n % self.urls.len()];
        let (user, token) = match &self.minting {
            Some(minting) => {
                let user = minting.user(&stage.transcript.authors[n]);
                (user, TokenSource::Fixed(minting.token(user)?))
            }
            None => self.registering.person(url, n).await?,
        };
        stage.enter(user, author);
        let (client, events) = Client::start(Config {
            codec: self.codec,
            start: Start::Beginning,
            outbox: Box::new(MemoryOutbox::new(1_024)),
            events: EVENTS,
            connect_timeout: stage.args.common.connect_timeout,
            command_timeout: stage.args.common.timeout,
            ..Config::new(url, token)
        })?;
        let (ready, is_ready) = oneshot::channel();
        let reader = Reader::new(Arc::clone(stage), author, events, ready);
        let reading = tokio::spawn(reader.run(self.end.subscribe()));
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
        is_ready.await.with_context(|| format!("author {n} could not connect"))?;
        Ok(Arc::new(Person { user, client }))
    }

    /// Cuts one of those who are there, chosen by `dice`.
    pub(crate) async fn cut(&self, dice: u64) {
        let there: Vec<_> = self.people.iter().filter_map(OnceCell::get).collect();
        if there.is_empty() {
            return;
        }
        let chosen = StdRng::seed_from_u64(dice).random_range(0..there.len());
        let _ = there[chosen].client.cut().await;
    }

    /// Ends all readers, and gives what they saw.
    pub(crate) async fn dismiss(&self) -> Vec<Readings> {
        let _ = self.end.send(true);
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut readings = Vec::with_capacity(readers.len());
        for reader in readers {
            if let Ok(reading) = reader.await {
                readings.push(reading);
            }
        }
        readings
    }
}
