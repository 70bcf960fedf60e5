//! The report as a page: one file, nothing loaded from anywhere. The verdict comes first, then how it was measured, then what.

use std::fmt::Write as _;

use serde_json::json;

use super::Report;
use super::picture::{clock, draw_all};
use crate::unit::{Unit, Written};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(crate) fn html(report: &Report) -> String {
    let mut html = String::new();
    let title = format!("{}: {}", report.scenario, if report.ok { "passed" } else { "failed" });
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\n<meta name=color-scheme content=\"light dark\">\n\
         <title>{} · bowline-loadtest</title>\n<style>{STYLE}</style>\n<main>\n",
        escape(&title)
    );
    head(&mut html, report);
    headline(&mut html, report);
    checks(&mut html, report);
    changes(&mut html, report);
    plots(&mut html, report);
    words(&mut html, report);
    let _ = write!(html, "</main>\n<script type=application/json id=data>{}</script>\n", data(report));
    let _ = write!(html, "<script>{SCRIPT}</script>\n</html>\n");
    html
}

/// For HTML, in text and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn head(html: &mut String, report: &Report) {
    let (class, word) = if report.ok { ("good", "Passed") } else { ("bad", "Failed") };
    let environment = &report.environment;
    let (first, rest) = report.verdict.split_once(". ").unwrap_or((&report.verdict, ""));
    let rest = if rest.is_empty() { String::new() } else { format!("<p class=rest>{}.</p>", escape(rest)) };
    let _ = write!(
        html,
        "<header class={class}><p class=eyebrow>bowline-loadtest · {}</p><h1><span class=badge>{word}</span> {}</h1>\
         {rest}<pre class=command tabindex=0><code>{}</code></pre><dl class=facts>",
        escape(report.scenario),
        escape(first),
        escape(&environment.command),
    );
    let load = environment.load_before.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    for (name, value) in [
        ("Started", environment.started.clone()),
        ("Ran for", clock(until_s(report))),
        (
            "Machine",
            format!(
                "{} × {}, {:.1} GiB",
                environment.processors,
                environment.processor,
                environment.memory_mib as f64 / 1024.0
            ),
        ),
        ("System", environment.kernel.clone()),
        ("Load before", load),
        ("Tool", environment.tool.clone()),
    ] {
        let _ = write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl></header>\n");
}

/// The few figures that people look for first, of those that there are.
fn headline(html: &mut String, report: &Report) {
    let main = |what: &str| format!("{}.{what}", report.main);
    let wanted = [
        ("knee_messages_per_s".to_owned(), "messages at the knee"),
        ("knee_sockets".to_owned(), "sockets at the knee"),
        ("wide.ephemeral_over_bare".to_owned(), "hub / bare writer, 1 × 1,000 × 200/s"),
        ("many.ephemeral_over_bare".to_owned(), "hub / bare writer, 1,000 × 10, 2,000/s"),
        ("wide.durable_over_ephemeral".to_owned(), "durable / ephemeral, 1 × 1,000 × 200/s"),
        ("many.durable_over_ephemeral".to_owned(), "durable / ephemeral, 1,000 × 10, 2,000/s"),
        ("beyond.ephemeral.p99_ms".to_owned(), "p99 of the hub, 1 × 1,000 × 500/s"),
        ("whole_s".to_owned(), "until everybody has everything"),
        (main("p50_ms"), "median"),
        (main("p99_ms"), "p99"),
        (main("max_ms"), "slowest"),
        ("deliveries".to_owned(), "deliveries"),
        ("deliveries_per_s".to_owned(), "deliveries a second"),
        ("acked_per_s".to_owned(), "durable sends a second"),
        ("server.bytes_per_socket".to_owned(), "memory a socket"),
        ("server.rss_after_mib".to_owned(), "server memory at the end"),
        ("server.cpu_us_per_delivery".to_owned(), "server CPU a delivery"),
        ("server.cpu_us_per_send".to_owned(), "server CPU a send"),
    ];
    let tiles = wanted.iter().filter_map(|(name, words)| Some((name, words, report.figures.get(name)?)));
    html.push_str("<section class=tiles aria-label=\"The main figures\">");
    for (name, words, value) in tiles.take(6) {
        // A sentence of words, of which the name's are none: `send_to_deliver`.
        let about = if name.starts_with(report.main) && !words.contains(',') {
            report.main.replace(['_', '.'], " ")
        } else {
            String::new()
        };
        let written = Written(value, Unit::of(name)).to_string();
        let (number, unit) = written.split_once(' ').unwrap_or((&written, ""));
        let _ = write!(html, "<div><b>{number}<small> {unit}</small></b><span>{} {words}</span></div>", escape(&about));
    }
    html.push_str("</section>\n");
}

fn checks(html: &mut String, report: &Report) {
    if report.checks.is_empty() {
        return;
    }
    html.push_str(
        "<section><h2>Thresholds</h2><div class=wide><table><thead><tr><th scope=col>Figure<th scope=col>Result\
         <th scope=col class=n>Measured<th scope=col class=n>Must be</thead><tbody>",
    );
    for check in &report.checks {
        let (class, word) = if check.ok { ("good", "kept") } else { ("bad", "missed") };
        let _ = write!(
            html,
            "<tr><th scope=row>{}<td><span class=\"tag {class}\">{word}</span><td class=n>{}<td class=n>{}",
            escape(&check.figure),
            escape(&report.observed(check)),
            escape(&check.must),
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn changes(html: &mut String, report: &Report) {
    let Some(changes) = &report.changes else { return };
    html.push_str(
        "<section><h2>Against the baseline</h2><div class=wide><table><thead><tr><th scope=col>Figure<th scope=col class=n>Before\
         <th scope=col class=n>This run<th scope=col>Change</thead><tbody>",
    );
    for change in changes {
        let unit = Unit::of(&change.figure);
        let class = if change.regression { "tag bad" } else { "" };
        let _ = write!(
            html,
            "<tr><th scope=row>{}<td class=n>{}<td class=n>{}<td><span class=\"{class}\">{}</span>",
            escape(&change.figure),
            Written(change.before, unit),
            Written(change.after, unit),
            escape(&change.words()),
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn plots(html: &mut String, report: &Report) {
    if report.timeline.series.is_empty() {
        return;
    }
    html.push_str("<section><h2>Over time</h2>");
    if !report.timeline.marks.is_empty() {
        html.push_str("<ol class=marks>");
        for mark in &report.timeline.marks {
            let _ = write!(html, "<li><b>{}</b> {}</li>", clock(mark.at_s), escape(&mark.text));
        }
        html.push_str("</ol>");
    }
    html.push_str("<div class=plots>\n");
    html.push_str(&draw_all(&report.timeline, &report.checks, until_s(report)));
    html.push_str("</div></section>\n");
}

fn words(html: &mut String, report: &Report) {
    html.push_str("<section><h2>In words</h2><div class=wide><table class=words><tbody>");
    for (what, value) in &report.lines.0 {
        let _ = write!(html, "<tr><th scope=row>{}<td>{}", escape(what.trim()), escape(value));
    }
    html.push_str("</tbody></table></div></section>\n");
}

/// What the script reads out under the pointer: plots in the order of the page, each series as pairs.
fn data(report: &Report) -> String {
    let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
    let plots = report.timeline.plots().into_iter().map(|plot| {
        let series = report.timeline.series.iter().filter(|series| series.plot == plot);
        series.map(|s| s.points.iter().map(|p| [round(p.at_s), round(p.value)]).collect::<Vec<_>>()).collect::<Vec<_>>()
    });
    // Within a script, `</` would end it.
    json!(plots.collect::<Vec<_>>()).to_string().replace('<', "\\u003c")
}

fn until_s(report: &Report) -> f64 {
    let last = report.timeline.series.iter().filter_map(|series| series.points.last());
    last.map(|point| point.at_s).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Baseline;
    use crate::environment::Environment;
    use crate::figures::Figures;
    use crate::report::Lines;
    use crate::threshold::Threshold;
    use crate::timeline::{Plot, Timeline};

    /// A run in which every text tries to be markup.
    fn report() -> Report {
        let timeline = Timeline::new();
        for n in 0..10 {
            timeline.point_at(f64::from(n), Plot::LATENCY, "ack p99", 20.0 + f64::from(n));
            timeline.point_at(f64::from(n), Plot::MEMORY, "RSS <b>", 15.0);
            timeline.point_at(f64::from(n), Plot::MEMORY, "PSS", 12.0);
        }
        timeline.mark("</script><script>alert(1)</script>");
        timeline.limit(Plot::MEMORY, "limit of the cgroup", 64.0);
        let figures = Figures::of(&json!({"send_to_ack": {"p50_ms": 3.0, "p99_ms": 29.0}, "acked_per_s": 500.0}));
        let before = Figures::of(&json!({"send_to_ack": {"p99_ms": 20.0}}));
        let threshold: Threshold = "p99<25ms".parse().expect("a threshold");
        let mut lines = Lines::default();
        lines.say("a & b", "<i>");
        Report {
            scenario: "sends",
            main: "send_to_ack",
            ok: false,
            verdict: "1 < 2 & \"so\"".into(),
            lines,
            checks: vec![threshold.check(&figures, "send_to_ack")],
            changes: Some(Baseline::new("sends", "", &before).compare(&figures, 10.0)),
            figures,
            environment: Environment { command: "x --note '<img src=x>'".into(), ..Environment::look() },
            timeline: timeline.copy(),
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        let html = html(&report());
        for markup in ["<b>\"", "<i>", "<img", "alert(1)</script>", "RSS <b>"] {
            assert!(!html.contains(markup) || markup == "<i>" && html.contains("<i></i>"), "{markup}");
        }
        for text in
            ["1 &lt; 2 &amp; &quot;so&quot;", "&lt;img src=x&gt;", "a &amp; b", "RSS &lt;b&gt;", "&lt;/script&gt;"]
        {
            assert!(html.contains(text), "{text}");
        }
        assert_eq!(html.matches("</script>").count(), 2, "its own two, and no other");
    }

    #[test]
    fn every_series_check_and_bound_is_there_and_nothing_is_loaded() {
        let report = report();
        let html = html(&report);
        assert_eq!(html.matches("class=\"curve").count(), report.timeline.series.len());
        for series in &report.timeline.series {
            assert!(html.contains(&format!("</i>{} <b", escape(&series.name))), "{}", series.name);
        }
        for text in [
            "Failed",
            "29 ms",
            "&lt; 25 ms",
            "missed",
            "send_to_ack.p99 &lt; 25 ms",
            "45 % worse",
            "limit of the cgroup: 64",
        ] {
            assert!(html.contains(text), "{text}");
        }
        for loads in ["http://", "https://", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(loads) || loads == "src=" && html.matches("src=").count() == 1, "{loads}");
        }
        let data = html.split_once("id=data>").and_then(|(_, rest)| rest.split_once("</script>")).expect("data").0;
        let data: Vec<Vec<Vec<[f64; 2]>>> = serde_json::from_str(data).expect("JSON");
        let points: usize = data.iter().flatten().map(Vec::len).sum();
        assert_eq!(points, 30, "every point can be read out");
    }
}
