//! A memory cgroup of our own: what a pod with a memory limit is, kernel memory included. Version 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

pub(crate) struct Pod {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Bytes, and counts since the pod was made. Version 1 counts buffers of TCP apart from the rest, and against a limit of their own;
/// here they are in `used` and `kernel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged {
    pub(crate) used: u64,
    pub(crate) peak: u64,
    /// What buffers of TCP came to at the most, where `peak` does not have them.
    pub(crate) tcp_peak: Option<u64>,
    pub(crate) kernel: u64,
    /// How often the limit was met. Reclaim may have helped.
    pub(crate) failed: u64,
    /// Processes that were killed since it did not.
    pub(crate) killed: u64,
}

/// How often a pod that is watched is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Pod {
    pub(crate) fn make(limit_mib: u64) -> anyhow::Result<Pod> {
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let (version, places) = places(&own);
        let name = format!("bowline-pod-{}", std::process::id());
        let mut refused = Vec::new();
        for parent in places {
            let folder = parent.join(&name);
            match Self::make_at(folder.clone(), version, limit_mib) {
                Ok(pod) => return Ok(pod),
                Err(error) => refused.push(format!("{}: {error:#}", folder.display())),
            }
        }
        bail!("no memory cgroup can be made here (as root, where memory is delegated, it can): {}", refused.join("; "))
    }

    fn make_at(folder: PathBuf, version: Version, limit_mib: u64) -> anyhow::Result<Pod> {
        fs::create_dir(&folder)?;
        // From here on it is removed again, however this ends.
        let pod = Pod { folder, version };
        let limit = limit_mib << 20;
        match version {
            Version::One => {
                pod.write("memory.limit_in_bytes", &limit.to_string())?;
                // Version 1 counts buffers of TCP only once they have a limit, and that limit is not shared: what both
                // come to at one moment is for `most` to say.
                pod.write("memory.kmem.tcp.limit_in_bytes", &limit.to_string())?;
            }
            Version::Two => {
                pod.write("memory.max", &limit.to_string())?;
                pod.write("memory.swap.max", "0").or_else(|_| anyhow::Ok(()))?;
            }
        }
        pod.charged()?;
        Ok(pod)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The command, run inside from its first instruction on.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    pub(crate) fn charged(&self) -> anyhow::Result<Charged> {
        match self.version {
            Version::One => {
                let tcp = self.number("memory.kmem.tcp.usage_in_bytes")?;
                Ok(Charged {
                    used: self.number("memory.usage_in_bytes")? + tcp,
                    peak: self.number("memory.max_usage_in_bytes")?,
                    tcp_peak: Some(self.number("memory.kmem.tcp.max_usage_in_bytes")?),
                    kernel: self.number("memory.kmem.usage_in_bytes")? + tcp,
                    failed: self.number("memory.failcnt")? + self.number("memory.kmem.tcp.failcnt")?,
                    killed: self.keyed("memory.oom_control", "oom_kill")?,
                })
            }
            Version::Two => Ok(Charged {
                used: self.number("memory.current")?,
                // Older kernels do not keep it.
                peak: self.number("memory.peak").unwrap_or(0),
                tcp_peak: None,
                kernel: self.keyed("memory.stat", "kernel")? + self.keyed("memory.stat", "sock")?,
                failed: self.keyed("memory.events", "max")?,
                killed: self.keyed("memory.events", "oom_kill")?,
            }),
        }
    }

    /// What `f` returns, and the most that was charged at one moment meanwhile, buffers of TCP included: before there was a
    /// file at `ended`, and afterwards.
    pub(crate) fn most<R>(&self, ended: &Path, f: impl FnOnce() -> R) -> (R, [u64; 2]) {
        let over = AtomicBool::new(false);
        let most = [AtomicU64::new(0), AtomicU64::new(0)];
        let returned = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let used = self.charged().map_or(0, |charged| charged.used);
                    most[usize::from(ended.exists())].fetch_max(used, Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            });
            let returned = f();
            over.store(true, Ordering::Relaxed);
            returned
        });
        (returned, most.map(AtomicU64::into_inner))
    }

    fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        fs::write(self.folder.join(file), value).with_context(|| file.to_owned())
    }

    fn number(&self, file: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file)).with_context(|| file.to_owned())?;
        text.trim().parse().with_context(|| file.to_owned())
    }

    fn keyed(&self, file: &str, name: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file)).with_context(|| file.to_owned())?;
        keyed(&text, name).with_context(|| format!("{file} has no {name}"))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Its processes have ended; if one has not, the folder stays, and the kernel says so to whoever looks.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where one may be made: beneath the own cgroup, else at the root of the hierarchy.
fn places(own: &str) -> (Version, [PathBuf; 2]) {
    let entries = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (mut one, mut two) = (None, "/");
    for (controllers, path) in entries {
        if controllers.split(',').any(|name| name == "memory") {
            one = Some(path);
        } else if controllers.is_empty() {
            two = path;
        }
    }
    let (version, root, path) = match one {
        Some(path) => (Version::One, Path::new("/sys/fs/cgroup/memory"), path),
        None => (Version::Two, Path::new("/sys/fs/cgroup"), two),
    };
    (version, [root.join(path.trim_start_matches('/')), root.to_owned()])
}

fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_memory_cgroup_is_found() {
        let (version, [own, root]) = places("4:memory:/a/b\n1:cpu:/\n0::/x\n");
        assert!(version == Version::One);
        assert_eq!((own, root), ("/sys/fs/cgroup/memory/a/b".into(), "/sys/fs/cgroup/memory".into()));
        let (version, [own, _]) = places("0::/user.slice\n");
        assert!(version == Version::Two && own == Path::new("/sys/fs/cgroup/user.slice"));
    }

    #[test]
    fn keys_are_whole_words() {
        let events = "low 0\nmax 12\noom_kill 3\noom 4\n";
        assert_eq!((keyed(events, "max"), keyed(events, "oom"), keyed(events, "ma")), (Some(12), Some(4), None));
    }
}
