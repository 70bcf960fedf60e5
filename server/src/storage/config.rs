use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

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
}

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub key: &'static str,
    pub value: String,
    pub allowed: String,
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
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut in_range = |key, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                found.push(Invalid {
                    key,
                    value: value.to_string(),
                    allowed: format!("a number from {least} to {most}"),
                });
            }
        };
        in_range("max_connections", self.max_connections, 2, 500);
        in_range("max_waiting", self.max_waiting, 1, 100_000);
        for (key, url) in [("url", &self.url), ("direct_url", &self.direct_url)] {
            let Some(Err(reason)) = url.as_ref().map(|url| super::pool::parse(url.expose_secret())) else { continue };
            found.push(Invalid { key, value: "(hidden)".to_owned(), allowed: reason.to_string() });
        }
        found
    }
}

fn hidden<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "(hidden)").serialize(to)
}
