//! The figures of a run by name: each number in its result, as `send_to_ack.p99_ms`. Thresholds and baselines speak of them.

use serde_json::Value;

use crate::unit::Unit;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    pub(crate) fn of(result: &Value) -> Figures {
        let mut figures = Figures::default();
        figures.collect(String::new(), result);
        figures
    }

    fn collect(&mut self, path: String, value: &Value) {
        match value {
            Value::Number(number) => self.0.extend(number.as_f64().map(|number| (path, number))),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.collect(path, value);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// By the whole name, or as people write it: without the unit (`send_to_ack.p99`), and without what it belongs to where
    /// only one has it, or `main` has (`p99`).
    pub(crate) fn find(&self, written: &str, main: &str) -> Option<(&str, f64)> {
        let named = |wanted: &str| self.iter().find(|(name, _)| *name == wanted || Unit::strip(name) == wanted);
        let last = |name: &str| {
            let last = name.rsplit('.').next().unwrap_or(name);
            last == written || Unit::strip(last) == written
        };
        let mut ends = self.iter().filter(|(name, _)| last(name));
        let only = ends.next().filter(|_| ends.next().is_none());
        named(written).or_else(|| named(&format!("{main}.{written}"))).or(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_as_people_write_them() {
        let result = serde_json::json!({
            "ok": true, "scenario": "x", "wrong": 3, "deliveries_per_s": 50.5,
            "send_to_ack": {"p50_ms": 1.0, "p99_ms": 2.0}, "send_to_deliver": {"p50_ms": 3.0, "p99_ms": 4.0},
            "server": {"rss_after_mib": 22.5}, "refused": {}, "examples": ["a"],
        });
        let figures = Figures::of(&result);
        for (written, found) in [
            ("send_to_ack.p99_ms", Some(("send_to_ack.p99_ms", 2.0))),
            ("send_to_ack.p99", Some(("send_to_ack.p99_ms", 2.0))),
            ("p99", Some(("send_to_deliver.p99_ms", 4.0))),
            ("rss_after", Some(("server.rss_after_mib", 22.5))),
            ("wrong", Some(("wrong", 3.0))),
            ("deliveries", Some(("deliveries_per_s", 50.5))),
            ("p98", None),
            ("ok", None),
        ] {
            assert_eq!(figures.find(written, "send_to_deliver"), found, "{written}");
        }
        assert_eq!(figures.find("p99", "elsewhere"), None, "two have it, and neither is the main one");
    }
}
