//! The shards as the rest of the server sees them.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bowline_protocol::wire::{self, ServerFrame, TopicMessage};
use bowline_protocol::{Close, Codec, LogId, Seq, UserId};
use bytes::Bytes;
use mio::{Poll, Waker};
use socket2::{SockRef, TcpKeepalive};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::tail::{Entry, PageSource, Signal};
use crate::telemetry::Metrics;

use super::application::Application;
use super::close::turn_away;
use super::config::Config;
use super::fanout::Fanouts;
use super::fetch;
use super::inbox::{Address, Adopted, Inbox, Notice};
use super::io::Out;
use super::metrics::{Counts, Tally};
use super::registry::{MAX_SHARDS, Registry};
use super::shard::{Shard, WAKE};
use super::slab::Slab;
use super::sweep::Sweep;

/// All shards of a node; cheap to clone. No call waits.
pub struct Shards<A: Application> {
    inner: Arc<Inner<A>>,
}

struct Inner<A: Application> {
    inboxes: Vec<Arc<Inbox<A::Ticket, A::Done>>>,
    registry: Arc<Registry>,
    config: Arc<Config>,
    counts: Counts,
    next: AtomicUsize,
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a socket was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("too many new sockets wait")]
    Overloaded,
    #[error("the server goes away")]
    Draining,
    #[error("the socket could not be set up")]
    Broken(#[from] io::Error),
}

const KEEPALIVE: Duration = Duration::from_secs(60);

impl<A: Application> Shards<A> {
    /// Starts the threads. `make_app` makes the application of each shard; pages are read from `source` on `runtime`.
    pub fn start<S: PageSource>(
        config: Config,
        source: S,
        runtime: &Handle,
        metrics: &Metrics,
        mut make_app: impl FnMut(&Self) -> A,
    ) -> io::Result<Self> {
        let shards = config.shards.clamp(1, MAX_SHARDS);
        let config = Arc::new(config);
        let polls = (0..shards).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let mut inboxes = Vec::new();
        for poll in &polls {
            let waker = Waker::new(poll.registry(), WAKE)?;
            inboxes.push(Arc::new(Inbox::new(waker, &config)));
        }
        let (asks, asked) = mpsc::unbounded_channel();
        runtime.spawn(fetch::serve(source, asked, inboxes.clone(), config.page_reads));
        let inner = Inner {
            inboxes,
            registry: Arc::new(Registry::new(Instant::now())),
            counts: Counts::new(metrics),
            config: Arc::clone(&config),
            next: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
        };
        let this = Self { inner: Arc::new(inner) };
        let mut threads = Vec::new();
        for (index, poll) in polls.into_iter().enumerate() {
            let shard = Shard {
                app: make_app(&this),
                index: index as u16,
                poll,
                inbox: Arc::clone(&this.inner.inboxes[index]),
                registry: Arc::clone(&this.inner.registry),
                asks: asks.clone(),
                counts: this.inner.counts.clone(),
                tally: Tally::default(),
                slots: Slab::new(),
                fanouts: Fanouts::new(config.tail_bytes),
                serving: VecDeque::new(),
                outcomes: VecDeque::new(),
                closing: VecDeque::new(),
                orders: VecDeque::new(),
                out: Out::default(),
                scratch: Vec::new(),
                read_buffer: vec![0; config.read_buffer_bytes],
                made: 0,
                sweep: Sweep::new(&config, Instant::now()),
                drain: None,
                stopped: false,
                config: Arc::clone(&config),
            };
            threads.push(std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run())?);
        }
        this.threads().extend(threads);
        Ok(this)
    }

    /// Takes a socket whose handshake is done. `read`: what came behind the handshake. One that is refused is told by a
    /// close frame, as far as its kernel's buffer takes it at once.
    pub fn adopt(&self, stream: TcpStream, read: Bytes, codec: Codec, ticket: A::Ticket) -> Result<(), Refused> {
        if self.inner.draining.load(Ordering::Relaxed) {
            turn_away(stream, Close::Drain);
            return Err(Refused::Draining);
        }
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_notsent_lowat(self.inner.config.notsent_lowat_bytes)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        let shard = self.inner.next.fetch_add(1, Ordering::Relaxed) % self.inner.inboxes.len();
        let adopted = Adopted { stream, read, codec, ticket };
        self.inner.inboxes[shard].adopt(adopted).map_err(|adopted| {
            self.inner.counts.refused.inc();
            turn_away(adopted.stream, Close::Overloaded);
            Refused::Overloaded
        })
    }

    /// Runs `f`. A shard that sleeps is woken once for all that `f` brings to it.
    pub fn together(&self, f: impl FnOnce()) {
        let _held: Vec<_> = self.inner.inboxes.iter().map(|inbox| inbox.hold()).collect();
        f();
    }

    /// Committed entries of one log, in seq order. They are encoded only if somebody here follows the log.
    pub fn publish(&self, log: LogId, entries: &[wire::Entry]) {
        let Some(last) = entries.last() else { return };
        let shards = self.inner.registry.reached(log, last.seq, Instant::now());
        if shards.is_empty() {
            return;
        }
        let entries: Vec<_> = entries.iter().map(|entry| Entry::new(log, entry)).collect();
        for shard in shards.iter() {
            self.inner.inboxes[shard].publish(log, &entries);
        }
    }

    /// A message for who subscribes to a topic on this node; for nobody it is not even made.
    pub fn publish_topic(&self, topic: String, sender: UserId, body: String) {
        let registry = &self.inner.registry;
        let message = |seq| TopicMessage { topic: topic.clone(), seq, sender_id: sender.to_wire(), body };
        registry.named.publish(&topic, |log, seq, shards| {
            let entry = Entry::of_topic(message(seq));
            for shard in shards.iter() {
                self.inner.inboxes[shard].publish(log, std::slice::from_ref(&entry));
            }
        });
    }

    /// The log has reached `seq`, whatever is in it. Brings nothing to who knows.
    pub fn head(&self, log: LogId, seq: Seq) {
        for shard in self.inner.registry.reached(log, seq, Instant::now()).iter() {
            self.inner.inboxes[shard].reached(log, seq);
        }
    }

    /// A frame for those followers of a log who are level and can take it now; nobody else ever gets it.
    pub fn signal(&self, log: LogId, frame: ServerFrame) {
        let shards = self.inner.registry.shards(log);
        if shards.is_empty() {
            return;
        }
        let signal = Signal::new(frame);
        for shard in shards.iter() {
            self.inner.inboxes[shard].signal(log, Arc::clone(&signal));
        }
    }

    /// The outcome of work for a socket; dropped if it has closed.
    pub fn complete(&self, address: Address, done: A::Done) {
        self.inner.inboxes[usize::from(address.shard)].done(address.key, done);
    }

    /// Drops what is in memory of the logs, and closes all sockets with reconnect-and-resume.
    pub fn epoch_changed(&self) {
        self.notice(Notice::EpochChanged);
    }

    /// Takes no more sockets, and closes each at its own time within the window.
    pub fn drain(&self, window: Duration) {
        self.inner.draining.store(true, Ordering::Relaxed);
        self.notice(Notice::Drain { window });
    }

    /// Sockets that are open, closing ones included.
    pub fn sockets(&self) -> usize {
        usize::try_from(self.inner.counts.sockets.get()).unwrap_or(0)
    }

    /// Ends the threads and drops what is still open. Waits for them.
    pub fn stop(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
        self.notice(Notice::Stop);
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard had panicked");
            }
        }
    }

    fn notice(&self, notice: Notice) {
        self.inner.inboxes.iter().for_each(|inbox| inbox.notice(notice));
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Application> Clone for Shards<A> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}
