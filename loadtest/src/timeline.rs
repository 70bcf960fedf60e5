//! What happened over time: series of a point a second, grouped into plots. The sampler and the scenarios write, the report
//! reads. Its memory is bounded: a series that is full halves its resolution, so that a run of any length fits.

mod series;
mod slope;

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub(crate) use series::{Point, Series};
pub(crate) use slope::Slope;

use crate::unit::Unit;

/// Where a series is drawn: one picture, one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
}

impl Plot {
    pub(crate) const RATE: Plot = Plot { title: "Messages", unit: Unit::PerSecond };
    pub(crate) const LATENCY: Plot = Plot { title: "Latency, each second", unit: Unit::Ms };
    pub(crate) const SOCKETS: Plot = Plot { title: "Sockets", unit: Unit::Count };
    pub(crate) const MEMORY: Plot = Plot { title: "Memory of the server", unit: Unit::Mib };
    pub(crate) const PROCESSOR: Plot = Plot { title: "Processors in use", unit: Unit::Cores };
    pub(crate) const DATABASE: Plot = Plot { title: "Append in the database, mean", unit: Unit::Ms };
    pub(crate) const DESCRIPTORS: Plot = Plot { title: "Open descriptors", unit: Unit::Count };
    pub(crate) const PAGES: Plot = Plot { title: "Feed pages", unit: Unit::PerSecond };
    pub(crate) const BREAKERS: Plot = Plot { title: "Breakers: 0 closed, 1 half-open, 2 open", unit: Unit::Count };
    pub(crate) const REFUSED: Plot = Plot { title: "Calls that a breaker refused", unit: Unit::PerSecond };
    pub(crate) const FALLBACK: Plot = Plot { title: "Fallbacks in PostgreSQL at once", unit: Unit::Count };
    pub(crate) const CACHE: Plot = Plot { title: "What became of requests to the feed's cache", unit: Unit::PerSecond };
    pub(crate) const THREADS: Plot = Plot { title: "Threads of the server", unit: Unit::Count };
}

pub(crate) struct Timeline {
    start: Instant,
    inner: Mutex<Inner>,
}

/// A copy of all that was written until a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inner {
    /// In the order in which they came.
    pub(crate) series: Vec<Series>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) limits: Vec<Limit>,
}

/// A moment that explains what is seen after it.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at_s: f64,
    pub(crate) text: String,
}

/// A bound of the machine that a series must stay below.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) plot: Plot,
    pub(crate) text: &'static str,
    pub(crate) value: f64,
}

/// More marks than this would hide what they explain; later ones are left out.
const MARKS: usize = 40;

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), inner: Mutex::default() }
    }

    pub(crate) fn now_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn point(&self, plot: Plot, name: impl Into<Cow<'static, str>>, value: f64) {
        self.point_at(self.now_s(), plot, name, value);
    }

    /// What is no number is no point.
    pub(crate) fn point_at(&self, at_s: f64, plot: Plot, name: impl Into<Cow<'static, str>>, value: f64) {
        if !value.is_finite() {
            return;
        }
        let name = name.into();
        let mut inner = self.lock();
        let known = inner.series.iter().position(|series| series.plot == plot && series.name == name);
        let at = known.unwrap_or_else(|| {
            inner.series.push(Series::new(plot, name));
            inner.series.len() - 1
        });
        inner.series[at].push(Point { at_s, value });
    }

    pub(crate) fn mark(&self, text: impl Into<String>) {
        let at_s = self.now_s();
        let mut inner = self.lock();
        if inner.marks.len() < MARKS {
            inner.marks.push(Mark { at_s, text: text.into() });
        }
    }

    /// Known from the first time that it is told.
    pub(crate) fn limit(&self, plot: Plot, text: &'static str, value: f64) {
        let mut inner = self.lock();
        if !inner.limits.iter().any(|limit| limit.plot == plot && limit.text == text) {
            inner.limits.push(Limit { plot, text, value });
        }
    }

    pub(crate) fn copy(&self) -> Inner {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(crate) fn series(&self, plot: Plot, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.plot == plot && series.name == name)
    }

    /// Of what a series held from then on; none if it held nothing.
    pub(crate) fn mean_since(&self, from_s: f64, plot: Plot, name: &str) -> Option<f64> {
        let points = self.series(plot, name)?.points.iter().filter(|point| point.at_s >= from_s);
        let (sum, count) = points.fold((0.0, 0u32), |(sum, count), point| (sum + point.value, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// The plots that have something in them, in a fixed order of interest and then as they came.
    pub(crate) fn plots(&self) -> Vec<Plot> {
        let mut plots: Vec<Plot> = Vec::new();
        for series in &self.series {
            if !plots.contains(&series.plot) {
                plots.push(series.plot);
            }
        }
        let order = [Plot::LATENCY, Plot::RATE, Plot::MEMORY, Plot::PROCESSOR, Plot::SOCKETS, Plot::DATABASE];
        plots.sort_by_key(|plot| order.iter().position(|known| known == plot).unwrap_or(order.len()));
        plots
    }
}
