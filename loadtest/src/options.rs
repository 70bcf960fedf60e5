//! What every scenario is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::people::Minting;

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
    /// Write the result as JSON, keys as in docs/loadtest.md
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn common(url: &str, owned: &[&str]) -> Common {
        Common {
            urls: vec![url.into()],
            token_secret: None,
            issuer: String::new(),
            audience: String::new(),
            i_own_this_target: owned.iter().map(|s| (*s).to_owned()).collect(),
            timeout: Duration::ZERO,
            json: None,
        }
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
    fn durations() {
        for (text, ms) in [("500ms", 500), ("1.5s", 1_500), ("20min", 1_200_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        assert!(duration("10").is_err() && duration("s").is_err() && duration("").is_err());
    }
}
