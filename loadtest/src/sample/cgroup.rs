//! The memory cgroup of a process, version 1 or 2: what a pod is charged with, kernel memory of its sockets included.

use std::fs;
use std::path::{Path, PathBuf};

/// A memory cgroup that holds the server and not this tool: another one would say nothing of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Bytes. Version 1 counts buffers of TCP apart from the rest; here they are in the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) used_bytes: u64,
    pub(crate) kernel_bytes: u64,
    /// In version 1 the two peaks added up, as if they had been at one moment: no less than it was.
    pub(crate) peak_bytes: u64,
    pub(crate) limit_bytes: Option<u64>,
    /// Times that the limit was met: reclaim was tried, and a process killed if that gave nothing.
    pub(crate) limit_hits: u64,
}

const HIERARCHY: &str = "/sys/fs/cgroup";

impl Cgroup {
    pub(crate) fn of(pid: u32) -> Option<Cgroup> {
        let read = |who: &str| fs::read_to_string(format!("/proc/{who}/cgroup")).ok();
        let found = find(&read(&pid.to_string())?)?;
        (Some(&found) != read("self").as_deref().and_then(find).as_ref()).then_some(found)
    }

    /// None once the cgroup has been removed.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).ok();
        match self.version {
            Version::One => {
                let bytes = |file: &str| read(file)?.trim().parse::<u64>().ok();
                let tcp = bytes("memory.kmem.tcp.usage_in_bytes").unwrap_or(0);
                let tcp_peak = bytes("memory.kmem.tcp.max_usage_in_bytes").unwrap_or(0);
                Some(Memory {
                    used_bytes: bytes("memory.usage_in_bytes")? + tcp,
                    kernel_bytes: bytes("memory.kmem.usage_in_bytes").unwrap_or(0) + tcp,
                    peak_bytes: bytes("memory.max_usage_in_bytes")? + tcp_peak,
                    limit_bytes: bytes("memory.limit_in_bytes").filter(|limit| *limit < 1 << 60),
                    limit_hits: bytes("memory.failcnt").unwrap_or(0),
                })
            }
            Version::Two => {
                let bytes = |file: &str| read(file)?.trim().parse::<u64>().ok();
                let (stat, events) =
                    (read("memory.stat").unwrap_or_default(), read("memory.events").unwrap_or_default());
                let used_bytes = bytes("memory.current")?;
                Some(Memory {
                    used_bytes,
                    // `kernel` does not have the buffers of sockets in it.
                    kernel_bytes: keyed(&stat, "kernel").unwrap_or(0) + keyed(&stat, "sock").unwrap_or(0),
                    peak_bytes: bytes("memory.peak").unwrap_or(used_bytes),
                    limit_bytes: bytes("memory.max"),
                    limit_hits: keyed(&events, "max").unwrap_or(0),
                })
            }
        }
    }
}

/// In the lines of `/proc/PID/cgroup`: version 1's memory hierarchy if there is one, else version 2's only one.
fn find(lines: &str) -> Option<Cgroup> {
    let entry = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1).map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    let entries: Vec<(String, String)> = lines.lines().filter_map(entry).collect();
    let memory = entries.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let (version, root, path) = match memory {
        Some((_, path)) => (Version::One, Path::new(HIERARCHY).join("memory"), path),
        None => (Version::Two, PathBuf::from(HIERARCHY), &entries.iter().find(|(names, _)| names.is_empty())?.1),
    };
    let inside = path.trim_start_matches('/');
    // The root is the whole machine.
    (!inside.is_empty()).then(|| Cgroup { folder: root.join(inside), version })
}

fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, expected: Option<(&str, Version)>) {
        let expected = expected.map(|(folder, version)| Cgroup { folder: folder.into(), version });
        assert_eq!(find(lines), expected, "{lines}");
    }

    #[test]
    fn the_memory_cgroup_is_found() {
        check("4:memory:/pod/a\n1:cpu:/\n0::/\n", Some(("/sys/fs/cgroup/memory/pod/a", Version::One)));
        check("3:cpu,memory:/x\n", Some(("/sys/fs/cgroup/memory/x", Version::One)));
        check("0::/system.slice/a:b.service\n", Some(("/sys/fs/cgroup/system.slice/a:b.service", Version::Two)));
        check("4:memory:/\n0::/x\n", None);
        check("0::/\n", None);
        check("", None);
    }

    /// A folder with these files, gone at the end of the test.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let folder = std::env::temp_dir().join(format!("bowline-cgroup-{}-{name}", std::process::id()));
            fs::create_dir(&folder).expect("a new folder");
            for (file, text) in files {
                fs::write(folder.join(file), text).expect("written");
            }
            Files(folder)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_one_counts_tcp_apart_and_here_together() {
        let files = Files::new(
            "one",
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.max_usage_in_bytes", "2000\n"),
                ("memory.kmem.usage_in_bytes", "300\n"),
                ("memory.kmem.tcp.usage_in_bytes", "40\n"),
                ("memory.kmem.tcp.max_usage_in_bytes", "50\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.failcnt", "7\n"),
            ],
        );
        let memory = Cgroup { folder: files.0.clone(), version: Version::One }.memory().expect("there");
        let expected =
            Memory { used_bytes: 1040, kernel_bytes: 340, peak_bytes: 2050, limit_bytes: None, limit_hits: 7 };
        assert_eq!(memory, expected);
    }

    #[test]
    fn version_two_has_its_limit_and_its_events() {
        let files = Files::new(
            "two",
            &[
                ("memory.current", "1000\n"),
                ("memory.peak", "2000\n"),
                ("memory.max", "67108864\n"),
                ("memory.stat", "anon 5\nkernel 300\nkernel_stack 9\nsock 40\n"),
                ("memory.events", "low 0\nhigh 0\nmax 3\noom 0\n"),
            ],
        );
        let cgroup = Cgroup { folder: files.0.clone(), version: Version::Two };
        let expected = Memory {
            used_bytes: 1000,
            kernel_bytes: 340,
            peak_bytes: 2000,
            limit_bytes: Some(64 << 20),
            limit_hits: 3,
        };
        assert_eq!(cgroup.memory(), Some(expected));
        drop(files);
        assert_eq!(cgroup.memory(), None, "a cgroup that has gone says nothing");
    }
}
