//! The crowd: who follows what, the sockets, and what each has seen.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::entry::Content;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{ClientId, LogId, Seq, UserId, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Args;
use crate::people::Minting;
use crate::progress::Progress;
use crate::raw::{RawSocket, Target};
use crate::times::Times;

pub(crate) struct Crowd {
    pub(crate) acks: Times,
    pub(crate) deliveries: Times,
    pub(crate) acked: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// Entries that came although they had been seen, or were missing in between.
    pub(crate) wrong: AtomicU64,
    pub(crate) lost_sockets: AtomicU64,
    pub(crate) present: AtomicU64,
    /// Deliveries that the acked messages come to.
    pub(crate) due: AtomicU64,
    /// How many of the crowd are in each conversation.
    members: Vec<u64>,
    start: Instant,
}

/// One socket that sends for its share of the conversations.
pub(crate) struct Sender {
    socket: RawSocket,
    logs: HashMap<usize, LogId>,
}

/// Sockets that send; few, so that they are no part of what is measured.
const SENDERS: usize = 4;
/// Connects under way at a time.
const ENTRANCE: usize = 64;
/// Sockets of one source address: the ports of one address are few.
const PER_SOURCE: usize = 2_000;
const TURNS: usize = 1_024;
/// What a server lets one command name.
const MEMBERS: usize = 1_000;
const STAMP_BYTES: usize = 16;
const BODY_BYTES: usize = 128;

/// Makes the conversations with all their members, none of whom is there yet.
pub(crate) async fn found(args: &Args, minting: &Minting) -> anyhow::Result<Vec<Sender>> {
    let mut members: Vec<Vec<UserId>> = vec![Vec::new(); args.conversations];
    for socket in 0..args.sockets {
        for conversation in follows(args, socket) {
            members[conversation].push(minting.user(&format!("socket {socket}")));
        }
    }
    let most = members.iter().map(Vec::len).max().unwrap_or(0);
    ensure!(most <= MEMBERS, "{most} members in a conversation; a command names at most {MEMBERS}");
    let target = Target::resolve(args.common.url(0)).await?;
    let mut senders = Vec::with_capacity(SENDERS);
    for sender in 0..SENDERS.min(args.conversations) {
        let token = minting.token(minting.user(&format!("sender {sender}")))?;
        senders.push(Sender { socket: RawSocket::connect(&target, &token, None).await?, logs: HashMap::new() });
    }
    let mut progress = Progress::new(args.conversations as u64);
    for (conversation, users) in members.iter().enumerate() {
        let by = conversation % senders.len();
        let log = senders[by].create(users).await.context("making the conversations")?;
        senders[by].logs.insert(conversation, log);
        progress.tell(conversation as u64, || format!("{conversation} conversations made"));
    }
    progress.end();
    Ok(senders)
}

/// Connects all sockets; each waits from then on.
pub(crate) async fn enter(
    args: &Args,
    minting: &Minting,
    crowd: &Arc<Crowd>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for url in &args.common.urls {
        targets.push(Target::resolve(url).await?);
    }
    let mut progress = Progress::new(args.sockets as u64);
    let mut entering: JoinSet<anyhow::Result<Socket>> = JoinSet::new();
    let mut next = 0;
    while next < args.sockets || !entering.is_empty() {
        while next < args.sockets && entering.len() < ENTRANCE {
            let token = minting.token(minting.user(&format!("socket {next}")))?;
            let target = targets[next % targets.len()].clone();
            let source = Ipv4Addr::new(127, 1, (next / PER_SOURCE / 250) as u8, (next / PER_SOURCE % 250) as u8 + 1);
            let followed = args.follow;
            entering.spawn(Socket::enter(target, token, source, followed));
            next += 1;
        }
        if let Some(socket) = entering.join_next().await {
            let socket = socket?.with_context(|| format!("after {} sockets", crowd.present.load(Ordering::Relaxed)))?;
            tasks.spawn(socket.watch(Arc::clone(crowd)));
            let present = crowd.present.fetch_add(1, Ordering::Relaxed) + 1;
            progress.tell(present, || format!("{present} sockets connected"));
        }
    }
    progress.end();
    Ok(())
}

/// The conversations of a socket: neighbours, so that each has as many members as any other.
fn follows(args: &Args, socket: usize) -> impl Iterator<Item = usize> {
    let (first, conversations) = (socket * args.follow, args.conversations);
    (0..args.follow).map(move |n| (first + n) % conversations)
}

/// A socket of the crowd, with its place in each conversation.
struct Socket {
    raw: RawSocket,
    places: Vec<(LogId, Seq)>,
}

impl Socket {
    async fn enter(target: Target, token: String, source: Ipv4Addr, follow: usize) -> anyhow::Result<Self> {
        let mut raw = RawSocket::connect(&target, &token, Some(source)).await?;
        let mut places = Vec::with_capacity(follow);
        let mut more = true;
        while more {
            raw.read(|frame| {
                if let Some(Push::Heads(heads)) = frame.kind {
                    let items = heads.items.iter().filter_map(|h| Some((LogId::from_wire(&h.log_id)?, h.last_seq)));
                    places.extend(items);
                    more = heads.more;
                }
            })
            .await?;
        }
        ensure!(places.len() == follow, "follows {} conversations, not {follow}", places.len());
        Ok(Self { raw, places })
    }

    async fn watch(mut self, crowd: Arc<Crowd>) {
        while self.raw.read(|frame| arrived(&mut self.places, &crowd, frame)).await.is_ok() {}
        crowd.lost_sockets.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a frame, by the rules of position, strictly.
fn arrived(places: &mut [(LogId, Seq)], crowd: &Crowd, frame: wire::ServerFrame) {
    let Some(Push::Entries(entries)) = frame.kind else { return };
    let log = LogId::from_wire(&entries.log_id);
    let Some((_, place)) = places.iter_mut().find(|(id, _)| Some(*id) == log) else { return };
    if entries.after_seq > *place {
        crowd.wrong.fetch_add(1, Ordering::Relaxed);
    }
    for entry in entries.items {
        if entry.seq <= *place {
            crowd.wrong.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        *place = entry.seq;
        if let Some(Content::Message(message)) = entry.content {
            crowd.delivered.fetch_add(1, Ordering::Relaxed);
            crowd.saw(message.body.as_deref().unwrap_or_default());
        }
    }
    *place = (*place).max(entries.to_seq);
}

impl Crowd {
    pub(crate) fn new(args: &Args) -> Self {
        let mut members = vec![0; args.conversations];
        for conversation in (0..args.sockets).flat_map(|socket| follows(args, socket)) {
            members[conversation] += 1;
        }
        Self {
            acks: Times::new(),
            deliveries: Times::new(),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            lost_sockets: AtomicU64::new(0),
            present: AtomicU64::new(0),
            due: AtomicU64::new(0),
            members,
            start: Instant::now(),
        }
    }

    /// All that was sent is answered, and has reached everybody.
    pub(crate) fn settled(&self, sent: u64) -> bool {
        self.acked.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed) == sent
            && self.delivered.load(Ordering::Relaxed) == self.due.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> String {
        let (acked, delivered) = (self.acked.load(Ordering::Relaxed), self.delivered.load(Ordering::Relaxed));
        format!("{acked} acked, {delivered} delivered, {} sockets lost", self.lost_sockets.load(Ordering::Relaxed))
    }

    /// The body begins with when it was meant to go.
    fn message(&self, log: LogId, meant: Instant) -> wire::Send {
        let us = meant.saturating_duration_since(self.start).as_micros();
        let body = format!("{us:0STAMP_BYTES$}{:.<1$}", "", BODY_BYTES - STAMP_BYTES);
        wire::Send { log_id: log.to_wire(), client_id: ClientId::new().to_wire(), body, ..Default::default() }
    }

    fn answered(&self, frame: wire::ServerFrame, open: &mut HashMap<u64, (usize, Instant)>) {
        let Some((conversation, meant)) = frame.id.and_then(|id| open.remove(&id)) else { return };
        match frame.kind {
            Some(Push::Sent(_) | Push::Stored(_)) => {
                self.acks.record(meant.elapsed());
                self.due.fetch_add(self.members[conversation], Ordering::Relaxed);
                self.acked.fetch_add(1, Ordering::Relaxed);
            }
            _ => _ = self.refused.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn saw(&self, body: &str) {
        if let Some(us) = body.get(..STAMP_BYTES).and_then(|stamp| stamp.parse().ok()) {
            self.deliveries.record(self.start.elapsed().saturating_sub(Duration::from_micros(us)));
        }
    }
}

impl Sender {
    async fn create(&mut self, users: &[UserId]) -> anyhow::Result<LogId> {
        let create = wire::ConversationCreate {
            client_id: ClientId::new().to_wire(),
            user_ids: users.iter().map(|user| user.to_wire()).collect(),
            ..Default::default()
        };
        let id = self.socket.ask(Ask::ConversationCreate(create));
        match self.socket.reply(id).await? {
            Push::Conversation(made) => LogId::from_wire(&made.log_id).context("a conversation without an id"),
            _ => bail!("another reply"),
        }
    }

    /// Sends what it is told to; gives where to tell it.
    pub(crate) fn spawn(self, crowd: Arc<Crowd>, tasks: &mut JoinSet<()>) -> mpsc::Sender<(usize, Instant)> {
        let (turns, taken) = mpsc::channel(TURNS);
        tasks.spawn(async move {
            let sent = self.run(&crowd, taken).await;
            if let Err(error) = sent {
                tracing::error!("a sender ended: {error:#}");
                crowd.lost_sockets.fetch_add(1, Ordering::Relaxed);
            }
        });
        turns
    }

    async fn run(mut self, crowd: &Crowd, mut turns: mpsc::Receiver<(usize, Instant)>) -> anyhow::Result<()> {
        let mut open: HashMap<u64, (usize, Instant)> = HashMap::new();
        loop {
            tokio::select! {
                turn = turns.recv() => {
                    let Some((conversation, meant)) = turn else { return Ok(()) };
                    let log = self.logs.get(&conversation).context("a conversation of another sender")?;
                    let id = self.socket.ask(Ask::Send(crowd.message(*log, meant)));
                    open.insert(id, (conversation, meant));
                            }
                read = self.socket.read(|frame| crowd.answered(frame, &mut open)) => read?,
            }
        }
    }
}
