//! A thread that says when each thing of an open loop is to happen: a runtime's timers are too coarse to measure milliseconds
//! with.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) struct Pacer {
    every: Duration,
    count: u64,
    senders: Vec<mpsc::Sender<Instant>>,
}

/// Turns that wait for whoever takes them; beyond it the pacer waits, and its lateness shows.
const TURNS: usize = 65_536;

impl Pacer {
    /// The pacer, and the turns of each sender.
    pub(crate) fn new(rate: f64, senders: usize, duration: Duration) -> (Self, Vec<mpsc::Receiver<Instant>>) {
        let (senders, turns) = (0..senders).map(|_| mpsc::channel(TURNS)).unzip();
        let count = (rate * duration.as_secs_f64()).round() as u64;
        (Self { every: Duration::from_secs_f64(1.0 / rate), count, senders }, turns)
    }

    /// Gives turns in rotation; its result is the most that it was late.
    pub(crate) fn run(self) -> JoinHandle<Duration> {
        thread::spawn(move || {
            let start = Instant::now();
            let mut latest = Duration::ZERO;
            for n in 0..self.count {
                let meant = start + self.every.mul_f64(n as f64);
                let now = Instant::now();
                if meant > now {
                    thread::sleep(meant - now);
                } else {
                    latest = latest.max(now - meant);
                }
                let sender = &self.senders[n as usize % self.senders.len()];
                if sender.blocking_send(meant).is_err() {
                    break;
                }
            }
            latest
        })
    }
}
