//! Lays the sources over one another, and says what is wrong with which.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, HIDDEN, Invalid};

/// Names of the environment that every tool of the field knows.
const ALIASES: [(&str, &str); 5] = [
    ("CLICKHOUSE_URL", "clickhouse.url"),
    ("DATABASE_URL", "database.url"),
    ("DATABASE_DIRECT_URL", "database.direct_url"),
    ("DATABASE_MAX_CONNECTIONS", "database.max_connections"),
    ("REDIS_URL", "redis.url"),
];
const PREFIX: &str = "BOWLINE_";
/// These begin like a key and are read elsewhere.
const NOT_KEYS: [&str; 6] = [
    "BOWLINE_CONFIG",
    "BOWLINE_PASSWORD",
    "BOWLINE_PG_BIN",
    "BOWLINE_STATE_DIR",
    "BOWLINE_TEST_CLICKHOUSE_URL",
    "BOWLINE_TEST_DATABASE_URL",
];

/// Where values come from, the later over the earlier: file, environment, command line.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// Key, value, and the flag that it came with.
    pub flags: Vec<(String, String, &'static str)>,
}

/// A configuration that is allowed, and where each value that is no default came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

/// All that is wrong, a line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(Vec<String>);

#[derive(Clone, Debug)]
struct Origin {
    source: String,
    shown: String,
}

/// The values so far.
struct Layers {
    /// The default of every key, which also says what kind of value it takes.
    known: BTreeMap<String, Value>,
    values: Value,
    origins: BTreeMap<String, Origin>,
    problems: Vec<String>,
}

impl Sources {
    pub fn load(self) -> Result<Loaded, Problems> {
        let values = serde_json::to_value(Config::default()).map_err(|error| Problems(vec![error.to_string()]))?;
        let mut known = BTreeMap::new();
        flatten("", &values, &mut known);
        let mut layers = Layers { known, values, origins: BTreeMap::new(), problems: Vec::new() };
        if let Some(path) = &self.file {
            layers.add_file(path);
        }
        for (name, value) in &self.environment {
            layers.add_variable(name, value);
        }
        for (key, value, flag) in &self.flags {
            layers.add_text(key, value, flag);
        }
        layers.finish()
    }
}

impl Loaded {
    /// TOML that gives this configuration again (but for the secrets), with where each value came from.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let Ok(Value::Object(sections)) = serde_json::to_value(&self.config) else { return text };
        for (section, values) in sections {
            text += &format!("{}[{section}]\n", if text.is_empty() { "" } else { "\n" });
            let mut keys = BTreeMap::new();
            flatten("", &values, &mut keys);
            for (name, value) in keys {
                let origin = self.origins.get(&format!("{section}.{name}"));
                let origin = origin.map(|origin| format!("  # {}", origin.source)).unwrap_or_default();
                text += &match value {
                    Value::Null => format!("# {name} is not set\n"),
                    value => format!("{name} = {}{origin}\n", as_toml(value)),
                };
            }
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not right:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

impl Layers {
    fn add_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{shown}: {error}")),
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => return self.problems.push(format!("{shown}: {}", error.to_string().trim_end())),
        };
        let Ok(values) = serde_json::to_value(table) else { return };
        self.add_table("", values, &shown.to_string());
    }

    fn add_table(&mut self, under: &str, values: Value, source: &str) {
        let Value::Object(values) = values else { return };
        for (name, value) in values {
            let key = join(under, &name);
            let inside = format!("{key}.");
            if value.is_object() && self.known.keys().any(|known| known.starts_with(&inside)) {
                self.add_table(&key, value, source);
            } else {
                self.add(&key, value, source.to_owned());
            }
        }
    }

    fn add_variable(&mut self, name: &str, value: &str) {
        if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return self.add_text(key, value, name);
        }
        let Some(rest) = name.strip_prefix(PREFIX) else { return };
        if NOT_KEYS.contains(&name) || is_service_link(name, value) {
            return;
        }
        let written = rest.to_ascii_lowercase();
        let key = self.known.keys().find(|key| key.replace('.', "_") == written).cloned();
        self.add_text(&key.unwrap_or(written), value, name);
    }

    /// Text becomes the kind of value that the key takes; what can't is refused with the rest, by name. An empty text for
    /// what is not set by default leaves it so, as `DATABASE_URL=` is meant.
    fn add_text(&mut self, key: &str, text: &str, source: &str) {
        let value = match self.known.get(key) {
            Some(Value::Null) if text.is_empty() => return,
            Some(Value::Number(_) | Value::Bool(_)) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            Some(Value::Array(_)) => text.split(',').map(str::trim).collect(),
            _ => text.into(),
        };
        self.add(key, value, source.to_owned());
    }

    fn add(&mut self, key: &str, value: Value, source: String) {
        if !self.known.contains_key(key) {
            return self.unknown(key, source);
        }
        let shown = if is_secret(key) || value.is_object() { HIDDEN.to_owned() } else { value.to_string() };
        self.origins.insert(key.to_owned(), Origin { source, shown });
        if let Some(place) = at(&mut self.values, key) {
            *place = value;
        }
    }

    fn unknown(&mut self, key: &str, source: String) {
        let likeness = |known: &&String| {
            let name = known.rsplit('.').next().unwrap_or(known);
            strsim::jaro_winkler(known, key).max(strsim::jaro_winkler(name, key))
        };
        let nearest = self.known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
        self.problems.push(format!("{key} (from {source}): there is no such key{hint}"));
    }

    /// Reads the values, one wrong one after another, so that all of them are reported.
    fn finish(mut self) -> Result<Loaded, Problems> {
        for _ in 0..=2 * self.origins.len() {
            match serde_path_to_error::deserialize::<_, Config>(&self.values) {
                Ok(config) => {
                    let invalid = config.validate();
                    self.problems.extend(invalid.into_iter().map(|invalid| explain(&self.origins, invalid)));
                    if self.problems.is_empty() {
                        return Ok(Loaded { config, origins: self.origins });
                    }
                    return Err(Problems(self.problems));
                }
                Err(error) => {
                    let allowed = allowed(&error.inner().to_string());
                    let Some((key, default)) = self.key_at(&error.path().to_string()) else {
                        self.problems.push(allowed);
                        break;
                    };
                    let Some(place) = at(&mut self.values, &key) else { break };
                    // Nothing said that this text is meant as a number: its key has no default.
                    if let Some(meant) = place.as_str().filter(|_| default.is_null()).and_then(number) {
                        *place = meant;
                        continue;
                    }
                    *place = default;
                    self.problems.push(explain(&self.origins, Invalid::new(&key, "?", allowed)));
                }
            }
        }
        Err(Problems(self.problems))
    }

    /// The key whose value this path leads to, or into.
    fn key_at(&self, path: &str) -> Option<(String, Value)> {
        let inside =
            |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let found = self.known.iter().find(|(key, _)| inside(key));
        found.map(|(key, default)| (key.clone(), default.clone()))
    }
}

fn as_toml(value: Value) -> String {
    toml::Value::try_from(&value).map_or_else(|_| value.to_string(), |value| value.to_string())
}

fn number(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() || value.is_boolean())
}

fn at<'a>(values: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    key.split('.').try_fold(values, |values, name| values.get_mut(name))
}

/// Every key with its value, `section.name` or deeper.
fn flatten(under: &str, values: &Value, into: &mut BTreeMap<String, Value>) {
    match values {
        Value::Object(values) => {
            values.iter().for_each(|(name, value)| flatten(&join(under, name), value, into));
        }
        value => _ = into.insert(under.to_owned(), value.clone()),
    }
}

fn join(under: &str, name: &str) -> String {
    if under.is_empty() { name.to_owned() } else { format!("{under}.{name}") }
}

fn explain(origins: &BTreeMap<String, Origin>, invalid: Invalid) -> String {
    let Invalid { key, value, allowed } = invalid;
    match origins.get(&key) {
        Some(Origin { source, shown }) => format!("{key} = {shown} (from {source}): expected {allowed}"),
        None => format!("{key} = {value} (the default): expected {allowed}"),
    }
}

/// What serde says, in words for people.
fn allowed(error: &str) -> String {
    let Some((_, expected)) = error.split_once("expected ") else { return error.to_owned() };
    match expected {
        "usize" | "u64" => "a whole number, not negative",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    }
    .to_owned()
}

fn is_secret(key: &str) -> bool {
    ["url", "secret", "secrets", "password", "key", "keys", "token"].iter().any(|word| key.ends_with(word))
}

/// Kubernetes puts the addresses of services that are named `bowline…` into every container: `BOWLINE_SERVICE_HOST`,
/// `BOWLINE_PORT_8080_TCP_ADDR` and more.
fn is_service_link(name: &str, value: &str) -> bool {
    let numbered_port =
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || numbered_port()
        || (name.ends_with("_PORT") && address)
}
