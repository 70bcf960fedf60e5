//! A process that ends with this task, however this task ends, and that can be killed and started again.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;

use crate::command;

/// Who the process runs as, where that is not this user.
pub(crate) type Identity = Option<(u32, u32)>;

pub(crate) struct Kept {
    keeper: Child,
    pids: BufReader<ChildStdout>,
    pid: u32,
}

/// Starts the program, and again for each line of its input, once the one before has ended. When the input ends, which the
/// kernel sees to if the task dies, it ends the program by the signal $1 and removes the folder $2, if there is one. (A cgroup
/// goes by rmdir alone.)
const KEEPER: &str = r#"
signal=$1 folder=$2 log=$3; shift 3
serve() { "$@" </dev/null >>"$log" 2>&1 & pid=$!; echo $pid; }
serve "$@"
trap '' INT TERM HUP
while read -r _; do wait $pid; serve "$@"; done
kill -s $signal $pid 2>/dev/null
wait $pid
[ -z "$folder" ] || rmdir "$folder" 2>/dev/null || rm -rf "$folder"
"#;

impl Kept {
    /// `program` with its arguments and environment; `signal` is how it is asked to end, `remove` what goes with it.
    pub(crate) fn start(
        program: &Command,
        identity: Identity,
        signal: &str,
        log: &Path,
        remove: Option<&Path>,
    ) -> anyhow::Result<Kept> {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper", signal]).arg(remove.map_or(OsStr::new(""), Path::as_os_str)).arg(log);
        keeper.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        if let Some((user, group)) = identity {
            keeper.uid(user).gid(group);
        }
        // A group of its own: ^C is for the task, and what it started ends after it.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().context("a shell can't be started")?;
        let pids = BufReader::new(keeper.stdout.take().context("no output of the shell")?);
        let mut kept = Kept { keeper, pids, pid: 0 };
        kept.read_pid()?;
        Ok(kept)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, for the process alone.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        command::run(Command::new("kill").args(["-s", "KILL", &self.pid.to_string()]))
    }

    /// SIGKILL, for the process and those that it started.
    pub(crate) fn kill_family(&self) -> anyhow::Result<()> {
        // None at all is no failure.
        let children = command::output(Command::new("ps").args(["-o", "pid=", "--ppid", &self.pid.to_string()]));
        self.kill()?;
        for child in children.unwrap_or_default().split_whitespace() {
            // It may have ended with its parent.
            let _ = command::output(Command::new("kill").args(["-s", "KILL", child]));
        }
        Ok(())
    }

    /// Starts it again after it has ended.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        let input = self.keeper.stdin.as_mut().context("the keeper was stopped")?;
        input.write_all(b"again\n")?;
        self.read_pid()
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.close()
    }

    fn read_pid(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        self.pids.read_line(&mut line)?;
        self.pid = line.trim().parse().context("the keeper has ended")?;
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        drop(self.keeper.stdin.take());
        self.keeper.wait()?;
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // After `stop` this does nothing; after a failure nobody is left to hear of another one.
        let _ = self.close();
    }
}
