//! What is shared by all of a replay: the rooms as conversations, the script of the cuts, and the counts.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use bowline_client::protocol::{LogId, UserId};
use bowline_client::{NewConversation, Why};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use super::Args;
use super::cast::{Cast, Person};
use crate::times::Times;
use crate::transcript::Transcript;

pub(crate) struct Stage {
    pub(crate) args: Args,
    pub(crate) transcript: Transcript,
    pub(crate) cast: Cast,
    pub(crate) acks: Times,
    pub(crate) deliveries: Times,
    /// From a cut to the end of the resume after it.
    pub(crate) comebacks: Times,
    pub(crate) cuts: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) connected: AtomicU64,
    /// Why a connection was last lost or not made, cuts apart.
    trouble: Mutex<String>,
    start: Instant,
    rooms: Vec<Room>,
    places: RwLock<HashMap<LogId, usize>>,
    authors: RwLock<HashMap<UserId, u32>>,
    sent: AtomicU64,
    delivered: AtomicU64,
    /// A cut follows each of these lines, counted over all rooms.
    cut_after: BTreeSet<u64>,
}

#[derive(Default)]
struct Room {
    log: OnceLock<LogId>,
    /// When each line was meant to be sent, in µs from the start.
    meant: Vec<AtomicU64>,
}

impl Stage {
    pub(crate) fn new(transcript: Transcript, args: Args) -> Self {
        let room = |room: &crate::transcript::Room| Room {
            log: OnceLock::new(),
            meant: room.lines.iter().map(|_| AtomicU64::new(0)).collect(),
        };
        let rooms = transcript.rooms.iter().map(room).collect();
        let lines = transcript.lines() as u64;
        let mut dice = StdRng::seed_from_u64(args.common.seed);
        let mut cut_after = BTreeSet::new();
        // More cuts than lines would mean several after one line.
        while (cut_after.len() as u64) < (args.cuts as u64).min(lines) {
            cut_after.insert(dice.random_range(1..=lines));
        }
        Self {
            cast: Cast::new(&args, transcript.authors.len()),
            args,
            transcript,
            acks: Times::new(),
            deliveries: Times::new(),
            comebacks: Times::new(),
            cuts: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            trouble: Mutex::default(),
            start: Instant::now(),
            rooms,
            places: RwLock::default(),
            authors: RwLock::default(),
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            cut_after,
        }
    }

    /// Plays one room from its first line to its last; each line after the ack of the one before.
    pub(crate) async fn play(self: &Arc<Self>, room: usize) -> anyhow::Result<()> {
        let script = &self.transcript.rooms[room];
        let mut joins = script.joins.iter().copied().peekable();
        let mut owner: Option<(Arc<Person>, LogId)> = None;
        let mut last_seq = 0;
        for (n, line) in script.lines.iter().enumerate() {
            let author = self.cast.person(self, line.author).await?;
            if joins.next_if(|(_, first)| *first == n).is_some() {
                owner = Some(self.admit(room, owner, &author).await.with_context(|| format!("room {}", script.name))?);
            }
            let log = owner.as_ref().map(|(_, log)| *log).context("a room begins with an author's first line")?;
            let meant = self.pace(script.due[n]).await;
            let us = meant.duration_since(self.start).as_micros() as u64;
            self.rooms[room].meant[n].store(us, Ordering::Release);
            let sending = author.client.send(log, line.body.as_str()).await?;
            let stored = sending.await.with_context(|| format!("room {}, line {n}", script.name))?;
            self.acks.record(meant.elapsed());
            ensure!(stored.seq > last_seq, "room {}, line {n}: acked seq {} after {last_seq}", script.name, stored.seq);
            last_seq = stored.seq;
            let sent = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
            if self.cut_after.contains(&sent) {
                self.cast.cut(self.args.common.seed.wrapping_add(sent)).await;
            }
        }
        Ok(())
    }

    /// The room's first author makes its conversation, and adds the others.
    async fn admit(
        &self,
        room: usize,
        owner: Option<(Arc<Person>, LogId)>,
        author: &Arc<Person>,
    ) -> anyhow::Result<(Arc<Person>, LogId)> {
        if let Some((owner, log)) = owner {
            owner.client.add(log, &[author.user]).await.context("adding a member")?;
            return Ok((owner, log));
        }
        let new = NewConversation {
            title: Some(self.transcript.rooms[room].name.clone()),
            history_visible: true,
            ..NewConversation::default()
        };
        let made = author.client.create(new).await.context("creating the conversation")?;
        let log = LogId::from_wire(&made.log_id).context("a conversation without an id")?;
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(log, room);
        let _ = self.rooms[room].log.set(log);
        Ok((Arc::clone(author), log))
    }

    /// Waits for a line's time, and gives it; without a speed it is now.
    async fn pace(&self, due: Duration) -> Instant {
        if self.args.speed == 0.0 {
            return Instant::now();
        }
        let at = self.start + due.div_f64(self.args.speed);
        sleep_until(at).await;
        at
    }

    pub(crate) fn enter(&self, user: UserId, author: u32) {
        self.authors.write().unwrap_or_else(PoisonError::into_inner).insert(user, author);
    }

    pub(crate) fn author(&self, user: UserId) -> Option<u32> {
        self.authors.read().unwrap_or_else(PoisonError::into_inner).get(&user).copied()
    }

    pub(crate) fn room(&self, log: LogId) -> Option<usize> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(&log).copied()
    }

    /// A reader saw the n-th line of a room; `live` if he was in the room when it was sent.
    pub(crate) fn saw(&self, room: usize, n: usize, live: bool) {
        let meant = Duration::from_micros(self.rooms[room].meant[n].load(Ordering::Acquire));
        if live {
            self.deliveries.record(self.start.elapsed().saturating_sub(meant));
        }
    }

    pub(crate) fn count_delivery(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_trouble(&self, why: &Why) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.to_string();
    }

    pub(crate) fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> String {
        format!(
            "{} of {} lines acked, {} of {} seen, {} on sockets, {} cuts, {} reconnects",
            self.sent(),
            self.transcript.lines(),
            self.delivered(),
            self.transcript.deliveries(),
            self.connected.load(Ordering::Relaxed),
            self.cuts.load(Ordering::Relaxed),
            self.reconnects.load(Ordering::Relaxed),
        )
    }
}
