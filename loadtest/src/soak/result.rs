//! What a soak came to: the account of each part, and the slopes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Args;
use super::part::{CONVERSATIONS, Part};
use crate::crowd::Account;
use crate::report::Lines;
use crate::run;
use crate::timeline::{Inner, Plot, Slope};
use crate::times::Percentiles;
use crate::unit::Written;

/// What must not grow, and what growth is none: so much, or this share of the mean, whichever is more. Tails fill up to their
/// bound for a while, and a p99 of a second is rough.
struct Bound {
    name: &'static str,
    plot: Plot,
    series: &'static str,
    amount: f64,
    share: f64,
}

const BOUNDS: [Bound; 5] = [
    Bound { name: "memory", plot: Plot::MEMORY, series: "PSS", amount: 1.0, share: 0.05 },
    Bound { name: "kernel_memory", plot: Plot::MEMORY, series: "kernel part", amount: 1.0, share: 0.05 },
    Bound { name: "descriptors", plot: Plot::DESCRIPTORS, series: "server", amount: 5.0, share: 0.01 },
    Bound { name: "threads", plot: Plot::THREADS, series: "server", amount: 1.0, share: 0.0 },
    Bound { name: "p99", plot: Plot::LATENCY, series: CONVERSATIONS, amount: 2.0, share: 0.5 },
];

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Grown {
    #[serde(flatten)]
    slope: Slope,
    /// `growth` up to this is flat.
    allowed: f64,
    flat: bool,
    #[serde(skip)]
    plot: Plot,
}

/// Those of [`BOUNDS`] that were measured, between two moments.
pub(super) fn slopes(timeline: &Inner, from_s: f64, until_s: f64) -> BTreeMap<&'static str, Grown> {
    let measured = BOUNDS.iter().filter_map(|bound| {
        let points = &timeline.series(bound.plot, bound.series)?.points;
        let until = points.iter().position(|point| point.at_s > until_s).unwrap_or(points.len());
        let slope = Slope::of(&points[..until], from_s)?;
        let allowed = bound.amount.max(bound.share * slope.mean);
        Some((bound.name, Grown { slope, allowed, flat: slope.growth <= allowed, plot: bound.plot }))
    });
    measured.collect()
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(super) struct Summary {
    connections: u32,
    rate: f64,
    duration_s: f64,
    cuts: u32,
    typed: u64,
    slopes: BTreeMap<&'static str, Grown>,
    send_to_deliver: Percentiles,
    send_to_deliver_topics: Percentiles,
    conversations: Account,
    topics: Account,
    restless: Account,
}

impl Summary {
    pub(super) fn new(
        args: &Args,
        accounts: Vec<Account>,
        parts: &[Part],
        (cuts, typed): (u32, u64),
        slopes: BTreeMap<&'static str, Grown>,
    ) -> anyhow::Result<Self> {
        let [conversations, topics, restless] =
            <[Account; 3]>::try_from(accounts).map_err(|_| anyhow::anyhow!("a soak has three parts"))?;
        let times = |part: usize| parts[part].fleet.times().percentiles(crate::fleet::tally::Kind::Deliver);
        Ok(Self {
            connections: args.connections,
            rate: args.rate,
            duration_s: args.duration.as_secs_f64(),
            cuts,
            typed,
            slopes,
            send_to_deliver: times(0),
            send_to_deliver_topics: times(1),
            conversations,
            topics,
            restless,
        })
    }

    fn exact(&self) -> bool {
        self.conversations.ok() && self.topics.ok() && self.restless.ok()
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "soak";
    const MAIN: &'static str = "send_to_deliver";

    /// A slope that could not be measured is not flat.
    fn ok(&self) -> bool {
        let measured = ["memory", "descriptors", "threads", "p99"].iter().all(|name| self.slopes.contains_key(name));
        self.exact() && measured && self.slopes.values().all(|grown| grown.flat) && self.typed > 0
    }

    fn verdict(&self) -> String {
        let growing: Vec<&str> = self.slopes.iter().filter(|(_, grown)| !grown.flat).map(|(name, _)| *name).collect();
        let delivered =
            if self.exact() { "Every message delivered exactly" } else { "Not every message was delivered exactly" };
        match growing[..] {
            [] => format!("{delivered}; nothing grew"),
            _ => format!("{delivered}; not flat: {}", growing.join(", ")),
        }
    }

    fn lines(&self, lines: &mut Lines) {
        let (connections, rate, duration) = (self.connections, self.rate, self.duration_s);
        lines.say("load", format_args!("{connections} sockets, {rate} messages/s for {duration:.0} s"));
        lines.say("cut and back, typed", format_args!("{} times, {} times", self.cuts, self.typed));
        for (name, grown) in &self.slopes {
            let unit = grown.plot.unit;
            let (slope, mark) = (grown.slope, if grown.flat { "flat" } else { "NOT FLAT" });
            lines.say(
                &format!("slope of {}", name.replace('_', " ")),
                format_args!(
                    "{} a minute: {} over {:.0} s, allowed {}, mean {}: {mark}",
                    Written(slope.per_minute, unit),
                    Written(slope.growth, unit),
                    slope.span_s,
                    Written(grown.allowed, unit),
                    Written(slope.mean, unit),
                ),
            );
        }
        lines.say("send to deliver", self.send_to_deliver.line());
        lines.say("– of topics", self.send_to_deliver_topics.line());
        for (name, account) in [
            ("conversations", &self.conversations),
            ("topics", &self.topics),
            ("those who leave and return", &self.restless),
        ] {
            let (acked, seen, due) = (account.acked, account.deliveries, account.deliveries_due);
            lines.say(name, format_args!("{acked} acked, {seen} of {due} delivered"));
            if !account.ok() {
                account.lines(lines);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Timeline;

    fn check(memory_a_minute: f64, flat: bool) {
        let timeline = Timeline::new();
        for n in 0..600 {
            let at_s = f64::from(n);
            let warming = if n < 200 { -10.0 + at_s / 20.0 } else { 0.0 };
            timeline.point_at(at_s, Plot::MEMORY, "PSS", 20.0 + warming + memory_a_minute * at_s / 60.0);
            timeline.point_at(at_s, Plot::THREADS, "server", 7.0);
        }
        let slopes = slopes(&timeline.copy(), 200.0, 590.0);
        assert_eq!((slopes["memory"].flat, slopes["threads"].flat), (flat, true), "{slopes:?}");
        assert!(!slopes.contains_key("descriptors"), "what was not measured is not there");
    }

    #[test]
    fn a_leak_is_found_and_the_warm_up_is_none() {
        check(0.0, true);
        check(0.1, true);
        check(0.3, false);
        check(-0.5, true);
    }
}
