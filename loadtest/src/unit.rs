//! Units of figures: how they are written, converted, and which way is worse.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Ms,
    Us,
    Seconds,
    PerSecond,
    Mib,
    Bytes,
    Cores,
    Percent,
    Count,
}

/// By the end of a figure's name. The longer endings come first.
const ENDINGS: &[(&str, Unit)] = &[
    ("_per_cpu_s", Unit::PerSecond),
    ("_per_s", Unit::PerSecond),
    ("_ms", Unit::Ms),
    ("_us", Unit::Us),
    ("_mib", Unit::Mib),
    ("_bytes", Unit::Bytes),
    ("_percent", Unit::Percent),
    ("_cores", Unit::Cores),
    ("_s", Unit::Seconds),
];

impl Unit {
    /// Of a figure by its name: `p99_ms`, `cpu_us_per_send`, `bytes_per_socket`.
    pub(crate) fn of(name: &str) -> Unit {
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.contains("us_per_") {
            return Unit::Us;
        }
        if last.starts_with("bytes_per_") {
            return Unit::Bytes;
        }
        ENDINGS.iter().find(|(ending, _)| last.ends_with(ending)).map_or(Unit::Count, |(_, unit)| *unit)
    }

    /// A figure's name without its unit, as people write it.
    pub(crate) fn strip(name: &str) -> &str {
        ENDINGS.iter().find_map(|(ending, _)| name.strip_suffix(ending)).unwrap_or(name)
    }

    /// As it stands behind a number.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::Us => "µs",
            Unit::Seconds => "s",
            Unit::PerSecond => "/s",
            Unit::Mib => "MiB",
            Unit::Bytes => "B",
            Unit::Cores => "cores",
            Unit::Percent => "%",
            Unit::Count => "",
        }
    }

    /// How many of this unit one of the unit that is written so makes. None if they measure different things.
    pub(crate) fn scale_of(self, written: &str) -> Option<f64> {
        let (kind, scale) = match written {
            "" => return Some(1.0),
            "us" | "µs" => (Unit::Seconds, 1e-6),
            "ms" => (Unit::Seconds, 1e-3),
            "s" => (Unit::Seconds, 1.0),
            "B" => (Unit::Bytes, 1.0),
            "KiB" => (Unit::Bytes, 1024.0),
            "MiB" => (Unit::Bytes, 1024.0 * 1024.0),
            "GiB" => (Unit::Bytes, 1024.0 * 1024.0 * 1024.0),
            "/s" => (Unit::PerSecond, 1.0),
            "%" => (Unit::Percent, 1.0),
            _ => return None,
        };
        let (own_kind, own_scale) = match self {
            Unit::Ms => (Unit::Seconds, 1e-3),
            Unit::Us => (Unit::Seconds, 1e-6),
            Unit::Mib => (Unit::Bytes, 1024.0 * 1024.0),
            other => (other, 1.0),
        };
        (kind == own_kind).then_some(scale / own_scale)
    }
}

/// A number for people: grouped thousands, as many digits as mean something, and its unit.
pub(crate) struct Written(pub(crate) f64, pub(crate) Unit);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written(value, unit) = *self;
        f.write_str(&number(value))?;
        match unit {
            Unit::Count => Ok(()),
            Unit::PerSecond | Unit::Percent => f.write_str(unit.symbol()),
            unit => write!(f, " {}", unit.symbol()),
        }
    }
}

/// Three significant digits below a thousand, whole numbers above.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size >= 100.0 || size.fract() == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "−" } else { "" };
    fraction.map_or_else(|| format!("{sign}{grouped}"), |rest| format!("{sign}{grouped}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_unit() {
        for (name, unit, stripped) in [
            ("send_to_ack.p99_ms", Unit::Ms, "send_to_ack.p99"),
            ("deliveries_per_s", Unit::PerSecond, "deliveries"),
            ("deliveries_per_cpu_s", Unit::PerSecond, "deliveries"),
            ("server.cpu_us_per_send", Unit::Us, "server.cpu_us_per_send"),
            ("server.bytes_per_socket", Unit::Bytes, "server.bytes_per_socket"),
            ("server.rss_after_mib", Unit::Mib, "server.rss_after"),
            ("connect_s", Unit::Seconds, "connect"),
            ("wrong", Unit::Count, "wrong"),
        ] {
            assert_eq!((Unit::of(name), Unit::strip(name)), (unit, stripped), "{name}");
        }
    }

    #[test]
    fn written_units_are_converted_or_refused() {
        for (unit, written, scale) in [
            (Unit::Ms, "s", Some(1e3)),
            (Unit::Ms, "", Some(1.0)),
            (Unit::Mib, "KiB", Some(1.0 / 1024.0)),
            (Unit::Bytes, "KiB", Some(1024.0)),
            (Unit::Ms, "MiB", None),
            (Unit::Count, "%", None),
            (Unit::Ms, "fortnights", None),
        ] {
            let got = unit.scale_of(written);
            assert_eq!(got.map(|s| (s * 1e9).round()), scale.map(|s| (s * 1e9_f64).round()), "{written}");
        }
    }

    #[test]
    fn numbers_are_read_by_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.0, "1"),
            (4.256, "4.26"),
            (42.25, "42.2"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-12.5, "−12.5"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(Written(12.0, Unit::Ms).to_string(), "12 ms");
        assert_eq!(Written(2_000.0, Unit::PerSecond).to_string(), "2,000/s");
    }
}
