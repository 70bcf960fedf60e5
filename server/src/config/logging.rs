use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::Invalid;

/// What the server writes to its standard error.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    pub format: Format,
    /// A level, or levels by module: `info`, `warn,bowline::wire=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".to_owned() }
    }
}

impl Logging {
    pub(super) fn validate(&self) -> Vec<Invalid> {
        let allowed = "a level (error, warn, info, debug, trace) or levels by module, such as warn,bowline::wire=debug";
        let wrong = EnvFilter::builder().parse(&self.filter).is_err();
        wrong.then(|| Invalid::new("filter", &self.filter, allowed)).into_iter().collect()
    }
}
