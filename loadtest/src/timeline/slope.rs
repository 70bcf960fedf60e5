//! Where a series is going: the line of least squares through it.

use serde::Serialize;

use super::Point;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Slope {
    pub(crate) per_minute: f64,
    /// By how much the line rises over the time that was looked at.
    pub(crate) growth: f64,
    pub(crate) mean: f64,
    pub(crate) span_s: f64,
}

impl Slope {
    /// Of the points from `from_s` on; nothing can be said of fewer than three, or of one moment.
    pub(crate) fn of(points: &[Point], from_s: f64) -> Option<Slope> {
        let points: Vec<Point> = points.iter().copied().filter(|point| point.at_s >= from_s).collect();
        let [first, .., last] = points[..] else { return None };
        let n = points.len() as f64;
        let mean_of = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (at, mean) = (mean_of(|point| point.at_s), mean_of(|point| point.value));
        let both: f64 = points.iter().map(|point| (point.at_s - at) * (point.value - mean)).sum();
        let square: f64 = points.iter().map(|point| (point.at_s - at).powi(2)).sum();
        if points.len() < 3 || square <= 0.0 {
            return None;
        }
        let (per_s, span_s) = (both / square, last.at_s - first.at_s);
        Some(Slope { per_minute: per_s * 60.0, growth: per_s * span_s, mean, span_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: impl IntoIterator<Item = f64>) -> Vec<Point> {
        values.into_iter().enumerate().map(|(n, value)| Point { at_s: n as f64, value }).collect()
    }

    #[track_caller]
    fn check(values: Vec<f64>, from_s: f64, per_minute: f64, growth: f64) {
        let slope = Slope::of(&points(values), from_s).expect("enough points");
        assert!((slope.per_minute - per_minute).abs() < 1e-6 && (slope.growth - growth).abs() < 1e-6, "{slope:?}");
    }

    #[test]
    fn a_line_is_found_exactly_and_noise_around_it_does_not_tilt_it() {
        check((0..61).map(|n| 10.0 + 0.5 * f64::from(n)).collect(), 0.0, 30.0, 30.0);
        check(vec![7.0; 20], 0.0, 0.0, 0.0);
        let around = |n: i32| 100.0 + f64::from(n) + [3.0, 0.0, -3.0, -3.0, 0.0, 3.0][(n % 6) as usize];
        let slope = Slope::of(&points((0..600).map(around)), 0.0).expect("enough");
        assert!((slope.per_minute - 60.0).abs() < 0.2, "{slope:?}");
    }

    #[test]
    fn what_happens_in_the_warm_up_does_not_count() {
        let values = (0..30).map(|n| if n < 10 { f64::from(n) * 100.0 } else { 5.0 }).collect();
        check(values, 10.0, 0.0, 0.0);
    }

    #[test]
    fn of_too_little_nothing_is_said() {
        assert_eq!(Slope::of(&points([1.0, 2.0]), 0.0), None);
        assert_eq!(Slope::of(&points([1.0, 2.0, 3.0]), 1.0), None);
        let moment = [Point { at_s: 1.0, value: 1.0 }; 5];
        assert_eq!(Slope::of(&moment, 0.0), None);
    }
}
