//! What every scenario is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::people::Minting;
use crate::threshold::Threshold;

#[derive(Args)]
pub(crate) struct Common {
    /// A server, `http://host:port`; given several times, the sockets are spread over them
    #[arg(long = "url", required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Mint access tokens with this secret (HS256), as an issuer that the server accepts
    #[arg(long, value_name = "SECRET", env = "LOADTEST_TOKEN_SECRET", hide_env_values = true)]
    pub(crate) token_secret: Option<String>,
    /// `iss` of minted tokens
    #[arg(long, default_value = "bowline-loadtest")]
    pub(crate) issuer: String,
    /// `aud` of minted tokens
    #[arg(long, default_value = "bowline")]
    pub(crate) audience: String,
    /// A target that is not on this machine must be named here once more
    #[arg(long, value_name = "HOST")]
    pub(crate) i_own_this_target: Vec<String>,
    /// Give up after this long
    #[arg(long, default_value = "20min", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// An attempt to connect that has no session by then has failed
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// Send so many messages in all: the run ends by this or by its duration, whichever comes first
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// Decides what is left to chance: the same seed makes the same choices
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A process of the server, whose memory and processor time are sampled; may be given several times
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,
    /// What a figure of the result must keep, as in 'p99<25ms'; may be given several times
    #[arg(long = "threshold", value_name = "FIGURE<BOUND")]
    pub(crate) thresholds: Vec<Threshold>,
    /// How the result is told on stdout
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Write the result as JSON, keys as in docs/loadtest.md
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report with plots over time: one HTML file that loads nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Keep the figures for a later run's --baseline
    #[arg(long, value_name = "FILE")]
    pub(crate) save_baseline: Option<PathBuf>,
    /// Hold the figures against those of an earlier run
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Fail if a figure is worse than in the baseline by more than this many percent
    #[arg(long, value_name = "PERCENT", requires = "baseline", value_parser = percent)]
    pub(crate) fail_on_regression: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

impl Common {
    /// Only this machine is loaded, unless the owner of another says so.
    pub(crate) fn check_targets(&self) -> anyhow::Result<()> {
        for url in &self.urls {
            let host = host(url).with_context(|| format!("--url {url}: not http://host:port"))?;
            let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if !local && !self.i_own_this_target.iter().any(|owned| owned == host) {
                bail!("{host} is not this machine; if it is yours, say --i-own-this-target {host}");
            }
        }
        Ok(())
    }

    /// How long messages flow at this rate: for this long, or until there were -n of them.
    pub(crate) fn flows_for(&self, rate: f64, duration: Duration) -> Duration {
        let of_messages = self.messages.map(|messages| Duration::try_from_secs_f64(messages as f64 / rate));
        of_messages.map_or(duration, |until| until.unwrap_or(Duration::MAX).min(duration))
    }

    /// For a scenario that a number of messages can't end.
    pub(crate) fn refuse_messages(&self, instead: &str) -> anyhow::Result<()> {
        ensure!(self.messages.is_none(), "-n means nothing here: {instead}");
        Ok(())
    }

    /// The n-th socket's server.
    pub(crate) fn url(&self, n: usize) -> &str {
        &self.urls[n % self.urls.len()]
    }

    pub(crate) fn minting(&self) -> Option<Minting> {
        let secret = self.token_secret.as_ref()?;
        Some(Minting::new(secret, &self.issuer, &self.audience))
    }
}

/// The host of `http://host:port`, brackets of IPv6 taken off.
pub(crate) fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|a| !a.is_empty() && !a.contains('@'))?;
    match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, _)| host),
        None => Some(authority.split_once(':').map_or(authority, |(host, _)| host)),
    }
}

/// `500ms`, `10s`, `20min`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number and ms, s, min or h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and ms, s, min or h".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())
}

/// `10` or `10%`.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent),
        _ => Err("expected a number of percent, 0 or more".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        common: Common,
    }

    fn common(url: &str, owned: &[&str]) -> Common {
        let owned = owned.iter().flat_map(|host| ["--i-own-this-target", host]);
        Cli::parse_from(["x", "--url", url].into_iter().chain(owned)).common
    }

    #[test]
    fn a_regression_needs_a_baseline_to_be_one() {
        let parse = |more: &[&str]| Cli::try_parse_from(["x", "--url", "u"].iter().chain(more)).is_ok();
        assert!(parse(&["--baseline", "f", "--fail-on-regression", "10%"]));
        assert!(!parse(&["--fail-on-regression", "10"]));
        assert!(!parse(&["--baseline", "f", "--fail-on-regression", "-1"]));
    }

    #[test]
    fn only_this_machine_unless_owned() {
        for (url, owned, allowed) in [
            ("http://127.0.0.1:8080", &[][..], true),
            ("http://127.9.9.9:8080", &[], true),
            ("http://localhost:8080", &[], true),
            ("http://[::1]:8080", &[], true),
            ("http://10.0.0.5:8080", &[], false),
            ("http://example.org", &["example.org"], true),
            ("http://example.org", &["other.org"], false),
            ("http://127.0.0.1.example.org", &[], false),
            ("http://127.0.0.1@example.org", &[], false),
            ("nonsense", &[], false),
        ] {
            assert_eq!(common(url, owned).check_targets().is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn the_messages_or_the_duration_whichever_comes_first() {
        let common = |arguments: &[&str]| Cli::parse_from(["x", "--url", "u"].iter().chain(arguments)).common;
        for (arguments, rate, flows_ms) in [
            (&[][..], 100.0, 2_000),
            (&["-n", "50"], 100.0, 500),
            (&["-n", "200"], 100.0, 2_000),
            (&["--messages", "1000"], 100.0, 2_000),
            (&["-n", "18446744073709551615"], 0.001, 2_000),
        ] {
            let flows = common(arguments).flows_for(rate, Duration::from_secs(2));
            assert_eq!(flows, Duration::from_millis(flows_ms), "{arguments:?}");
            assert_eq!(common(arguments).refuse_messages("it has no end").is_err(), !arguments.is_empty());
        }
        assert!(Cli::try_parse_from(["x", "--url", "u", "-n", "0"]).is_err());
    }

    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("1.5s", 1_500), ("20min", 1_200_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        assert!(duration("10").is_err() && duration("s").is_err() && duration("").is_err());
    }
}
