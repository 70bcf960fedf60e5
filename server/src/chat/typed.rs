use std::io::BufRead;

use tokio::sync::mpsc;

/// Lines that wait to be sent; beyond it the input is not read.
const LINES: usize = 16;

/// What is typed, line by line, until the input ends. A thread of its own reads it: a terminal can't be awaited.
pub(super) fn lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if !line.trim().is_empty() && lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    typed
}
