//! One series, and how it stays within its bound.

use std::borrow::Cow;

use super::Plot;
use crate::unit::Unit;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_s: f64,
    pub(crate) value: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) plot: Plot,
    pub(crate) name: Cow<'static, str>,
    pub(crate) points: Vec<Point>,
    /// Points given that make one point kept.
    merged: usize,
    /// The beginning of the next one.
    pending: Option<(Point, usize)>,
}

/// Twenty minutes at full resolution; and more than a screen has pixels for a plot.
pub(super) const MOST: usize = 1_200;

impl Series {
    pub(crate) fn new(plot: Plot, name: impl Into<Cow<'static, str>>) -> Self {
        Self { plot, name: name.into(), points: Vec::new(), merged: 1, pending: None }
    }

    pub(crate) fn push(&mut self, point: Point) {
        let (sum, count) = match self.pending.take() {
            None => (point, 1),
            Some((sum, count)) => (self.merge(sum, count, point, 1), count + 1),
        };
        if count < self.merged {
            self.pending = Some((sum, count));
            return;
        }
        self.points.push(sum);
        if self.points.len() == MOST {
            self.points = self.points.chunks(2).map(|pair| self.merge(pair[0], 1, pair[1], 1)).collect();
            self.merged *= 2;
        }
    }

    /// Of `a` of the weight `n` and `b` of the weight `m`. The worst of two latencies, so that a stall stays to be seen; of
    /// everything else the mean.
    fn merge(&self, a: Point, n: usize, b: Point, m: usize) -> Point {
        let (n, m) = (n as f64, m as f64);
        let mean = |a: f64, b: f64| (a * n + b * m) / (n + m);
        let value = if self.plot.unit == Unit::Ms { a.value.max(b.value) } else { mean(a.value, b.value) };
        Point { at_s: mean(a.at_s, b.at_s), value }
    }

    pub(crate) fn last(&self) -> Option<f64> {
        self.points.last().map(|point| point.value)
    }

    pub(crate) fn most(&self) -> Option<f64> {
        self.points.iter().map(|point| point.value).max_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(plot: Plot, points: usize) -> Series {
        let mut series = Series::new(plot, "x");
        for n in 0..points {
            let value = if n == 777 { 500.0 } else { n as f64 };
            series.push(Point { at_s: n as f64, value });
        }
        series
    }

    #[test]
    fn a_series_of_any_length_is_bounded_and_keeps_its_shape() {
        for points in [1, MOST - 1, MOST, MOST + 1, 10 * MOST + 7] {
            let series = filled(Plot::RATE, points);
            assert!(series.points.len() <= MOST && series.points.len() * 2 * series.merged >= points, "{points}");
            let rises = series.points.windows(2).all(|pair| pair[0].at_s < pair[1].at_s);
            assert!(rises, "{points}: the order of time is kept");
            let end = series.points.last().expect("one").at_s;
            assert!(end > points as f64 * 0.99 - 2.0, "{points}: the end is there: {end}");
        }
    }

    #[test]
    fn halving_keeps_the_mean_of_values_and_the_worst_of_latencies() {
        let mut series = Series::new(Plot::LATENCY, "p99");
        for n in 0..4 * MOST {
            series.push(Point { at_s: n as f64, value: if n == 4_000 { 90.0 } else { 1.0 } });
        }
        assert_eq!(series.most(), Some(90.0));
        let mut series = Series::new(Plot::MEMORY, "RSS");
        for n in 0..4 * MOST {
            series.push(Point { at_s: n as f64, value: (n % 2) as f64 });
        }
        assert!(series.points.iter().all(|point| point.value == 0.5));
    }
}
