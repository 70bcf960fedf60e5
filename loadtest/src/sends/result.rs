//! What a run of sends came to.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::load::Load;
use super::{Args, Rate};
use crate::process::Usage;
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(crate) struct Summary {
    ok: bool,
    conversations: usize,
    readers: usize,
    bytes: usize,
    rate: Option<f64>,
    duration_s: f64,
    sent: u64,
    acked: u64,
    acked_per_s: f64,
    refused: BTreeMap<String, u64>,
    delivered: u64,
    deliveries_due: u64,
    sockets_lost: u64,
    pacing_late_ms: Option<f64>,
    send_to_ack: Percentiles,
    send_to_deliver: Percentiles,
    fdatasync: Percentiles,
    ack_over_fdatasync_p50: f64,
    ack_over_fdatasync_p99: f64,
    server: Option<Server>,
}

#[derive(Serialize)]
struct Server {
    cpu_s: f64,
    cpu_us_per_send: f64,
    rss_before_mib: f64,
    rss_after_mib: f64,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Summary {
    pub(crate) fn new(
        args: &Args,
        load: &Load,
        acked_in_time: u64,
        fdatasync: Percentiles,
        usage: Option<(Usage, Usage)>,
        pacing_late: Option<Duration>,
    ) -> Self {
        let (sent, acked) = (load.sent.load(Ordering::Relaxed), load.acked.load(Ordering::Relaxed));
        let (delivered, ended) = (load.delivered.load(Ordering::Relaxed), load.ended.load(Ordering::Relaxed));
        let refused = load.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let send_to_ack = load.acks.percentiles();
        let server = usage.map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            Server {
                cpu_s: cpu,
                cpu_us_per_send: cpu * 1e6 / (acked.max(1) as f64),
                rss_before_mib: before.rss_bytes as f64 / MIB,
                rss_after_mib: after.rss_bytes as f64 / MIB,
            }
        });
        Self {
            ok: ended == 0 && refused.is_empty() && acked > 0 && load.settled(args.readers),
            conversations: args.conversations,
            readers: args.readers,
            bytes: args.bytes,
            rate: match args.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            duration_s: args.duration.as_secs_f64(),
            sent,
            acked,
            acked_per_s: acked_in_time as f64 / args.duration.as_secs_f64(),
            refused,
            delivered,
            deliveries_due: acked * args.readers as u64,
            sockets_lost: ended,
            pacing_late_ms: pacing_late.map(|late| late.as_secs_f64() * 1e3),
            send_to_ack,
            send_to_deliver: load.deliveries.percentiles(),
            fdatasync,
            ack_over_fdatasync_p50: send_to_ack.p50_ms / fdatasync.p50_ms,
            ack_over_fdatasync_p99: send_to_ack.p99_ms / fdatasync.p99_ms,
            server,
        }
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "sends";
    const MAIN: &'static str = "send_to_ack";

    fn ok(&self) -> bool {
        self.ok
    }

    fn verdict(&self) -> String {
        if self.ok { "Every send acked, every ack delivered" } else { "Not every send was acked and delivered" }
            .to_owned()
    }

    fn lines(&self, lines: &mut Lines) {
        let rate = self.rate.map_or("max".to_owned(), |rate| format!("{rate}/s"));
        let shape = format!("{} conversations, {} readers each, {} B", self.conversations, self.readers, self.bytes);
        lines.say("load", format_args!("{rate} for {:.0} s, {shape}", self.duration_s));
        lines.say("durable sends", format_args!("{} of {} acked, {:.0}/s", self.acked, self.sent, self.acked_per_s));
        for (name, count) in &self.refused {
            lines.say("  refused", format_args!("{name}: {count}"));
        }
        lines.say("deliveries", format_args!("{} of {}", self.delivered, self.deliveries_due));
        lines.say("send to ack", self.send_to_ack.line());
        lines.say("send to deliver", self.send_to_deliver.line());
        lines.say("fdatasync, same run", self.fdatasync.line());
        let (p50, p99) = (self.ack_over_fdatasync_p50, self.ack_over_fdatasync_p99);
        lines.say("ack / fdatasync", format_args!("p50 {p50:.2} x, p99 {p99:.2} x"));
        if let Some(late) = self.pacing_late_ms {
            lines.say("this tool was late by", format_args!("{late:.2} ms at most (counted in the times)"));
        }
        if let Some(server) = &self.server {
            let (cpu, each) = (server.cpu_s, server.cpu_us_per_send);
            lines.say("server CPU", format_args!("{cpu:.2} s, {each:.1} us a send"));
            lines.say(
                "server RSS",
                format_args!("{:.1} MiB before, {:.1} after", server.rss_before_mib, server.rss_after_mib),
            );
        }
        if self.sockets_lost > 0 {
            lines.say("sockets lost", self.sockets_lost);
        }
    }
}
