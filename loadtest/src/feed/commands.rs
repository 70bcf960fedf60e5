//! What is done to the servers at given seconds of a run: commands of the shell.

use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::timeline::Timeline;

/// `10=kill -STOP 42`: at that second from the start of the pages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) command: String,
}

/// A command that was run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ran {
    at_s: f64,
    command: String,
    /// Absent: a signal ended it, it could not be run, or it had not ended when all else had.
    exit_code: Option<i32>,
}

/// What has not ended this long after the run is ended.
const PATIENCE: Duration = Duration::from_secs(10);

impl FromStr for Timed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a second and a command, as in '10=kill -STOP 42'";
        let (at, command) = text.split_once('=').ok_or(EXPECTED)?;
        let at: f64 = at.trim().trim_end_matches('s').parse().map_err(|_| EXPECTED)?;
        let at = Duration::try_from_secs_f64(at).map_err(|_| EXPECTED)?;
        let command = command.trim().to_owned();
        if command.is_empty() { Err(EXPECTED.into()) } else { Ok(Self { at, command }) }
    }
}

/// Commands that wait for their moment, or run. Dropped, all of them are ended.
pub(super) struct Commands(JoinSet<Ran>);

impl Commands {
    pub(super) fn start(commands: &[Timed], start: Instant, timeline: &Arc<Timeline>) -> Self {
        let mut running = JoinSet::new();
        for Timed { at, command } in commands.iter().cloned() {
            let timeline = Arc::clone(timeline);
            running.spawn(async move {
                sleep_until(start + at).await;
                timeline.mark(command.clone());
                let exit_code = run(&command).await;
                Ran { at_s: at.as_secs_f64(), command, exit_code }
            });
        }
        Self(running)
    }

    /// All of them in order, those that did not end in time without a code.
    pub(super) async fn end(mut self, commands: &[Timed]) -> Vec<Ran> {
        let mut ran = Vec::new();
        let all = async {
            while let Some(one) = self.0.join_next().await {
                ran.extend(one.ok());
            }
        };
        let _ = timeout(PATIENCE, all).await;
        for Timed { at, command } in commands {
            let at_s = at.as_secs_f64();
            if !ran.iter().any(|known| known.at_s == at_s && known.command == *command) {
                ran.push(Ran { at_s, command: command.clone(), exit_code: None });
            }
        }
        ran.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        ran
    }
}

impl Ran {
    pub(super) fn words(&self) -> String {
        let code = self.exit_code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
        format!("{:.1} s: {} ({code})", self.at_s, self.command)
    }
}

/// Its words go to stderr: stdout is the result's.
async fn run(command: &str) -> Option<i32> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(std::io::stderr()).kill_on_drop(true);
    match shell.status().await {
        Ok(status) => status.code(),
        Err(error) => {
            eprintln!("{command}: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_its_second() {
        let timed = |ms, command: &str| Ok(Timed { at: Duration::from_millis(ms), command: command.to_owned() });
        assert_eq!("10=kill -STOP 42".parse(), timed(10_000, "kill -STOP 42"));
        assert_eq!("0.5s= a=b true".parse(), timed(500, "a=b true"));
        for wrong in ["", "10", "10=", "x=true", "-1=true", "=true", "1e99=true"] {
            assert!(wrong.parse::<Timed>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn commands_run_and_their_ends_are_told() {
        let commands: Vec<Timed> =
            ["0.01=exit 3", "0=true"].into_iter().map(|text| text.parse().expect("a command")).collect();
        let timeline = Arc::new(Timeline::new());
        let ran = Commands::start(&commands, Instant::now(), &timeline).end(&commands).await;
        let told: Vec<_> = ran.iter().map(|ran| (&*ran.command, ran.exit_code)).collect();
        assert_eq!(told, [("true", Some(0)), ("exit 3", Some(3))]);
        assert_eq!(timeline.copy().marks.len(), 2);
    }
}
