//! What a crowd of sockets came to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::Args;
use super::crowd::Crowd;
use crate::process::Usage;
use crate::report::Lines;
use crate::run;
use crate::times::Percentiles;

/// The keys are documented in docs/loadtest.md.
#[derive(Serialize)]
pub(crate) struct Summary {
    ok: bool,
    sockets: usize,
    follow: usize,
    conversations: usize,
    rate: f64,
    duration_s: f64,
    connect_s: f64,
    sent: u64,
    acked: u64,
    refused: u64,
    deliveries: u64,
    deliveries_due: u64,
    wrong: u64,
    sockets_lost: u64,
    send_to_ack: Percentiles,
    send_to_deliver: Percentiles,
    server: Option<Server>,
}

#[derive(Serialize)]
struct Server {
    rss_before_mib: f64,
    rss_held_mib: f64,
    rss_after_mib: f64,
    bytes_per_socket: f64,
    cpu_s: f64,
    cpu_us_per_delivery: f64,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Summary {
    /// `usage`: before the first socket, with all of them, and at the end.
    pub(crate) fn new(
        args: &Args,
        crowd: &Crowd,
        sent: u64,
        connected_in: Duration,
        usage: [Option<Usage>; 3],
    ) -> Self {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (deliveries, wrong, lost) = (count(&crowd.delivered), count(&crowd.wrong), count(&crowd.lost_sockets));
        let server = match usage {
            [Some(before), Some(held), Some(after)] => {
                let cpu = after.cpu.saturating_sub(held.cpu).as_secs_f64();
                let mib = |usage: Usage| usage.rss_bytes as f64 / MIB;
                Some(Server {
                    rss_before_mib: mib(before),
                    rss_held_mib: mib(held),
                    rss_after_mib: mib(after),
                    bytes_per_socket: (held.rss_bytes as f64 - before.rss_bytes as f64) / args.sockets as f64,
                    cpu_s: cpu,
                    cpu_us_per_delivery: cpu * 1e6 / (deliveries.max(1) as f64),
                })
            }
            _ => None,
        };
        Self {
            ok: crowd.settled(sent) && count(&crowd.refused) == 0 && wrong == 0 && lost == 0,
            sockets: args.sockets,
            follow: args.follow,
            conversations: args.conversations,
            rate: args.rate,
            duration_s: args.duration.as_secs_f64(),
            connect_s: connected_in.as_secs_f64(),
            sent,
            acked: count(&crowd.acked),
            refused: count(&crowd.refused),
            deliveries,
            deliveries_due: count(&crowd.due),
            wrong,
            sockets_lost: lost,
            send_to_ack: crowd.acks.percentiles(),
            send_to_deliver: crowd.deliveries.percentiles(),
            server,
        }
    }
}

impl run::Summary for Summary {
    const SCENARIO: &'static str = "idle";
    const MAIN: &'static str = "send_to_deliver";

    fn ok(&self) -> bool {
        self.ok
    }

    fn verdict(&self) -> String {
        if self.ok { "Every message delivered exactly" } else { "Not every message was delivered exactly" }.to_owned()
    }

    fn lines(&self, lines: &mut Lines) {
        let shape = format!("each following {} of {} conversations", self.follow, self.conversations);
        lines.say("sockets", format_args!("{}, {shape}, connected in {:.1} s", self.sockets, self.connect_s));
        lines.say(
            "messages",
            format_args!("{}/s for {:.0} s: {} of {} acked", self.rate, self.duration_s, self.acked, self.sent),
        );
        lines.say("deliveries", format_args!("{} of {}, {} wrong", self.deliveries, self.deliveries_due, self.wrong));
        lines.say("send to ack", self.send_to_ack.line());
        lines.say("send to deliver", self.send_to_deliver.line());
        if let Some(server) = &self.server {
            let (before, held, after) = (server.rss_before_mib, server.rss_held_mib, server.rss_after_mib);
            lines.say(
                "server RSS",
                format_args!("{before:.1} MiB before, {held:.1} with all sockets, {after:.1} at the end"),
            );
            lines.say("memory a socket", format_args!("{:.0} B", server.bytes_per_socket));
            lines.say(
                "server CPU",
                format_args!("{:.2} s, {:.1} us a delivery", server.cpu_s, server.cpu_us_per_delivery),
            );
        }
        if self.sockets_lost > 0 {
            lines.say("sockets lost", self.sockets_lost);
        }
    }
}
