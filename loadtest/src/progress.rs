//! How a run is going: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total: u64, next: Instant },
}

const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// How often a scenario tells its progress.
pub(crate) const EVERY: Duration = Duration::from_millis(200);

impl Progress {
    /// On stderr, so that the summary alone is on stdout.
    pub(crate) fn new(total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { total, next: Instant::now() + BETWEEN_LINES };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {percent:>3}% {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress::Bar(bar)
    }

    pub(crate) fn tell(&mut self, done: u64, text: impl FnOnce() -> String) {
        match self {
            Progress::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(text());
            }
            Progress::Lines { total, next } if Instant::now() >= *next => {
                *next = Instant::now() + BETWEEN_LINES;
                eprintln!("{:>3}% {}", done * 100 / (*total).max(1), text());
            }
            Progress::Lines { .. } => {}
        }
    }

    pub(crate) fn end(self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
