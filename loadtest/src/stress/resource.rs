//! What ran out, by the samples of a step. Pure, but for one look at the limits.

use serde::Serialize;

use crate::process;
use crate::sample::Cgroup;
use crate::timeline::{Inner, Plot};

/// What was seen while a step was held; means over it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Observed {
    pub(super) server_cores: Option<f64>,
    pub(super) tool_cores: Option<f64>,
    pub(super) machine_cores: Option<f64>,
    pub(super) cores: f64,
    pub(super) server_descriptors: Option<f64>,
    pub(super) descriptors_limit: Option<f64>,
    pub(super) memory_mib: Option<f64>,
    pub(super) cgroup_mib: Option<f64>,
    pub(super) cgroup_limit_mib: Option<f64>,
    /// A batch of appends, and what it took in the first step.
    pub(super) database_ms: Option<f64>,
    pub(super) database_at_first_ms: Option<f64>,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Observed {
    pub(super) fn of(timeline: &Inner, from_s: f64, pids: &[u32], database_at_first_ms: Option<f64>) -> Self {
        let mean = |plot, name| timeline.mean_since(from_s, plot, name);
        let limit: u64 = pids.iter().filter_map(|pid| process::descriptor_limit(*pid)).sum();
        let cgroup = pids.first().and_then(|pid| Cgroup::of(*pid)).and_then(|cgroup| cgroup.memory());
        Self {
            server_cores: mean(Plot::PROCESSOR, "server"),
            tool_cores: mean(Plot::PROCESSOR, "this tool"),
            machine_cores: mean(Plot::PROCESSOR, "machine"),
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
            server_descriptors: mean(Plot::DESCRIPTORS, "server"),
            descriptors_limit: (limit > 0).then_some(limit as f64),
            memory_mib: mean(Plot::MEMORY, "PSS"),
            cgroup_mib: mean(Plot::MEMORY, "cgroup"),
            cgroup_limit_mib: cgroup.and_then(|memory| memory.limit_bytes).map(|bytes| bytes as f64 / MIB),
            database_ms: mean(Plot::DATABASE, "a batch"),
            database_at_first_ms,
        }
    }

    /// Limits that are met come first, since they are certain; then processors, of which the tool's own makes all else worthless;
    /// then the database, by how much longer it takes. None if none of these explains it.
    pub(super) fn ran_out(&self) -> Option<&'static str> {
        let near = |value: Option<f64>, limit: Option<f64>| {
            value.zip(limit).is_some_and(|(value, limit)| limit > 0.0 && value >= 0.93 * limit)
        };
        let all = Some(self.cores);
        if near(self.server_descriptors, self.descriptors_limit) {
            return Some("descriptors of the server");
        }
        if near(self.cgroup_mib, self.cgroup_limit_mib) {
            return Some("memory of the server's cgroup");
        }
        let most = |own: Option<f64>| near(self.machine_cores, all) && own.is_some_and(|own| own >= 0.4 * self.cores);
        match () {
            () if most(self.tool_cores) && self.tool_cores >= self.server_cores => {
                Some("processors: this tool's own (the server may have more in it)")
            }
            () if most(self.server_cores) => Some("processors: the server's"),
            () if near(self.server_cores, Some(1.0)) => Some("one processor: a thread of the server's"),
            () if near(self.tool_cores, Some(1.0)) => {
                Some("one processor: a thread of this tool's own (the server may have more in it)")
            }
            () if self.database_grew() => Some("the database: appends take three times as long"),
            () if near(self.machine_cores, all) => Some("processors: the machine's, the database and others included"),
            () => None,
        }
    }

    fn database_grew(&self) -> bool {
        self.database_ms.zip(self.database_at_first_ms).is_some_and(|(now, first)| now >= 3.0 * first && now >= 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: Observed, begins: Option<&str>) {
        let named = seen.ran_out();
        let fits = match (named, begins) {
            (Some(named), Some(begins)) => named.starts_with(begins),
            (named, begins) => named == begins,
        };
        assert!(fits, "{named:?} for {seen:?}");
    }

    #[test]
    fn the_first_that_ran_out_is_named() {
        let calm = Observed {
            server_cores: Some(0.5),
            tool_cores: Some(0.3),
            machine_cores: Some(1.0),
            cores: 2.0,
            server_descriptors: Some(1_000.0),
            descriptors_limit: Some(20_000.0),
            database_ms: Some(1.0),
            database_at_first_ms: Some(0.9),
            ..Observed::default()
        };
        check(calm, None);
        check(Observed { server_descriptors: Some(19_990.0), ..calm }, Some("descriptors"));
        let in_pod = Observed { cgroup_mib: Some(62.0), cgroup_limit_mib: Some(64.0), ..calm };
        check(in_pod, Some("memory"));
        let busy = Observed { machine_cores: Some(1.95), ..calm };
        check(Observed { server_cores: Some(1.2), ..busy }, Some("processors: the server's"));
        check(Observed { server_cores: Some(0.7), tool_cores: Some(1.1), ..busy }, Some("processors: this tool's"));
        check(Observed { server_cores: Some(0.99), ..calm }, Some("one processor: a thread of the server"));
        check(Observed { database_ms: Some(9.0), ..busy }, Some("the database"));
        check(busy, Some("processors: the machine's"));
    }
}
