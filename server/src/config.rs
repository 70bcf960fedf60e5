//! The configuration: every room's own `Config`, gathered; free for all rooms to use, like `deadline`.
//!
//! A value comes from the defaults, the TOML file, the environment or the command line; the later of these counts. The key
//! `section.name` is `BOWLINE_SECTION_NAME` in the environment. Everything wrong is found before anything is bound, and
//! each message names the key, its value, where that came from and what is allowed.
//!
//! To add a room: derive `Serialize` beside `Deserialize` on its `Config`, with [`hidden`] on what is secret; then a field
//! in [`Config`], named as its section is to be, and a line in [`Config::validate`]. Keys of any depth follow by themselves.

mod invalid;
mod limits;
mod logging;
pub mod millis;
mod sources;

use std::path::PathBuf;

use bowline_protocol::limits::Limits;
use serde::{Deserialize, Serialize, Serializer};

pub use invalid::Invalid;
pub use logging::{Format, Logging};
pub use sources::{Loaded, Problems, Sources};

/// What is shown in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// All that can be configured, one section a concern.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub http: crate::api::Config,
    pub database: crate::storage::Config,
    pub redis: crate::storage::redis::Config,
    pub clickhouse: crate::storage::clickhouse::Config,
    pub export: crate::feed::export::Config,
    pub accounts: crate::accounts::Config,
    pub log: crate::log::Config,
    pub wire: crate::wire::Config,
    pub posts: crate::posts::Config,
    pub feed: crate::feed::Config,
    pub limits: Limits,
    pub logging: Logging,
}

impl Config {
    /// Every value that has the right type and still is not allowed.
    pub fn validate(&self) -> Vec<Invalid> {
        let sections = [
            ("http", self.http.validate()),
            ("database", self.database.validate()),
            ("redis", self.redis.validate()),
            ("clickhouse", self.clickhouse.validate()),
            ("export", self.export.validate()),
            ("accounts", self.accounts.validate()),
            ("log", self.log.validate()),
            ("wire", self.wire.validate()),
            ("posts", self.posts.validate()),
            ("feed", self.feed.validate()),
            ("limits", limits::validate(&self.limits)),
            ("logging", self.logging.validate()),
        ];
        let under = |(section, found): (&str, Vec<Invalid>)| {
            let section = section.to_owned();
            found.into_iter().map(move |invalid| invalid.under(&section))
        };
        sections.into_iter().flat_map(under).collect()
    }
}

/// Shows that a secret is set, never what it is.
pub fn hidden<T, S: Serializer>(secret: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| HIDDEN).serialize(to)
}

/// Where the configuration file is looked for when none is named; none at all is fine.
pub fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from("bowline.toml")).filter(|path| path.is_file())
}
