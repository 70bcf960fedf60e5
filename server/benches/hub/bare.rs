//! The reference: one thread that writes ready-made frames to sockets, and does nothing else.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token, Waker};

pub(crate) struct Bare {
    inbox: Arc<Mutex<Vec<(usize, Bytes)>>>,
    waker: Waker,
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
        let inbox = Arc::new(Mutex::new(Vec::new()));
        let mut followers = vec![Vec::new(); topics];
        let mut sockets = Vec::new();
        for (i, (stream, topics)) in streams.into_iter().enumerate() {
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(i), Interest::WRITABLE)?;
            topics.into_iter().for_each(|topic| followers[topic].push(i));
            sockets.push(Socket { stream, waits: VecDeque::new() });
        }
        let mail = Arc::clone(&inbox);
        std::thread::Builder::new().name("bare".into()).spawn(move || run(poll, &mail, &followers, sockets))?;
        Ok(Self { inbox, waker })
    }

    pub(crate) fn publish(&self, topic: usize, frame: Bytes) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push((topic, frame));
        if let Err(error) = self.waker.wake() {
            panic!("the bare writer is gone: {error}");
        }
    }
}

fn run(mut poll: Poll, inbox: &Mutex<Vec<(usize, Bytes)>>, followers: &[Vec<usize>], mut sockets: Vec<Socket>) {
    let mut events = Events::with_capacity(1024);
    while poll.poll(&mut events, None).is_ok() {
        for event in events.iter().filter(|event| event.token() != WAKE) {
            sockets[event.token().0].flush();
        }
        let mail = std::mem::take(&mut *inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for (topic, frame) in mail {
            for socket in &followers[topic] {
                sockets[*socket].write(&frame);
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
