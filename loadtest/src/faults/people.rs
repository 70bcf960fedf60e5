//! Who chats: each writes to every conversation at his own pace, reads all of them, and remembers what happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bowline_client::accounts::{Accounts, Login};
use bowline_client::backoff::Backoff;
use bowline_client::protocol::wire::entry::Content;
use bowline_client::protocol::{ClientId, Codec, LogId, Seq};
use bowline_client::token::Session;
use bowline_client::{Client, Config, Event, Events, NewConversation, Start, TokenSource, Why};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::Args;
use super::check::{Acked, Seen, Witness};

pub(super) struct People {
    all: Vec<Person>,
    logs: Vec<LogId>,
    writing: watch::Sender<bool>,
    /// Writers, one a person; aborted when this is dropped.
    _writers: JoinSet<()>,
}

struct Person {
    name: String,
    url: String,
    login: Login,
    memory: Arc<Memory>,
}

/// What one person went through.
#[derive(Default)]
struct Memory {
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    sends: Vec<Sent>,
    open: usize,
    reconnects: u64,
    seen: BTreeMap<LogId, Vec<Seen>>,
    broken: Vec<String>,
}

struct Sent {
    log: LogId,
    client_id: ClientId,
    body: String,
    acked: Option<Seq>,
}

/// Sends of one person that may wait for their answer.
const OPEN_SENDS: usize = 8;
const PASSWORD: &str = "correct horse battery staple";

impl People {
    pub(super) async fn gather(args: &Args) -> anyhow::Result<People> {
        let mut all = Vec::new();
        let mut clients = Vec::new();
        for number in 0..args.people.max(2) {
            let url = &args.url[number % args.url.len()];
            // A run on a database that has seen others meets none of their names.
            let name = format!("p{number}-{:016x}", rand::random::<u64>());
            let login =
                Accounts::new(url)?.register(&name, PASSWORD).await.with_context(|| format!("registering {name}"))?;
            let person = Person { name, url: url.clone(), login, memory: Arc::default() };
            let codec = Codec::ALL[number % Codec::ALL.len()];
            let (client, events) = person.connect(codec)?;
            tokio::spawn(remember(events, person.memory.clone()));
            clients.push(client);
            all.push(person);
        }
        let logs = converse(&clients[0], &all, args.conversations).await?;
        for person in &all {
            person.memory.until(|kept| logs.iter().all(|log| kept.reached(*log) > 0)).await;
        }
        let (writing, _) = watch::channel(true);
        let mut writers = JoinSet::new();
        for (number, (client, person)) in clients.into_iter().zip(&all).enumerate() {
            let writer = Writer {
                client,
                logs: logs.clone(),
                memory: person.memory.clone(),
                writing: writing.subscribe(),
                pace: Duration::from_millis(args.pace_ms),
                dice: StdRng::seed_from_u64(args.seed.wrapping_add(number as u64)),
            };
            writers.spawn(writer.run(number));
        }
        Ok(People { all, logs, writing, _writers: writers })
    }

    pub(super) fn write(&self, on: bool) {
        self.writing.send_replace(on);
    }

    /// Every send has its answer, and everyone has been given all that was acked to anyone.
    pub(super) async fn settled(&self) {
        for person in &self.all {
            person.memory.until(|kept| kept.open == 0).await;
        }
        let heads = self.heads();
        for person in &self.all {
            person.memory.until(|kept| heads.iter().all(|(log, head)| kept.reached(*log) >= *head)).await;
        }
    }

    /// Figures for people.
    pub(super) fn state(&self) -> String {
        let (mut sends, mut acked, mut reconnects) = (0, 0, 0);
        for person in &self.all {
            person.memory.with(|kept| {
                sends += kept.sends.len();
                acked += kept.sends.iter().filter(|s| s.acked.is_some()).count();
                reconnects += kept.reconnects;
            });
        }
        format!("{acked} of {sends} sends acked, {reconnects} reconnections")
    }

    /// Every log from its beginning, by someone who knows nothing yet. What has not come after a while is not there.
    pub(super) async fn read_afresh(&self) -> anyhow::Result<BTreeMap<LogId, Vec<Seen>>> {
        let first = &self.all[0];
        let login = Accounts::new(&first.url)?.log_in(&first.name, PASSWORD).await?;
        let reader = Person { name: String::new(), url: first.url.clone(), login, memory: Arc::default() };
        let (client, events) = reader.connect(Codec::Proto)?;
        tokio::spawn(remember(events, reader.memory.clone()));
        let heads = self.heads();
        let whole = reader.memory.until(|kept| heads.iter().all(|(log, head)| kept.reached(*log) >= *head));
        let _ = tokio::time::timeout(Duration::from_secs(20), whole).await;
        client.close().await;
        Ok(reader.memory.with(|kept| self.conversations(kept)))
    }

    /// What everyone tells, and what was broken before anything is compared.
    pub(super) fn testimony(&self) -> (Vec<Witness>, Vec<String>) {
        let mut broken = Vec::new();
        let witnesses = self.all.iter().map(|person| {
            person.memory.with(|kept| {
                broken.extend(kept.broken.iter().map(|line| format!("{}: {line}", person.name)));
                let acked =
                    |s: &Sent| Some(Acked { log: s.log, client_id: s.client_id, seq: s.acked?, body: s.body.clone() });
                let acked = kept.sends.iter().filter_map(acked).collect();
                Witness { name: person.name.clone(), acked, seen: self.conversations(kept) }
            })
        });
        (witnesses.collect(), broken)
    }

    /// What was read of them; the log of a user is his own, and nobody to compare it with.
    fn conversations(&self, kept: &Kept) -> BTreeMap<LogId, Vec<Seen>> {
        kept.seen.iter().filter(|(log, _)| self.logs.contains(log)).map(|(log, seen)| (*log, seen.clone())).collect()
    }

    /// The last seq of each log that anyone was told of.
    fn heads(&self) -> BTreeMap<LogId, Seq> {
        let mut heads: BTreeMap<LogId, Seq> = self.logs.iter().map(|log| (*log, 1)).collect();
        for person in &self.all {
            person.memory.with(|kept| {
                for sent in &kept.sends {
                    let head = heads.entry(sent.log).or_default();
                    *head = sent.acked.unwrap_or(0).max(*head);
                }
            });
        }
        heads
    }
}

impl Person {
    fn connect(&self, codec: Codec) -> anyhow::Result<(Client, Events)> {
        let session = Session::new(Accounts::new(&self.url)?, self.login.clone());
        let mut config = Config::new(self.url.clone(), TokenSource::Session(Box::new(session)));
        config.codec = codec;
        config.start = Start::Beginning;
        config.connect_timeout = Duration::from_secs(5);
        config.backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1), ..Backoff::default() };
        Ok(Client::start(config)?)
    }
}

/// Conversations of all, made by the first.
async fn converse(client: &Client, all: &[Person], count: usize) -> anyhow::Result<Vec<LogId>> {
    let mut logs = Vec::new();
    for number in 0..count.max(1) {
        let create = NewConversation {
            title: Some(format!("faults {number}")),
            members: all[1..].iter().map(|person| person.login.user_id).collect(),
            history_visible: true,
            ..NewConversation::default()
        };
        let conversation = client.create(create).await.context("a conversation")?;
        logs.push(LogId::from_wire(&conversation.log_id).context("a log_id that is none")?);
    }
    Ok(logs)
}

struct Writer {
    client: Client,
    logs: Vec<LogId>,
    memory: Arc<Memory>,
    writing: watch::Receiver<bool>,
    pace: Duration,
    dice: StdRng,
}

impl Writer {
    async fn run(mut self, number: usize) {
        let room = Arc::new(Semaphore::new(OPEN_SENDS));
        for count in 1u64.. {
            if self.writing.wait_for(|on| *on).await.is_err() {
                return;
            }
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let log = self.logs[self.dice.random_range(0..self.logs.len())];
            let body = format!("{number}: message {count} ⛵");
            // Counted before it is sent, so that a settling between the two waits for it.
            self.memory.with(|kept| kept.open += 1);
            let sending = match self.client.send(log, body.clone()).await {
                Ok(sending) => sending,
                Err(error) => {
                    return self.memory.with(|kept| kept.broken.push(format!("a send was not taken: {error}")));
                }
            };
            let (place, client_id) = self.memory.with(|kept| {
                kept.sends.push(Sent { log, client_id: sending.client_id(), body, acked: None });
                (kept.sends.len() - 1, sending.client_id())
            });
            let memory = self.memory.clone();
            tokio::spawn(async move {
                let outcome = sending.await;
                memory.with(|kept| {
                    kept.open -= 1;
                    match outcome {
                        Ok(stored) => kept.sends[place].acked = Some(stored.seq),
                        Err(error) => kept.broken.push(format!("{client_id:?} was refused: {error}")),
                    }
                });
                drop(permit);
            });
            if self.dice.random_ratio(1, 200) {
                let _ = self.client.cut().await;
            }
            tokio::time::sleep(self.pace).await;
        }
    }
}

/// Takes down all that happens to one person.
async fn remember(mut events: Events, memory: Arc<Memory>) {
    while let Some(event) = events.next().await {
        memory.with(|kept| kept.take(event));
    }
}

impl Memory {
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let result = change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        result
    }

    async fn until(&self, reached: impl Fn(&Kept) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)) {
                return;
            }
            changed.await;
        }
    }
}

impl Kept {
    fn take(&mut self, event: Event) {
        match event {
            Event::Entry { log, entry } => {
                let body = match entry.content {
                    Some(Content::Message(message)) => message.body,
                    _ => None,
                };
                let client_id = ClientId::from_wire(&entry.client_id).unwrap_or(ClientId(uuid::Uuid::nil()));
                self.seen.entry(log).or_default().push(Seen { seq: entry.seq, client_id, body });
            }
            Event::Disconnected { why: Why::Cut | Why::ByUs, .. } => self.reconnects += 1,
            Event::Disconnected { why: why @ (Why::Hole { .. } | Why::Protocol(_)), .. } => {
                self.broken.push(why.to_string())
            }
            Event::Disconnected { retry_in: None, why } => self.broken.push(format!("did not come back: {why}")),
            Event::Disconnected { .. } => self.reconnects += 1,
            Event::Gap { .. } | Event::Trimmed { .. } | Event::Reset { .. } | Event::NotFound { .. } => {
                self.broken.push(format!("{event:?}"));
            }
            Event::Refused { client_id, failure, .. } => {
                self.broken.push(format!("{client_id:?} was refused: {failure}"))
            }
            _ => {}
        }
    }

    fn reached(&self, log: LogId) -> Seq {
        self.seen.get(&log).and_then(|seen| seen.last()).map_or(0, |entry| entry.seq)
    }
}
