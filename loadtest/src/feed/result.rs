//! What a run of the feed came to.

use std::time::Duration;

use serde::Serialize;

use super::commands::Ran;
use super::engage::Done;
use super::judge::BUDGET;
use super::seeding::Seeded;
use super::tally::{self, Counts, Tally};
use super::{Args, live, trace};
use crate::process::Usage;
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;

/// What was measured beside the pages.
pub(super) struct Parts {
    pub(super) seeded: Seeded,
    /// From the first page that was meant to be asked for until the last answer.
    pub(super) flowed: Duration,
    pub(super) pacing_late: Option<Duration>,
    pub(super) engaged: Option<Done>,
    pub(super) live: Option<live::Told>,
    pub(super) commands: Vec<Ran>,
    pub(super) trace: Option<trace::Told>,
    pub(super) scheduling: Percentiles,
    pub(super) usage: Option<(Usage, Usage)>,
}

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(super) struct Summary {
    over: &'static str,
    readers: usize,
    limit: u64,
    /// Absent in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    duration_s: f64,
    seeded: Seeded,
    #[serde(flatten)]
    counts: Counts,
    pages_per_s: f64,
    page: Percentiles,
    warm: Percentiles,
    cold: Percentiles,
    further: Percentiles,
    budget_ms: f64,
    scheduling: Percentiles,
    worst_late_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pacing_late_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<Burst>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engaged: Option<Done>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<live::Told>,
    commands: Vec<Ran>,
    phases: Vec<tally::Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<trace::Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
}

#[derive(Serialize)]
struct Burst {
    same: bool,
    /// Absent: no server gave its metrics.
    rebuilds: Option<f64>,
}

#[derive(Serialize)]
struct Server {
    cpu_s: f64,
    cpu_us_per_page: f64,
    rss_before_mib: f64,
    rss_after_mib: f64,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Summary {
    pub(super) fn new(args: &Args, tally: &Tally, parts: Parts) -> Self {
        let counts = tally.counts();
        let made = parts.trace.as_ref().and_then(|trace| trace.cache.get("made").copied());
        let server = parts.usage.map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            Server {
                cpu_s: cpu,
                cpu_us_per_page: cpu * 1e6 / counts.pages.max(1) as f64,
                rss_before_mib: before.rss_bytes as f64 / MIB,
                rss_after_mib: after.rss_bytes as f64 / MIB,
            }
        });
        Self {
            over: if args.http { "http" } else { "sockets" },
            readers: match (args.burst, args.cold) {
                (Some(_), _) if args.same => 1,
                (Some(pages), _) => pages,
                (None, true) => args.users as usize,
                (None, false) => args.readers.min(args.users as usize),
            },
            limit: args.limit,
            rate: args.burst.is_none().then_some(args.rate),
            duration_s: parts.flowed.as_secs_f64(),
            seeded: parts.seeded,
            pages_per_s: counts.pages as f64 / parts.flowed.as_secs_f64().max(1e-3),
            counts,
            page: tally.all.percentiles(),
            warm: tally.warm.percentiles(),
            cold: tally.cold.percentiles(),
            further: tally.further.percentiles(),
            budget_ms: BUDGET.as_secs_f64() * 1e3,
            scheduling: parts.scheduling,
            worst_late_ms: tally.worst_late.as_secs_f64() * 1e3,
            pacing_late_ms: parts.pacing_late.map(|late| late.as_secs_f64() * 1e3),
            burst: args.burst.map(|_| Burst { same: args.same, rebuilds: made }),
            engaged: parts.engaged,
            live: parts.live,
            commands: parts.commands,
            phases: tally.phases(),
            trace: parts.trace,
            server,
        }
    }

    /// Each thing that is not as it must be.
    fn wrongs(&self) -> Vec<String> {
        let counts = &self.counts;
        let live = |of: fn(&live::Told) -> u64| self.live.as_ref().map_or(0, of);
        let wrongs = [
            (counts.empty + counts.empty_of_strangers, "pages were empty although there are posts"),
            (counts.late, "pages were late"),
            (counts.repeated, "posts were shown again within a reading"),
            (counts.refusals(), "pages were refused"),
            (counts.unanswered + counts.not_asked, "pages were not answered"),
            (u64::from(counts.pages == 0), "runs without a single page"),
            (live(|live| live.missing), "posts were not pushed"),
            (live(|live| live.repeated), "posts were pushed again"),
            (live(|live| live.sockets_lost as u64), "subscribers lost their sockets"),
        ];
        wrongs.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "feed";
    const MAIN: &'static str = "page";

    fn ok(&self) -> bool {
        self.wrongs().is_empty()
    }

    fn verdict(&self) -> String {
        match &self.wrongs()[..] {
            [] => "Every page came in time and had something in it".to_owned(),
            wrongs => wrongs.join(", "),
        }
    }

    fn lines(&self, lines: &mut Lines) {
        self.told_pages(lines);
        self.told_machine(lines);
        if let Some(Burst { same, rebuilds }) = &self.burst {
            let whose = if *same { "one user's, all at once" } else { "each another user's, all at once" };
            let rebuilds = rebuilds.map_or("unknown, no metrics".to_owned(), |made| format!("{made:.0}"));
            lines.say("burst", format_args!("{whose}; rankings made: {rebuilds}"));
        }
        if let Some(done) = &self.engaged {
            let Done { likes, comments, shares, posts, follows, not_done, .. } = done;
            let kinds =
                format!("{likes} likes, {comments} comments, {shares} shares, {posts} posts, {follows} follows");
            lines.say("people did", format_args!("{} things: {kinds}", done.all()));
            if *not_done > 0 {
                lines.say("  not done", not_done);
            }
            for (name, count) in &done.refused {
                lines.say("  refused", format_args!("{name}: {count}"));
            }
        }
        if let Some(live) = &self.live {
            lines.say("live", live.words());
            lines.say("send to update", live.times().line());
        }
        self.told_faults(lines);
        if let Some(server) = &self.server {
            lines.say("server CPU", format_args!("{:.2} s, {:.1} us a page", server.cpu_s, server.cpu_us_per_page));
            let (before, after) = (server.rss_before_mib, server.rss_after_mib);
            lines.say("server RSS", format_args!("{before:.1} MiB before, {after:.1} after"));
        }
    }
}

impl Summary {
    fn told_pages(&self, lines: &mut Lines) {
        let counts = &self.counts;
        lines.say("population", self.seeded.words());
        let rate = self.rate.map_or("at once".to_owned(), |rate| format!("{rate}/s"));
        let shape = format!("{} readers over {}, {} posts a page", self.readers, self.over, self.limit);
        lines.say("load", format_args!("{rate} for {:.1} s, {shape}", self.duration_s));
        lines.say("pages", format_args!("{} of {} answered, {:.0}/s", counts.pages, counts.asked, self.pages_per_s));
        for (name, count) in &counts.refused {
            lines.say("  refused", format_args!("{name}: {count}"));
        }
        for (what, count) in [
            ("  not answered", counts.unanswered),
            ("  not asked", counts.not_asked),
            ("  cursor expired", counts.cursor_expired),
        ] {
            if count > 0 {
                lines.say(what, count);
            }
        }
        let (empty, strangers) = (counts.empty, counts.empty_of_strangers);
        lines.say("empty", format_args!("{empty} of those who follow somebody, {strangers} of others"));
        lines.say("repeated posts", counts.repeated);
        let tally::Degraded { pages, followee, trending, affinity } = counts.degraded;
        let parts = format!("lacked followees {followee}, trending {trending}, affinity {affinity}");
        lines.say("degraded", format_args!("{pages} pages ({parts})"));
        lines.say("all pages", self.page.line());
        for (what, times) in [("  warm", self.warm), ("  cold", self.cold), ("  further", self.further)] {
            if times.count > 0 {
                lines.say(what, times.line());
            }
        }
    }

    fn told_machine(&self, lines: &mut Lines) {
        let (budget, machine) = (self.budget_ms, self.scheduling);
        lines.say(
            "the machine was late by",
            format_args!("p50 {:.2} ms, p99 {:.2}, max {:.2}", machine.p50_ms, machine.p99_ms, machine.max_ms),
        );
        let (late, with_it) = (self.counts.late, self.counts.late_with_the_machine);
        lines.say(
            "late",
            format_args!("{late} pages beyond {budget:.0} ms and the machine's lateness meanwhile, {with_it} more beyond {budget:.0} ms alone"),
        );
        if late > 0 {
            lines.say("  too late by", format_args!("{:.1} ms at most", self.worst_late_ms));
        }
        if let Some(late) = self.pacing_late_ms {
            lines.say("this tool was late by", format_args!("{late:.2} ms at most (counted in the times)"));
        }
    }

    fn told_faults(&self, lines: &mut Lines) {
        for ran in &self.commands {
            lines.say("at", ran.words());
        }
        if self.phases.len() > 1 {
            for tally::Told { from_s, counts, page } in &self.phases {
                let (pages, empty, late, refused) = (counts.pages, counts.empty, counts.late, counts.refusals());
                let (degraded, p50, p99, max) = (counts.degraded.pages, page.p50_ms, page.p99_ms, page.max_ms);
                lines.say(
                    &format!("from {from_s:.1} s"),
                    format_args!(
                        "{pages} pages, {empty} empty, {late} late, {refused} refused, {degraded} degraded; p50 {p50:.2} ms, p99 {p99:.2}, max {max:.2}"
                    ),
                );
            }
        }
        let Some(trace) = &self.trace else { return };
        for change in &trace.breakers {
            lines.say("breaker", change.words());
        }
        let listed = |counts: &std::collections::BTreeMap<String, f64>| {
            let some =
                counts.iter().filter(|(_, count)| **count > 0.0).map(|(name, count)| format!("{name} {count:.0}"));
            some.collect::<Vec<_>>().join(", ")
        };
        lines.say("the feed's cache", listed(&trace.cache));
        lines.say("fallbacks at once", format_args!("{:.0} at most", trace.fallback_inside_max));
        if trace.breaker_refused.values().any(|count| *count > 0.0) {
            lines.say("breakers refused", listed(&trace.breaker_refused));
        }
    }
}
