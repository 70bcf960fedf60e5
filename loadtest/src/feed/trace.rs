//! What the servers say of their feed meanwhile: breakers as they change, fallbacks under way, and what became of requests to
//! the cache. A thread reads their metrics several times a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::sample::Rate;
use crate::sample::metrics::{self, label, samples};
use crate::timeline::{Plot, Timeline};

pub(super) struct Trace {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Told>,
}

/// All that was seen. The keys are documented in docs/loadtest.md.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Told {
    /// Times that the metrics were read.
    pub(super) looks: u64,
    /// How breakers changed, in order, as far as a look saw it.
    pub(super) breakers: Vec<Change>,
    pub(super) fallback_inside_max: f64,
    /// By how much each count has risen, by its label.
    pub(super) breaker_opened: BTreeMap<String, f64>,
    pub(super) breaker_refused: BTreeMap<String, f64>,
    pub(super) cache: BTreeMap<String, f64>,
    #[serde(skip)]
    states: BTreeMap<(usize, String), State>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    /// Since the trace began, which the pages do at the same time.
    at_s: f64,
    /// Which of the servers, counted from 0.
    server: usize,
    breaker: String,
    before: State,
    after: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Closed,
    HalfOpen,
    Open,
}

/// What a server's metrics say at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Look {
    states: BTreeMap<String, f64>,
    inside: Option<f64>,
    opened: BTreeMap<String, f64>,
    refused: BTreeMap<String, f64>,
    cache: BTreeMap<String, f64>,
}

/// Of the caches of a server, the feed's.
const CACHE: &str = "feed";

impl Trace {
    pub(super) fn start(urls: Vec<String>, every: Duration, timeline: Arc<Timeline>) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("trace".into()).spawn(move || {
            let began_s = timeline.now_s();
            let mut watching = Watching { began_s, timeline, ..Watching::default() };
            let start = Instant::now();
            for n in 1.. {
                watching.look(&urls);
                // A look that took longer than this leaves out the ones that it missed.
                let due = (start + every * n).max(Instant::now());
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            watching.look(&urls);
            watching.told
        })?;
        Ok(Self { stop, thread })
    }

    /// Nothing where no server gave its metrics.
    pub(super) fn stop(self) -> Option<Told> {
        let _ = self.stop.send(());
        self.thread.join().ok().filter(|told| told.looks > 0)
    }
}

/// A thread's own.
struct Watching {
    /// On the timeline.
    began_s: f64,
    timeline: Arc<Timeline>,
    told: Told,
    first: BTreeMap<usize, Look>,
    last: BTreeMap<usize, Look>,
    rates: BTreeMap<String, Rate>,
}

impl Default for Watching {
    fn default() -> Self {
        let timeline = Arc::new(Timeline::new());
        let (first, last, rates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { began_s: 0.0, timeline, told: Told::default(), first, last, rates }
    }
}

impl Watching {
    fn look(&mut self, urls: &[String]) {
        for (server, url) in urls.iter().enumerate() {
            let Some(text) = metrics::fetch(url) else { continue };
            self.take(self.timeline.now_s() - self.began_s, server, Look::read(&text));
        }
        let timeline = Arc::clone(&self.timeline);
        for ((_, breaker), state) in &self.told.states {
            timeline.point(Plot::BREAKERS, breaker.clone(), f64::from(*state as u8));
        }
        if let Some(inside) = self.last.values().map(|look| look.inside).reduce(|a, b| Some(a? + b?)).flatten() {
            timeline.point(Plot::FALLBACK, "under way", inside);
        }
        let rates = [(Plot::CACHE, &self.told.cache), (Plot::REFUSED, &self.told.breaker_refused)];
        for (plot, counts) in rates {
            for (name, count) in counts {
                if let Some(rate) = self.rates.entry(format!("{} {name}", plot.title)).or_default().of(*count) {
                    timeline.point(plot, name.clone(), rate);
                }
            }
        }
    }

    fn take(&mut self, at_s: f64, server: usize, look: Look) {
        self.told.looks += 1;
        for (breaker, value) in &look.states {
            let Some(after) = State::of(*value) else { continue };
            let before = self.told.states.insert((server, breaker.clone()), after).unwrap_or(State::Closed);
            if before != after {
                self.told.breakers.push(Change { at_s, server, breaker: breaker.clone(), before, after });
            }
        }
        self.first.entry(server).or_insert_with(|| look.clone());
        self.last.insert(server, look);
        let inside: f64 = self.last.values().filter_map(|look| look.inside).sum();
        self.told.fallback_inside_max = self.told.fallback_inside_max.max(inside);
        self.told.breaker_opened = self.risen(|look| &look.opened);
        self.told.breaker_refused = self.risen(|look| &look.refused);
        self.told.cache = self.risen(|look| &look.cache);
    }

    /// A server that began anew counts from nothing.
    fn risen(&self, of: fn(&Look) -> &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
        let mut risen = BTreeMap::new();
        for (server, last) in &self.last {
            for (name, count) in of(last) {
                let first = self.first.get(server).and_then(|look| of(look).get(name)).copied().unwrap_or(0.0);
                let by = if *count >= first { count - first } else { *count };
                *risen.entry(name.clone()).or_insert(0.0) += by;
            }
        }
        risen
    }
}

impl Look {
    fn read(text: &str) -> Self {
        let by = |name: &str, by: &str, only: Option<&str>| {
            let found =
                samples(text, name).filter(|(labels, _)| only.is_none_or(|only| label(labels, "cache") == Some(only)));
            found.filter_map(|(labels, value)| Some((label(labels, by)?.to_owned(), value))).collect()
        };
        Self {
            states: by("bowline_breaker_state", "breaker", None),
            inside: metrics::value(text, "bowline_feed_fallback_inside"),
            opened: by("bowline_breaker_opened_total", "breaker", None),
            refused: by("bowline_breaker_refused_total", "breaker", None),
            cache: by("bowline_cache_events_total", "event", Some(CACHE)),
        }
    }
}

impl State {
    fn of(value: f64) -> Option<Self> {
        [Self::Closed, Self::HalfOpen, Self::Open].into_iter().find(|state| f64::from(*state as u8) == value)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl Change {
    pub(super) fn words(&self) -> String {
        let Self { at_s, server, breaker, before, after } = self;
        format!("{at_s:.2} s: {breaker} of server {server}, {} → {}", before.words(), after.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(state: u8, made: u32, inside: u32) -> String {
        format!(
            "bowline_breaker_state{{breaker=\"trending\"}} {state}\nbowline_breaker_opened_total{{breaker=\"trending\"}} 1\n\
             bowline_cache_events_total{{cache=\"feed\",event=\"made\"}} {made}\n\
             bowline_cache_events_total{{cache=\"other\",event=\"made\"}} 900\nbowline_feed_fallback_inside {inside}\n"
        )
    }

    #[test]
    fn changes_are_told_with_their_second_and_counts_by_how_much_they_rose() {
        let mut watching = Watching::default();
        for (at_s, state, made, inside) in
            [(1.0, 0, 10, 0), (2.0, 2, 15, 20), (3.0, 2, 15, 3), (4.0, 1, 16, 0), (5.0, 0, 19, 0)]
        {
            watching.take(at_s, 0, Look::read(&text(state, made, inside)));
        }
        let told = watching.told;
        let words: Vec<_> = told.breakers.iter().map(Change::words).collect();
        assert_eq!(
            words,
            [
                "2.00 s: trending of server 0, closed → open",
                "4.00 s: trending of server 0, open → half-open",
                "5.00 s: trending of server 0, half-open → closed",
            ]
        );
        assert_eq!((told.looks, told.fallback_inside_max, told.cache["made"]), (5, 20.0, 9.0));
        assert_eq!(told.breaker_opened["trending"], 0.0);
    }

    #[test]
    fn a_server_that_began_anew_counts_from_nothing_and_two_are_added() {
        let mut watching = Watching::default();
        for (server, made) in [(0, 100), (1, 5), (0, 3), (1, 7)] {
            watching.take(0.0, server, Look::read(&text(0, made, 4)));
        }
        assert_eq!((watching.told.cache["made"], watching.told.fallback_inside_max), (3.0 + 2.0, 8.0));
    }

    #[test]
    fn a_server_without_a_feed_says_nothing() {
        assert_eq!(Look::read("bowline_sockets 3\n"), Look::default());
    }
}
