//! The server's own figures: its `/metrics`, as far as the report shows them.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A text longer than this is not read to its end.
const TEXT_BYTES: u64 = 1 << 20;
/// A server under load may be late; the next second is another chance.
const PATIENCE: Duration = Duration::from_millis(800);

/// None if the server does not give them, or not in time.
pub(crate) fn fetch(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let address = authority.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(TEXT_BYTES).read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// The sum of a metric over its labels.
pub(crate) fn value(text: &str, name: &str) -> Option<f64> {
    samples(text, name).fold(None, |sum: Option<f64>, (_, value)| Some(sum.unwrap_or(0.0) + value))
}

/// Each sample of a metric: its labels as they are written, and its value.
pub(crate) fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, rest.split_whitespace().next()?.parse().ok()?))
    })
}

/// The value of a label, of those whose values have no quotes in them.
pub(crate) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_whole_name_and_summed_over_labels() {
        let text = "# HELP bowline_sockets Open.\n# TYPE bowline_sockets gauge\nbowline_sockets 12\n\
                    bowline_sockets_refused_total 3\n\
                    bowline_http_requests_total{route=\"/a b\",status=\"200\"} 4\nbowline_http_requests_total{route=\"/b\",status=\"503\"} 5 17.0\n";
        for (name, expected) in [
            ("bowline_sockets", Some(12.0)),
            ("bowline_sockets_refused_total", Some(3.0)),
            ("bowline_http_requests_total", Some(9.0)),
            ("bowline_sock", None),
        ] {
            assert_eq!(value(text, name), expected, "{name}");
        }
    }

    #[test]
    fn samples_are_told_apart_by_their_labels() {
        let text = "a_total{cache=\"feed\",event=\"made\"} 4\na_total{cache=\"post\",event=\"made\"} 5\na_total_b 1\n";
        let found: Vec<_> = samples(text, "a_total")
            .map(|(labels, value)| (label(labels, "cache"), label(labels, "event"), value))
            .collect();
        assert_eq!(found, [(Some("feed"), Some("made"), 4.0), (Some("post"), Some("made"), 5.0)]);
        assert_eq!(label("cachet=\"x\"", "cache"), None);
    }

    #[test]
    fn a_server_that_is_not_there_gives_nothing() {
        assert_eq!(fetch("http://127.0.0.1:1"), None);
        assert_eq!(fetch("nonsense"), None);
    }
}
