//! Where and how a run was made, so that its figures can be judged and repeated.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    /// UTC.
    pub(crate) started: String,
    pub(crate) tool: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    /// How busy the machine was before the run: of the last minute, in processes.
    pub(crate) load_before: Option<f64>,
    pub(crate) command: String,
}

/// Flags whose value is nobody's business.
const SECRET_FLAGS: &[&str] = &["--token-secret"];

impl Environment {
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory_kib =
            value(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            started: utc(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            tool: concat!("bowline-loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
            command: shown(std::env::args()),
        }
    }
}

/// As it can be typed again, secrets left out.
fn shown(args: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for (n, arg) in args.into_iter().enumerate() {
        let arg = if n == 0 { arg.rsplit('/').next().unwrap_or_default().to_owned() } else { arg };
        let flag = arg.split_once('=').map_or(&*arg, |(flag, _)| flag);
        let secret = SECRET_FLAGS.contains(&flag);
        words.push(match (std::mem::take(&mut hide), secret && flag.len() < arg.len()) {
            (true, _) => "SECRET".to_owned(),
            (_, true) => format!("{flag}=SECRET"),
            _ => quoted(&arg),
        });
        hide = secret && flag.len() == arg.len();
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// Days are counted as in Howard Hinnant's `civil_from_days`.
fn utc(since_epoch: Duration) -> String {
    let (days, second) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        assert_eq!(shown(args.iter().map(|arg| (*arg).to_owned())), expected);
    }

    #[test]
    fn the_command_can_be_typed_again_and_tells_no_secret() {
        check(&["/opt/bin/bowline-loadtest", "idle", "-c", "5"], "bowline-loadtest idle -c 5");
        check(&["x", "--token-secret", "s3cret", "--rate", "5"], "x --token-secret SECRET --rate 5");
        check(&["x", "--token-secret=s3cret", "-d", "5s"], "x --token-secret=SECRET -d 5s");
        check(&["x", "--threshold", "p99<5ms", "it's"], r"x --threshold 'p99<5ms' 'it'\''s'");
        check(&["x", ""], "x ''");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (s, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (4_102_444_800, "2100-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(Duration::from_secs(s)), text);
        }
    }

    #[test]
    fn this_machine_is_described() {
        let here = Environment::look();
        assert!(here.kernel.len() > 6 && here.memory_mib > 100 && here.processors > 0, "{here:?}");
    }
}
