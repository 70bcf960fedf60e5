//! The sockets of the scenario: senders that keep their times, readers that count.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::entry::Content;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{ClientId, UserId, wire};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Args;
use crate::people::Minting;
use crate::raw::{RawSocket, Target};
use crate::times::Times;

/// What all sockets count together.
pub(crate) struct Load {
    pub(crate) acks: Times,
    pub(crate) deliveries: Times,
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) refused: Mutex<BTreeMap<String, u64>>,
    bytes: usize,
    window: usize,
    /// Sends in all; none: as many as fit into the time.
    most: Option<u64>,
    /// Of these, those that senders with a window have taken upon themselves.
    taken: AtomicU64,
    start: Instant,
}

pub(crate) struct Conversation {
    log_id: Vec<u8>,
    sender: RawSocket,
    pub(crate) readers: Vec<RawSocket>,
}

/// A body begins with when it was meant to go, in µs from the start, as this many digits.
pub(crate) const STAMP_BYTES: usize = 16;

/// Makes the conversations, and connects all.
pub(crate) async fn prepare(args: &Args, minting: &Minting) -> anyhow::Result<Vec<Conversation>> {
    let patience = args.common.connect_timeout;
    let mut conversations = Vec::with_capacity(args.conversations);
    for c in 0..args.conversations {
        let target = Target::resolve(args.common.url(c)).await?;
        let readers: Vec<UserId> = (0..args.readers).map(|r| minting.user(&format!("reader {c} {r}"))).collect();
        let mut sender =
            RawSocket::connect(&target, &minting.token(minting.user(&format!("sender {c}")))?, patience).await?;
        let create = wire::ConversationCreate {
            client_id: ClientId::new().to_wire(),
            user_ids: readers.iter().map(|user| user.to_wire()).collect(),
            ..Default::default()
        };
        let id = sender.ask(Ask::ConversationCreate(create));
        let Push::Conversation(made) = sender.reply(id).await.context("creating a conversation")? else {
            anyhow::bail!("creating a conversation: another reply");
        };
        let mut sockets = Vec::with_capacity(readers.len());
        for (r, user) in readers.into_iter().enumerate() {
            let target = Target::resolve(args.common.url(c + r + 1)).await?;
            let mut socket = RawSocket::connect(&target, &minting.token(user)?, patience).await?;
            // Its conversation is followed once the snapshot names it.
            let mut heads = false;
            while !heads {
                socket.read(|frame| heads |= matches!(frame.kind, Some(Push::Heads(_)))).await?;
            }
            sockets.push(socket);
        }
        conversations.push(Conversation { log_id: made.log_id, sender, readers: sockets });
    }
    Ok(conversations)
}

/// Sends until `until`: by its turns, or as many at a time as the window allows. Then waits for what is open.
pub(crate) async fn send(
    load: Arc<Load>,
    mut conversation: Conversation,
    mut turns: Option<mpsc::Receiver<Instant>>,
    until: Instant,
) {
    let mut open: HashMap<u64, Instant> = HashMap::new();
    let mut meant: Vec<Instant> = Vec::new();
    loop {
        if turns.is_none() && Instant::now() < until {
            meant.extend((0..load.take(load.window.saturating_sub(open.len()))).map(|_| Instant::now()));
        }
        for at in meant.drain(..) {
            let id = conversation.sender.ask(Ask::Send(load.message(&conversation.log_id, at)));
            load.sent.fetch_add(1, Ordering::Relaxed);
            open.insert(id, at);
        }
        let read = tokio::select! {
            read = conversation.sender.read(|frame| load.answered(frame, &mut open)) => read,
            turn = next_turn(&mut turns) => {
                meant.extend(turn);
                let more = turns.as_mut().map(|turns| std::iter::from_fn(|| turns.try_recv().ok()));
                meant.extend(more.into_iter().flatten());
                Ok(())
            }
        };
        if read.is_err() {
            break;
        }
    }
    load.ended.fetch_add(1, Ordering::Relaxed);
}

/// Counts what arrives until the connection ends.
pub(crate) async fn read(load: Arc<Load>, mut socket: RawSocket) {
    while socket.read(|frame| load.arrived(frame)).await.is_ok() {}
    load.ended.fetch_add(1, Ordering::Relaxed);
}

/// The next turn; never, without a pacer or after its last.
async fn next_turn(turns: &mut Option<mpsc::Receiver<Instant>>) -> Option<Instant> {
    match turns {
        Some(receiver) => match receiver.recv().await {
            Some(turn) => Some(turn),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl Load {
    pub(crate) fn new(bytes: usize, window: usize, most: Option<u64>) -> Self {
        Self {
            acks: Times::new(),
            deliveries: Times::new(),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: Mutex::default(),
            bytes,
            window,
            most,
            taken: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Takes up to so many of the sends that are left.
    fn take(&self, most: usize) -> usize {
        let Some(all) = self.most else { return most };
        let before = self.taken.fetch_add(most as u64, Ordering::Relaxed);
        most.min(usize::try_from(all.saturating_sub(before)).unwrap_or(usize::MAX))
    }

    /// All that is to be sent has its answer.
    pub(crate) fn is_over(&self) -> bool {
        self.most.is_some_and(|most| self.acked.load(Ordering::Relaxed) + self.refusals() >= most)
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Every send is answered, and what was acked has reached every reader.
    pub(crate) fn settled(&self, readers: usize) -> bool {
        let acked = self.acked.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed) == acked + self.refusals()
            && self.delivered.load(Ordering::Relaxed) == acked * readers as u64
    }

    pub(crate) fn progress(&self, since: Duration) -> String {
        let (sent, acked) = (self.sent.load(Ordering::Relaxed), self.acked.load(Ordering::Relaxed));
        let rate = acked as f64 / since.as_secs_f64();
        format!("{sent} sent, {acked} acked ({rate:.0}/s), {} refused", self.refusals())
    }

    fn message(&self, log_id: &[u8], meant: Instant) -> wire::Send {
        let us = meant.saturating_duration_since(self.start).as_micros();
        let mut body = format!("{us:0STAMP_BYTES$}");
        body.extend(std::iter::repeat_n('.', self.bytes.saturating_sub(body.len())));
        wire::Send { log_id: log_id.to_vec(), client_id: ClientId::new().to_wire(), body, ..Default::default() }
    }

    fn answered(&self, frame: wire::ServerFrame, open: &mut HashMap<u64, Instant>) {
        let Some(meant) = frame.id.and_then(|id| open.remove(&id)) else { return };
        match frame.kind {
            Some(Push::Sent(_) | Push::Stored(_)) => {
                self.acks.record(meant.elapsed());
                self.acked.fetch_add(1, Ordering::Relaxed);
            }
            Some(Push::Error(error)) => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(error.name).or_default() += 1;
            }
            _ => {}
        }
    }

    fn arrived(&self, frame: wire::ServerFrame) {
        let Some(Push::Entries(entries)) = frame.kind else { return };
        for entry in entries.items {
            let Some(Content::Message(message)) = entry.content else { continue };
            let stamp = message.body.as_deref().and_then(|body| body.get(..STAMP_BYTES)?.parse().ok());
            if let Some(us) = stamp {
                self.deliveries.record(self.start.elapsed().saturating_sub(Duration::from_micros(us)));
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
