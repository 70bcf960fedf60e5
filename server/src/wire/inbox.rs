//! How the rest of the server reaches a shard's thread.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_protocol::{Codec, LogId, Seq};
use bytes::Bytes;
use mio::Waker;
use tokio::sync::OwnedSemaphorePermit;

use crate::tail::{Entry, Page, Signal};

use super::config::Config;
use super::slab::Key;

/// A socket, wherever it is; names nothing once the socket has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub(super) shard: u16,
    pub(super) key: Key,
}

#[cfg(test)]
impl Address {
    /// One of many that differ.
    pub(crate) fn numbered(index: u32) -> Self {
        Self { shard: 0, key: Key { index, generation: 0 } }
    }
}

/// Mail for one shard. It wakes the shard only if that sleeps.
///
/// Bounds: sockets have a number (one over it is given back), entries a number and a size (of one over it the log's head is
/// kept, from which the shard reads pages, or knows what of a topic was lost); outcomes are bounded by open commands, pages by what the shard asked for;
/// signals over the bound are dropped, as they may be.
#[derive(Debug)]
pub(super) struct Inbox<T, D> {
    state: Mutex<State<T, D>>,
    waker: Waker,
    max_sockets: usize,
    max_entries: usize,
    max_entry_bytes: usize,
}

#[derive(Debug)]
struct State<T, D> {
    asleep: bool,
    /// Those who will wake the shard when they have brought all that they have.
    held: usize,
    mail: Mail<T, D>,
}

#[derive(Debug)]
pub(super) struct Mail<T, D> {
    pub sockets: Vec<Adopted<T>>,
    pub entries: Vec<(LogId, Arc<Entry>)>,
    entry_bytes: usize,
    pub heads: HashMap<LogId, Seq>,
    pub pages: Vec<Arrived>,
    pub done: Vec<(Key, D)>,
    pub signals: Vec<(LogId, Arc<Signal>)>,
    pub notices: Vec<Notice>,
}

/// A socket whose handshake is done, with the bytes that came behind it.
#[derive(Debug)]
pub(super) struct Adopted<T> {
    pub stream: TcpStream,
    pub read: Bytes,
    pub codec: Codec,
    pub ticket: T,
}

/// A page that was read. Until the shard has taken it, it counts as a read under way.
#[derive(Debug)]
pub(super) struct Arrived {
    pub log: LogId,
    pub page: Arc<Page>,
    pub _permit: Arc<OwnedSemaphorePermit>,
}

/// What concerns every socket of the shard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    EpochChanged,
    Drain { window: Duration },
    Stop,
}

const MAX_SIGNALS: usize = 1024;
/// Room that is kept for the next mail, of each kind; what a storm took beyond it is given back.
const KEPT_ROOM: usize = 1024;

impl<T, D> Inbox<T, D> {
    pub(super) fn new(waker: Waker, config: &Config) -> Self {
        let state = State { asleep: false, held: 0, mail: Mail::default() };
        Self {
            state: Mutex::new(state),
            waker,
            max_sockets: config.inbox_sockets,
            max_entries: config.inbox_entries,
            max_entry_bytes: config.tail_bytes,
        }
    }

    /// Gives the socket back when too many wait.
    pub(super) fn adopt(&self, adopted: Adopted<T>) -> Result<(), Adopted<T>> {
        let mut state = self.lock();
        if state.mail.sockets.len() >= self.max_sockets {
            return Err(adopted);
        }
        state.mail.sockets.push(adopted);
        self.wake(state);
        Ok(())
    }

    pub(super) fn publish(&self, log: LogId, entries: &[Arc<Entry>]) {
        let mut state = self.lock();
        for entry in entries {
            // One always has room, however large.
            let bytes = state.mail.entry_bytes + entry.bytes();
            let has_room = state.mail.entries.len() < self.max_entries && bytes <= self.max_entry_bytes;
            if has_room || state.mail.entries.is_empty() {
                state.mail.entry_bytes = bytes;
                state.mail.entries.push((log, Arc::clone(entry)));
            } else {
                state.mail.reached(log, entry.header().seq);
            }
        }
        self.wake(state);
    }

    pub(super) fn reached(&self, log: LogId, seq: Seq) {
        let mut state = self.lock();
        state.mail.reached(log, seq);
        self.wake(state);
    }

    pub(super) fn arrived(&self, arrived: Arrived) {
        let mut state = self.lock();
        state.mail.pages.push(arrived);
        self.wake(state);
    }

    pub(super) fn done(&self, key: Key, done: D) {
        let mut state = self.lock();
        state.mail.done.push((key, done));
        self.wake(state);
    }

    pub(super) fn signal(&self, log: LogId, signal: Arc<Signal>) {
        let mut state = self.lock();
        if state.mail.signals.len() < MAX_SIGNALS {
            state.mail.signals.push((log, signal));
            self.wake(state);
        }
    }

    pub(super) fn notice(&self, notice: Notice) {
        let mut state = self.lock();
        state.mail.notices.push(notice);
        self.wake(state);
    }

    /// Swaps the mail for an empty `mail`. With `sleep`: if nothing has come, the next mail wakes the shard; returns
    /// whether it may sleep.
    pub(super) fn take(&self, mail: &mut Mail<T, D>, sleep: bool) -> bool {
        let mut state = self.lock();
        mail.entry_bytes = 0;
        std::mem::swap(&mut state.mail, mail);
        state.asleep = sleep && mail.is_empty();
        state.asleep
    }

    fn lock(&self) -> MutexGuard<'_, State<T, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mail does not wake the shard until this is dropped; what came is then not left to wait for others who hold it.
    pub(super) fn hold(&self) -> Held<'_, T, D> {
        self.lock().held += 1;
        Held { inbox: self }
    }

    fn wake(&self, state: MutexGuard<'_, State<T, D>>) {
        if state.held == 0 {
            self.rouse(state);
        }
    }

    fn rouse(&self, mut state: MutexGuard<'_, State<T, D>>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        // Fails only when the shard's poll is gone, and then there is nobody to wake.
        if asleep && let Err(error) = self.waker.wake() {
            tracing::debug!(%error, "a shard could not be woken");
        }
    }
}

/// See [`Inbox::hold`].
pub(super) struct Held<'a, T, D> {
    inbox: &'a Inbox<T, D>,
}

impl<T, D> Drop for Held<'_, T, D> {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        state.held -= 1;
        if !state.mail.is_empty() {
            self.inbox.rouse(state);
        }
    }
}

impl<T, D> Mail<T, D> {
    fn reached(&mut self, log: LogId, seq: Seq) {
        let head = self.heads.entry(log).or_default();
        *head = seq.max(*head);
    }

    /// Everything was taken out.
    pub(super) fn give_back_room(&mut self) {
        self.sockets.shrink_to(KEPT_ROOM);
        self.entries.shrink_to(KEPT_ROOM);
        self.heads.shrink_to(KEPT_ROOM);
        self.pages.shrink_to(KEPT_ROOM);
        self.done.shrink_to(KEPT_ROOM);
        self.signals.shrink_to(KEPT_ROOM);
    }

    fn is_empty(&self) -> bool {
        self.sockets.is_empty()
            && self.entries.is_empty()
            && self.heads.is_empty()
            && self.pages.is_empty()
            && self.done.is_empty()
            && self.signals.is_empty()
            && self.notices.is_empty()
    }
}

impl<T, D> Default for Mail<T, D> {
    fn default() -> Self {
        Self {
            sockets: Vec::new(),
            entries: Vec::new(),
            entry_bytes: 0,
            heads: HashMap::new(),
            pages: Vec::new(),
            done: Vec::new(),
            signals: Vec::new(),
            notices: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocol::wire::TopicMessage;

    use super::*;

    /// The seqs of the entries that wait, and the heads of what did not.
    fn take(inbox: &Inbox<(), ()>) -> (Vec<Seq>, Vec<Seq>) {
        let mut mail = Mail::default();
        inbox.take(&mut mail, false);
        (mail.entries.iter().map(|(_, entry)| entry.header().seq).collect(), mail.heads.into_values().collect())
    }

    #[test]
    fn entries_wait_up_to_a_number_and_a_size() {
        let poll = mio::Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let config = Config { inbox_entries: 3, tail_bytes: 10_000, ..Config::default() };
        let (inbox, log) = (Inbox::new(waker, &config), LogId::new());
        let publish = |seq, bytes| {
            let message = TopicMessage { seq, body: "x".repeat(bytes), ..TopicMessage::default() };
            inbox.publish(log, &[Entry::of_topic(message)]);
        };
        (1..=5).for_each(|seq| publish(seq, 1));
        assert_eq!(take(&inbox), (vec![1, 2, 3], vec![5]), "a number");
        (6..=9).for_each(|seq| publish(seq, 4_000));
        assert_eq!(take(&inbox), (vec![6, 7], vec![9]), "a size");
        publish(10, 20_000);
        assert_eq!(take(&inbox), (vec![10], vec![]), "one has room");
    }

    #[test]
    fn what_is_brought_together_wakes_a_sleeper_once() {
        let mut poll = mio::Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let inbox: Inbox<(), ()> = Inbox::new(waker, &Config::default());
        let mut events = mio::Events::with_capacity(4);
        let mut woken = || {
            poll.poll(&mut events, Some(Duration::ZERO)).expect("a look");
            !events.is_empty()
        };
        assert!(inbox.take(&mut Mail::default(), true), "it sleeps");
        let (one, other) = (inbox.hold(), inbox.hold());
        inbox.reached(LogId::new(), 1);
        inbox.notice(Notice::Stop);
        assert!(!woken(), "more may come");
        drop(one);
        assert!(woken(), "what came is not left to wait for another one who brings");
        inbox.reached(LogId::new(), 2);
        drop(other);
        assert!(!woken(), "it is awake");
        assert!(inbox.take(&mut Mail::default(), false) || inbox.take(&mut Mail::default(), true));
        drop(inbox.hold());
        assert!(!woken(), "nothing was brought");
    }
}
