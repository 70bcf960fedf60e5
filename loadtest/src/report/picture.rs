//! A plot as HTML with an SVG in it. The curves stretch with the page, the words do not: so words are HTML, and only lines are
//! SVG. Pure.

use std::fmt::Write as _;

use super::page::escape;
use crate::threshold::Check;
use crate::timeline::{Inner, Limit, Mark, Plot, Point, Series};
use crate::unit::{Unit, number};

/// The picture's own coordinates; the page stretches them.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 300.0;
/// Lines across, about.
const STEPS: f64 = 4.0;
/// As many colours as the page has.
const COLOURS: usize = 5;

struct Axes {
    until_s: f64,
    top: f64,
    step: f64,
}

/// A curve, and the number of its colour.
type Curve<'a> = (&'a Series, usize);

/// All plots of a page, with the bounds that concern them.
pub(super) fn draw_all(timeline: &Inner, checks: &[Check], until_s: f64) -> String {
    let mut known: Vec<(&str, usize)> = Vec::new();
    let plots = timeline.plots().into_iter().map(|plot| {
        let series = timeline.series.iter().filter(|series| series.plot == plot);
        draw(plot, &coloured(series, &mut known), timeline, checks, until_s)
    });
    plots.collect()
}

/// What has the same name has the same colour in every plot, unless another curve of the plot has it already.
fn coloured<'a>(series: impl Iterator<Item = &'a Series>, known: &mut Vec<(&'a str, usize)>) -> Vec<Curve<'a>> {
    let mut curves: Vec<Curve<'a>> = Vec::new();
    let series: Vec<&Series> = series.collect();
    let wanted = |name: &str, known: &[(&str, usize)]| known.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    let mut taken: Vec<usize> = series.iter().filter_map(|series| wanted(&series.name, known)).collect();
    for series in series {
        let own = wanted(&series.name, known);
        let free = (0..COLOURS).find(|colour| !taken.contains(colour)).unwrap_or(curves.len() % COLOURS);
        let colour = own.filter(|colour| curves.iter().all(|(_, other)| other != colour)).unwrap_or(free);
        taken.push(colour);
        if own.is_none() {
            known.push((&series.name, colour));
        }
        curves.push((series, colour));
    }
    curves
}

fn draw(plot: Plot, series: &[Curve<'_>], timeline: &Inner, checks: &[Check], until_s: f64) -> String {
    let most = series.iter().filter_map(|(series, _)| series.most()).fold(0.0, f64::max);
    let bounds = bounds(plot, checks, &timeline.limits, most);
    let axes = Axes::over(until_s, bounds.iter().map(|(_, value)| *value).fold(most, f64::max));
    let mut html = String::new();
    let unit = match plot.unit {
        Unit::Count => String::new(),
        Unit::PerSecond => "<span class=unit>per second</span>".to_owned(),
        unit => format!("<span class=unit>{}</span>", unit.symbol()),
    };
    let _ = write!(html, "<figure class=plot><figcaption>{} {unit}</figcaption>", escape(plot.title));
    legend(&mut html, series);
    html.push_str("<div class=chart><div class=ys>");
    for n in 0..=axes.lines() {
        let value = axes.step * f64::from(n);
        let _ = write!(html, "<span style=bottom:{:.2}%>{}</span>", axes.up(value) * 100.0, number(value));
    }
    let _ = write!(html, "</div><div class=area data-until={:.3}>", axes.until_s);
    curves(&mut html, series, &axes, &bounds, &timeline.marks);
    // In turns right and left, since two bounds may be close.
    for (n, (text, value)) in bounds.iter().enumerate() {
        let side = if n % 2 == 0 { "bound" } else { "\"bound left\"" };
        let _ = write!(html, "<span class={side} style=bottom:{:.2}%>{}</span>", axes.up(*value) * 100.0, escape(text));
    }
    html.push_str("<div class=cross hidden></div></div></div><div class=xs>");
    for at in times(axes.until_s) {
        let _ = write!(html, "<span style=left:{:.2}%>{}</span>", at / axes.until_s * 100.0, clock(at));
    }
    html.push_str("</div></figure>\n");
    html
}

/// The thresholds in this plot's unit, if it draws what they are about, and the machine's limits that are not far away.
fn bounds(plot: Plot, checks: &[Check], limits: &[Limit], most: f64) -> Vec<(String, f64)> {
    let of_latency = plot == Plot::LATENCY;
    let checks = checks.iter().filter(|check| {
        let last = check.figure.rsplit('.').next().unwrap_or_default();
        let memory = plot == Plot::MEMORY && last.starts_with("rss_");
        check.observed.is_some() && (memory || of_latency && ["p50_ms", "p90_ms", "p99_ms"].contains(&last))
    });
    let checks = checks.map(|check| (format!("{} {}", Unit::strip(&check.figure), check.must), check.bound));
    let limits = limits.iter().filter(|limit| limit.plot == plot);
    let limits = limits.map(|limit| (format!("{}: {}", limit.text, number(limit.value)), limit.value));
    // Far above every curve it would press them flat, and say nothing that the table of checks does not say.
    checks.chain(limits).filter(|(_, value)| *value <= most * 8.0).collect()
}

fn legend(html: &mut String, series: &[Curve<'_>]) {
    html.push_str("<ul class=legend>");
    for (series, colour) in series {
        let last = series.last().map(number).unwrap_or_default();
        let _ = write!(
            html,
            "<li class=c{}><i></i>{} <b data-last=\"{last}\">{last}</b></li>",
            colour,
            escape(&series.name)
        );
    }
    html.push_str("</ul>");
}

fn curves(html: &mut String, series: &[Curve<'_>], axes: &Axes, bounds: &[(String, f64)], marks: &[Mark]) {
    let _ = write!(html, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=none aria-hidden=true>");
    for n in 0..=axes.lines() {
        let y = axes.y(axes.step * f64::from(n));
        let _ = write!(html, "<path class=grid d=\"M0 {y:.1}H{WIDTH}\"/>");
    }
    for mark in marks {
        let _ = write!(
            html,
            "<path class=mark d=\"M{:.1} 0V{HEIGHT}\"><title>{}</title></path>",
            axes.x(mark.at_s),
            escape(&mark.text)
        );
    }
    for (series, colour) in series.iter().rev() {
        let path = path(&series.points, axes);
        let _ = write!(html, "<path class=\"curve c{colour}\" d=\"{path}\"/>");
    }
    for (_, value) in bounds {
        let y = axes.y(*value);
        let _ = write!(html, "<path class=limit d=\"M0 {y:.1}H{WIDTH}\"/>");
    }
    html.push_str("</svg>");
}

/// A line, with a gap where for a while there was nothing to draw.
fn path(points: &[Point], axes: &Axes) -> String {
    let usual = points.len().checked_sub(1).map_or(0.0, |steps| {
        let mut steps_s: Vec<f64> = points.windows(2).map(|pair| pair[1].at_s - pair[0].at_s).collect();
        steps_s.sort_by(f64::total_cmp);
        steps_s.get(steps / 2).copied().unwrap_or(0.0)
    });
    let mut path = String::new();
    let mut before: Option<f64> = None;
    for (n, point) in points.iter().enumerate() {
        let apart = |a: f64, b: f64| b - a > usual * 3.5;
        let begins = before.is_none_or(|at_s| apart(at_s, point.at_s));
        let alone = begins && points.get(n + 1).is_none_or(|next| apart(point.at_s, next.at_s));
        let (x, y) = (axes.x(point.at_s), axes.y(point.value));
        // A single point has no length; the round ends of its line show it.
        let _ = write!(path, "{}{x:.1} {y:.1}{}", if begins { 'M' } else { 'L' }, if alone { "h.1" } else { "" });
        before = Some(point.at_s);
    }
    path
}

impl Axes {
    /// From zero, so that a curve's height means something.
    fn over(until_s: f64, most: f64) -> Axes {
        let most = if most > 0.0 { most * 1.05 } else { 1.0 };
        let rough = most / STEPS;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
        Axes { until_s: until_s.max(1.0), top: (most / step).ceil() * step, step }
    }

    fn lines(&self) -> u32 {
        (self.top / self.step).round() as u32
    }

    fn up(&self, value: f64) -> f64 {
        (value / self.top).clamp(0.0, 1.0)
    }

    fn x(&self, at_s: f64) -> f64 {
        (at_s / self.until_s).clamp(0.0, 1.0) * WIDTH
    }

    fn y(&self, value: f64) -> f64 {
        (1.0 - self.up(value)) * HEIGHT
    }
}

/// Moments worth a word, at most seven.
fn times(until_s: f64) -> Vec<f64> {
    const STEPS_S: &[f64] =
        &[1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0];
    let step = STEPS_S.iter().copied().find(|step| until_s / step <= 6.5).unwrap_or(until_s / 6.0);
    (0..=6).map(|n| step * f64::from(n)).filter(|at| *at <= until_s).collect()
}

pub(super) fn clock(at_s: f64) -> String {
    let s = at_s.round() as u64;
    match s / 3_600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Timeline;

    #[test]
    fn axes_begin_at_zero_and_hold_everything_in_round_steps() {
        for (most, top, step) in [
            (0.0, 1.0, 0.25),
            (9.0, 10.0, 2.5),
            (100.0, 150.0, 50.0),
            (0.037, 0.04, 0.01),
            (7_777.0, 10_000.0, 2_500.0),
        ] {
            let axes = Axes::over(60.0, most);
            assert!(
                (axes.top - top).abs() < top * 1e-9 && (axes.step - step).abs() < step * 1e-9,
                "{most}: {}",
                axes.top
            );
            assert!(axes.y(most) >= 0.0 && axes.y(0.0) == HEIGHT);
        }
    }

    #[test]
    fn a_name_keeps_its_colour_and_no_two_of_a_plot_share_one() {
        let timeline = Timeline::new();
        for (plot, name) in [
            (Plot::LATENCY, "b"),
            (Plot::RATE, "a"),
            (Plot::RATE, "b"),
            (Plot::MEMORY, "a"),
            (Plot::MEMORY, "c"),
            (Plot::MEMORY, "b"),
        ] {
            timeline.point(plot, name, 1.0);
        }
        let (timeline, mut known) = (timeline.copy(), Vec::new());
        let colours = [Plot::LATENCY, Plot::RATE, Plot::MEMORY].map(|plot| {
            let curves = coloured(timeline.series.iter().filter(|series| series.plot == plot), &mut known);
            curves.iter().map(|(series, colour)| (&*series.name, *colour)).collect::<Vec<_>>()
        });
        assert_eq!(colours, [vec![("b", 0)], vec![("a", 1), ("b", 0)], vec![("a", 1), ("c", 2), ("b", 0)]]);
    }

    #[test]
    fn a_curve_has_gaps_where_there_was_nothing() {
        let points = [0.0, 1.0, 2.0, 9.0, 20.0, 21.0].map(|at_s| Point { at_s, value: 0.0 });
        let path = path(&points, &Axes::over(100.0, 1.0));
        assert_eq!(path, "M0.0 300.0L10.0 300.0L20.0 300.0M90.0 300.0h.1M200.0 300.0L210.0 300.0");
    }

    #[test]
    fn moments_are_few_and_round() {
        for until_s in [1.0, 10.0, 59.0, 600.0, 3_600.0, 86_400.0, 1e6] {
            let times = times(until_s);
            assert!((2..=7).contains(&times.len()), "{until_s}: {times:?}");
        }
        assert_eq!(times(60.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!((clock(75.0), clock(3_675.0)), ("1:15".into(), "1:01:15".into()));
    }
}
