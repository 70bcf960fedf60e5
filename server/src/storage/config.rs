use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::config::{HIDDEN, Invalid, hidden};

/// Where the database is and how much of it a process may use.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `postgres://…`; without it the server runs a private PostgreSQL of its own in `data_dir`.
    #[serde(serialize_with = "hidden")]
    pub url: Option<SecretString>,
    /// For migrations, which need a session of their own: PostgreSQL itself where `url` is a PgBouncer.
    #[serde(serialize_with = "hidden")]
    pub direct_url: Option<SecretString>,
    pub max_connections: usize,
    /// Requests that may wait for a connection; one more is refused as `overloaded`.
    pub max_waiting: usize,
    /// Where the embedded database keeps its files.
    pub data_dir: Option<PathBuf>,
    /// Bring the schema up to date before serving.
    pub migrate_at_start: bool,
    /// Serve although the database may lose what it has confirmed (fsync and the like are off).
    pub allow_unsafe: bool,
    /// This program, which the embedded database is started through.
    #[serde(skip)]
    pub launcher: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            direct_url: None,
            max_connections: 15,
            max_waiting: 1_024,
            data_dir: None,
            migrate_at_start: true,
            allow_unsafe: false,
            // The very file that runs, also after an update has replaced it.
            launcher: PathBuf::from("/proc/self/exe"),
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        found.extend(Invalid::unless_in("max_connections", self.max_connections as u64, 2..=500));
        found.extend(Invalid::unless_in("max_waiting", self.max_waiting as u64, 1..=100_000));
        for (key, url) in [("url", &self.url), ("direct_url", &self.direct_url)] {
            let Some(Err(reason)) = url.as_ref().map(|url| super::pool::parse(url.expose_secret())) else { continue };
            found.push(Invalid::new(key, HIDDEN, reason.to_string()));
        }
        found
    }
}
