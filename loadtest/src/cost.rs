//! What the server took: its processes, and their memory cgroup where they have one of their own, between two moments.

use serde::Serialize;

use crate::process::{self, Usage};
use crate::report::Lines;
use crate::sample::{Cgroup, Memory};

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) usage: Usage,
    pub(crate) cgroup: Option<Memory>,
}

impl Moment {
    /// None if no process is named.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Option<Self>> {
        let mut cgroups: Vec<Cgroup> = Vec::new();
        for found in pids.iter().filter_map(|pid| Cgroup::of(*pid)) {
            if !cgroups.contains(&found) {
                cgroups.push(found);
            }
        }
        let memories = cgroups.iter().filter_map(Cgroup::memory);
        let cgroup = memories.reduce(|sum, one| Memory {
            used_bytes: sum.used_bytes + one.used_bytes,
            kernel_bytes: sum.kernel_bytes + one.kernel_bytes,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
            limit_bytes: None,
            limit_hits: sum.limit_hits + one.limit_hits,
        });
        Ok(process::usage(pids)?.map(|usage| Self { usage, cgroup }))
    }
}

/// Memory before the first socket, with all of them, and at the end; processor time while messages flowed.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pss_before_mib: f64,
    pss_held_mib: f64,
    pss_after_mib: f64,
    rss_before_mib: f64,
    rss_held_mib: f64,
    rss_after_mib: f64,
    bytes_per_socket: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_peak_mib: Option<f64>,
    cpu_s: f64,
    cpu_us_per_delivery: f64,
    deliveries_per_cpu_s: f64,
}

impl Cost {
    /// `deliveries` are those between `held` and `after`.
    pub(crate) fn new([before, held, after]: [Option<Moment>; 3], sockets: u32, deliveries: u64) -> Option<Self> {
        let (before, held, after) = (before?, held?, after?);
        let cpu = after.usage.cpu.saturating_sub(held.usage.cpu).as_secs_f64();
        let (pss, rss) = (|m: Moment| m.usage.pss_bytes as f64 / MIB, |m: Moment| m.usage.rss_bytes as f64 / MIB);
        Some(Self {
            pss_before_mib: pss(before),
            pss_held_mib: pss(held),
            pss_after_mib: pss(after),
            rss_before_mib: rss(before),
            rss_held_mib: rss(held),
            rss_after_mib: rss(after),
            bytes_per_socket: (pss(held) - pss(before)) * MIB / f64::from(sockets.max(1)),
            cgroup_peak_mib: after.cgroup.map(|memory| memory.peak_bytes as f64 / MIB),
            cpu_s: cpu,
            cpu_us_per_delivery: cpu * 1e6 / deliveries.max(1) as f64,
            deliveries_per_cpu_s: if cpu > 0.0 { deliveries as f64 / cpu } else { 0.0 },
        })
    }

    pub(crate) fn lines(&self, lines: &mut Lines) {
        let (before, held, after) = (self.pss_before_mib, self.pss_held_mib, self.pss_after_mib);
        lines.say(
            "server memory (PSS)",
            format_args!("{before:.1} MiB before, {held:.1} with all sockets, {after:.1} at the end"),
        );
        lines.say("memory a socket", format_args!("{:.0} B", self.bytes_per_socket));
        if let Some(peak) = self.cgroup_peak_mib {
            lines.say("cgroup", format_args!("{peak:.1} MiB at its peak"));
        }
        let (cpu, each) = (self.cpu_s, self.cpu_us_per_delivery);
        lines.say(
            "server CPU",
            format_args!(
                "{cpu:.2} s, {each:.1} us a delivery, {:.0} deliveries a second of it",
                self.deliveries_per_cpu_s
            ),
        );
    }
}
