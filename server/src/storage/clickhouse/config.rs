use ::clickhouse::Client;
use anyhow::{Context as _, ensure};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{HIDDEN, Invalid, hidden};

/// Where ClickHouse is, for whoever has one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `http://USER:PASSWORD@HOST:PORT/DATABASE`; without it PostgreSQL alone serves the feed.
    #[serde(serialize_with = "hidden")]
    pub url: Option<SecretString>,
    /// Reads that may be under way at once; one more is refused.
    pub max_in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { url: None, max_in_flight: 16 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        found.extend(Invalid::unless_in("max_in_flight", self.max_in_flight as u64, 1..=1_000));
        if let Some(Err(reason)) = self.url.as_ref().map(|url| client(url.expose_secret())) {
            found.push(Invalid::new("url", HIDDEN, reason.to_string()));
        }
        found
    }
}

/// For the database of a URL; the error says what is allowed and never repeats the URL, which may hold a password.
pub(super) fn client(url: &str) -> anyhow::Result<Client> {
    const ALLOWED: &str = "expected http://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE";
    let mut url = Url::parse(url).context(ALLOWED)?;
    ensure!(url.scheme() == "http", "{ALLOWED}; reach it through a private network or a TLS tunnel");
    ensure!(url.has_host(), ALLOWED);
    let decoded = |text: &str| anyhow::Ok(percent_decode_str(text).decode_utf8().context(ALLOWED)?.into_owned());
    let database = decoded(url.path().trim_matches('/'))?;
    ensure!(!database.is_empty(), "no database in it; {ALLOWED}");
    let mut client = Client::default().with_database(database);
    if !url.username().is_empty() {
        client = client.with_user(decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        client = client.with_password(decoded(password)?);
    }
    let port = url.port().unwrap_or(8123);
    let whole = url.set_port(Some(port)).is_ok() && url.set_username("").is_ok() && url.set_password(None).is_ok();
    ensure!(whole, ALLOWED);
    url.set_path("/");
    url.set_query(None);
    Ok(client.with_url(url))
}
