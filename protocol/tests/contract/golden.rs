//! The golden vectors: what is written exactly so, what is read all the same, and what is refused.

use std::collections::BTreeSet;

use bowline_protocol::wire::{ClientFrame, Entry, ServerFrame};
use bowline_protocol::{Codec, Failure};

use crate::vectors::{self, Format, Frame, Outcome, Side};

fn check_valid<F: Frame>() {
    let mut vectors = F::SIDE.valid();
    if vectors::bless() {
        for v in &mut vectors {
            let frames = F::read(Codec::Json, v.json.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", v.name));
            v.json = String::from_utf8(vectors::message(Codec::Json, &frames)).unwrap();
            v.proto = vectors::to_hex(&vectors::message(Codec::Proto, &frames));
        }
        vectors::write_valid(F::SIDE, &vectors);
    }
    let mut names = BTreeSet::new();
    for v in vectors {
        assert!(names.insert(v.name.clone()), "two vectors are called {}", v.name);
        let json = F::read(Codec::Json, v.json.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        let proto = F::read(Codec::Proto, &Format::Proto.bytes(&v.proto)).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        assert_eq!(json, proto, "{}: the codecs read different frames", v.name);
        assert_eq!(String::from_utf8(vectors::message(Codec::Json, &json)).unwrap(), v.json, "{}", v.name);
        assert_eq!(vectors::to_hex(&vectors::message(Codec::Proto, &json)), v.proto, "{}", v.name);
    }
}

#[test]
fn both_codecs_read_and_write_every_vector_to_the_byte() {
    check_valid::<ClientFrame>();
    check_valid::<ServerFrame>();
}

#[test]
fn what_others_may_write_is_read() {
    for v in vectors::tolerated() {
        let (codec, bytes) = (v.codec.codec(), v.codec.bytes(&v.message));
        let read = match v.from {
            Side::Client => frames_as_json::<ClientFrame>(codec, &bytes),
            Side::Server => frames_as_json::<ServerFrame>(codec, &bytes),
        };
        assert_eq!(read, Ok(v.reads), "{:?} from {:?}: {}", v.codec, v.from, v.name);
    }
}

fn frames_as_json<F: Frame>(codec: Codec, message: &[u8]) -> Result<Vec<String>, String> {
    F::read(codec, message).map(|frames| frames.iter().map(as_json).collect())
}

#[test]
fn what_is_wrong_is_refused_by_code_and_field() {
    let mut wrong = Vec::new();
    for v in vectors::refused() {
        let (codec, bytes) = (v.codec.codec(), v.codec.bytes(&v.message));
        let outcomes: Vec<Outcome> = match v.from {
            Side::Client => codec.read_client(&bytes).into_iter().map(outcome_of).collect(),
            Side::Server => vec![refusal(None, codec.read_server(&bytes).expect_err(&v.name))],
        };
        if outcomes != v.outcomes || outcomes.iter().all(|o| matches!(o, Outcome::Reads { .. })) {
            wrong.push(format!("{:?} from {:?}: {}\n  {outcomes:?}\n  {:?}", v.codec, v.from, v.name, v.outcomes));
        }
    }
    assert!(wrong.is_empty(), "is, and should be:\n{}", wrong.join("\n"));
}

fn outcome_of(frame: Result<ClientFrame, bowline_protocol::codec::Refused>) -> Outcome {
    match frame {
        Ok(frame) => Outcome::Reads { reads: as_json(&frame) },
        Err(refused) => refusal(refused.id, refused.failure),
    }
}

fn refusal(id: Option<u64>, failure: Failure) -> Outcome {
    Outcome::Refused { id, code: failure.code.name().to_owned(), field: failure.field }
}

fn as_json(frame: &impl serde::Serialize) -> String {
    serde_json::to_string(frame).unwrap()
}

/// Every key of every object in the valid vectors of one side.
fn kinds_seen(side: Side) -> BTreeSet<String> {
    let lines: Vec<String> =
        side.valid().iter().flat_map(|v| v.json.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let mut seen = BTreeSet::new();
    for line in lines {
        let frame: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        seen.extend(frame.keys().cloned());
        let items = frame.get("entries").and_then(|e| e.get("items")).and_then(|i| i.as_array());
        let entries = items.into_iter().flatten().filter_map(|entry| entry.as_object());
        seen.extend(entries.flat_map(|entry| entry.keys().map(|key| format!("entry.{key}"))));
    }
    seen
}

/// The kinds of `known` that have no vector.
fn missing(known: &[&str], prefix: &str, seen: &BTreeSet<String>) -> Vec<String> {
    known.iter().map(|kind| format!("{prefix}{kind}")).filter(|kind| !seen.contains(kind)).collect()
}

#[test]
fn every_kind_of_frame_and_entry_has_a_vector() {
    let (client, server) = (kinds_seen(Side::Client), kinds_seen(Side::Server));
    assert_eq!(missing(ClientFrame::KINDS, "", &client), [""; 0]);
    assert_eq!(missing(ServerFrame::KINDS, "", &server), [""; 0]);
    assert_eq!(missing(Entry::KINDS, "entry.", &server), [""; 0]);
    assert_eq!(missing(&["ping", "fly"], "", &client), ["fly"], "a kind without a vector is found");
}
