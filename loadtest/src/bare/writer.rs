//! The thread that writes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use anyhow::Context as _;
use bytes::Bytes;
use mio::{Events, Interest, Poll, Token, Waker};

pub(super) enum Told {
    /// One socket more; they are counted from 0.
    Socket(TcpStream),
    Follow {
        topic: usize,
        socket: usize,
    },
    Frame {
        topic: usize,
        frame: Bytes,
    },
}

pub(super) struct Writer {
    told: Sender<Told>,
    waker: Waker,
}

struct Socket {
    stream: mio::net::TcpStream,
    waits: VecDeque<Bytes>,
}

/// Its name, by which its processor time is found; the kernel keeps 15 letters.
pub(super) const THREAD: &str = "bare-writer";
const WAKE: Token = Token(usize::MAX);
/// A reader for whom more frames wait has fallen behind for good, and gets no more. A queue a reader is what the bare writer has and
/// the hub has not.
const WAITING: usize = 200_000;

impl Writer {
    pub(super) fn start() -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (told, inbox) = channel();
        thread::Builder::new().name(THREAD.into()).spawn(move || run(poll, &inbox))?;
        Ok(Self { told, waker })
    }

    pub(super) fn tell(&self, told: Told) -> anyhow::Result<()> {
        self.told.send(told).ok().context("the writer has ended")?;
        Ok(self.waker.wake()?)
    }
}

fn run(mut poll: Poll, inbox: &Receiver<Told>) {
    let mut events = Events::with_capacity(1_024);
    let (mut sockets, mut followers) = (Vec::<Socket>::new(), Vec::<Vec<usize>>::new());
    while poll.poll(&mut events, None).is_ok() {
        for event in events.iter().filter(|event| event.token() != WAKE) {
            sockets[event.token().0].flush();
        }
        loop {
            match inbox.try_recv() {
                Ok(Told::Frame { topic, frame }) => {
                    for socket in followers.get(topic).into_iter().flatten() {
                        sockets[*socket].write(&frame);
                    }
                }
                Ok(Told::Socket(stream)) => {
                    let mut stream = mio::net::TcpStream::from_std(stream);
                    // One that can't be watched still gets what can be written at once.
                    let _ = poll.registry().register(&mut stream, Token(sockets.len()), Interest::WRITABLE);
                    sockets.push(Socket { stream, waits: VecDeque::new() });
                }
                Ok(Told::Follow { topic, socket }) => {
                    followers.resize_with(followers.len().max(topic + 1), Vec::new);
                    followers[topic].push(socket);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

impl Socket {
    fn write(&mut self, frame: &Bytes) {
        if !self.waits.is_empty() {
            if self.waits.len() < WAITING {
                self.waits.push_back(frame.clone());
            }
            return;
        }
        match self.stream.write(frame) {
            Ok(n) if n == frame.len() => {}
            Ok(n) => self.waits.push_back(frame.slice(n..)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.waits.push_back(frame.clone()),
            // The reader has gone; its deliveries will be missed.
            Err(_) => {}
        }
    }

    fn flush(&mut self) {
        while let Some(frame) = self.waits.front_mut() {
            match self.stream.write(frame) {
                Ok(n) if n == frame.len() => drop(self.waits.pop_front()),
                Ok(n) => drop(frame.split_to(n)),
                Err(_) => return,
            }
        }
    }
}
