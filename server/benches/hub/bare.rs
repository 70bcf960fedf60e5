//! The reference: one thread that writes ready-made frames to sockets, and does nothing else.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token, Waker};

pub(crate) struct Bare {
    frames: Option<Sender<(usize, Bytes)>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

struct Socket {
    stream: mio::net::TcpStream,
    waits: VecDeque<Bytes>,
}

const WAKE: Token = Token(usize::MAX);

impl Bare {
    /// Takes the sockets, each with the topics that it follows.
    pub(crate) fn start(streams: Vec<(TcpStream, Vec<usize>)>, topics: usize) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (frames, inbox) = channel();
        let mut followers = vec![Vec::new(); topics];
        let mut sockets = Vec::new();
        for (i, (stream, topics)) in streams.into_iter().enumerate() {
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(i), Interest::WRITABLE)?;
            topics.into_iter().for_each(|topic| followers[topic].push(i));
            sockets.push(Socket { stream, waits: VecDeque::new() });
        }
        let thread = Builder::new().name("bare".into()).spawn(move || run(poll, &inbox, &followers, sockets))?;
        Ok(Self { frames: Some(frames), waker, thread: Some(thread) })
    }

    pub(crate) fn publish(&self, topic: usize, frame: Bytes) {
        let sent = self.frames.as_ref().map(|frames| frames.send((topic, frame)));
        assert!(matches!(sent, Some(Ok(()))) && self.waker.wake().is_ok(), "the bare writer is gone");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.frames = None;
        if self.waker.wake().is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn run(mut poll: Poll, inbox: &Receiver<(usize, Bytes)>, followers: &[Vec<usize>], mut sockets: Vec<Socket>) {
    let mut events = Events::with_capacity(1024);
    while poll.poll(&mut events, None).is_ok() {
        for event in events.iter().filter(|event| event.token() != WAKE) {
            sockets[event.token().0].flush();
        }
        loop {
            match inbox.try_recv() {
                Ok((topic, frame)) => followers[topic].iter().for_each(|socket| sockets[*socket].write(&frame)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

impl Socket {
    fn write(&mut self, frame: &Bytes) {
        if self.waits.is_empty() {
            match self.stream.write(frame) {
                Ok(n) if n == frame.len() => {}
                Ok(n) => self.waits.push_back(frame.slice(n..)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.waits.push_back(frame.clone()),
                // The reader has gone; its deliveries will be missed.
                Err(_) => {}
            }
        } else {
            self.waits.push_back(frame.clone());
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
