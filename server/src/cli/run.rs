use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Format, Logging, Problems};

/// 0 done, 1 failed, 2 the configuration is not right (as clap exits for a wrong command line).
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("bowline: {error:#}");
    if error.is::<Problems>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Log lines go to standard error: standard output is for what was asked for.
pub(super) fn start_logging(config: &Logging) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&config.filter).context("logging.filter")?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let started = match config.format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().try_init(),
    };
    started.map_err(anyhow::Error::from_boxed).context("starting the log")
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
