//! The parts of `docs/protocol.md` that come from the code: frames from the vectors, codes and limits from the crate.

use std::fmt::Write as _;
use std::fs;

use bowline_protocol::code::{AfterClose, Retry};
use bowline_protocol::limits::{self, Limits};
use bowline_protocol::wire::{ClientFrame, ServerFrame};
use bowline_protocol::{Close, Code};

use crate::vectors::{self, Side, Valid};

const DOCUMENT: &str = "docs/protocol.md";

#[test]
fn the_document_shows_what_the_code_does() {
    let path = vectors::in_repository(DOCUMENT);
    let written = fs::read_to_string(&path).unwrap();
    let mut current = written.clone();
    for (part, text) in parts() {
        current = with_part(&current, part, &text).unwrap_or_else(|| panic!("{DOCUMENT} has no place for {part}"));
    }
    if vectors::bless() {
        fs::write(&path, &current).unwrap();
    } else {
        assert!(written == current, "{DOCUMENT} is not current: run `cargo xtask bless`");
    }
}

#[test]
fn a_part_is_replaced_between_its_marks_alone() {
    let document = "a\n<!-- from the code: x -->\nold\n<!-- end: x -->\nb\n";
    let replaced = "a\n<!-- from the code: x -->\n\nnew\n\n<!-- end: x -->\nb\n";
    assert_eq!(with_part(document, "x", "new\n").as_deref(), Some(replaced));
    assert_eq!(with_part(document, "y", "new\n"), None);
}

fn with_part(document: &str, part: &str, text: &str) -> Option<String> {
    let (start, end) = (format!("<!-- from the code: {part} -->\n"), format!("<!-- end: {part} -->"));
    let (before, rest) = document.split_once(&start)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{start}\n{}\n\n{end}{after}", text.trim_end()))
}

fn parts() -> Vec<(&'static str, String)> {
    let (client, server) = (Side::Client.valid(), Side::Server.valid());
    vec![
        ("commands", frames(&client, ClientFrame::KINDS)),
        ("answers", frames(&server, ServerFrame::KINDS)),
        ("codes", codes()),
        ("closes", closes()),
        ("limits", limits()),
    ]
}

/// Each kind with its vectors; a vector is called by its kind, then by what is special about it.
fn frames(vectors: &[Valid], kinds: &[&str]) -> String {
    let mut out = String::new();
    for kind in kinds {
        writeln!(out, "#### `{kind}`\n").unwrap();
        for v in vectors {
            let (name, special) = v.name.split_once(": ").unwrap_or((&v.name, ""));
            if name != *kind {
                continue;
            }
            let heading = if special.is_empty() {
                String::new()
            } else {
                format!("{}{}. ", &special[..1].to_uppercase(), &special[1..])
            };
            let sentence = format!("{heading}{}", v.about);
            if !sentence.is_empty() {
                writeln!(out, "{}\n", sentence.trim_end()).unwrap();
            }
            writeln!(out, "```json\n{}\n```\n", v.json).unwrap();
        }
    }
    out
}

fn codes() -> String {
    let mut out =
        String::from("| code | name | again? | HTTP | gRPC | means |\n| --- | --- | --- | --- | --- | --- |\n");
    for code in Code::ALL {
        let retry = match code.retry() {
            Retry::Never => "no",
            Retry::Later => "after `retry_after_ms`",
            Retry::SameId => "with the same client_id",
            Retry::Refresh => "with a new token",
        };
        let (number, name, http, grpc) = (*code as u32, code.name(), code.http_status(), code.grpc_status());
        writeln!(out, "| {number} | `{name}` | {retry} | {http} | {grpc} | {} |", code.text()).unwrap();
    }
    out
}

fn closes() -> String {
    let mut out = String::from("| code | reason | the client |\n| --- | --- | --- |\n");
    for close in ALL_CLOSES {
        let after = match Close::after(close.number()) {
            AfterClose::Resume => "reconnects and resumes",
            AfterClose::RefreshFirst => "gets a new token, then reconnects and resumes",
            AfterClose::StayAway => "does not come back by itself",
        };
        writeln!(out, "| {} | {} | {after} |", close.number(), close.reason()).unwrap();
    }
    out
}

const ALL_CLOSES: [Close; 14] = [
    Close::Protocol,
    Close::NotUtf8,
    Close::TooBig,
    Close::Drain,
    Close::Stalled,
    Close::Overloaded,
    Close::EpochChanged,
    Close::Internal,
    Close::ConnectTimeout,
    Close::RateLimited,
    Close::Unauthenticated,
    Close::TokenExpired,
    Close::Revoked,
    Close::Unsupported,
];

fn limits() -> String {
    let mut out = String::from("| limit | by default | of what |\n| --- | --- | --- |\n");
    let defaults = serde_json::to_value(Limits::default()).unwrap();
    assert_eq!(defaults.as_object().unwrap().len(), MEANINGS.len(), "each limit has a line here");
    for (name, of) in MEANINGS {
        writeln!(out, "| `{name}` | {} | {of} |", defaults[name]).unwrap();
    }
    writeln!(
        out,
        "\nNot configurable: messages before `connect` ≤ {} bytes, an emoji ≤ {} bytes, an attachment's url and \
        media type together ≤ {} bytes, a person's displayed name ≤ {}, avatar's url ≤ {}, bio ≤ {} bytes.",
        limits::UNAUTHENTICATED_FRAME_BYTES,
        limits::EMOJI_BYTES,
        limits::ATTACHMENT_BYTES,
        limits::DISPLAY_NAME_BYTES,
        limits::AVATAR_URL_BYTES,
        limits::BIO_BYTES
    )
    .unwrap();
    out
}

const MEANINGS: &[(&str, &str)] = &[
    ("body_bytes", "UTF-8 bytes of a message body"),
    ("frame_bytes", "bytes of one WebSocket message from a client, fragments put together"),
    ("attrs_bytes", "bytes of a message's `attrs` as JSON text"),
    ("title_bytes", "UTF-8 bytes of a conversation's title"),
    (
        "commands_per_s",
        "commands of one socket a second in the long run, frames that can't be decoded included; 0: no limit",
    ),
    ("commands_burst", "commands of one socket at once, after a pause"),
    ("mentions", "users mentioned in a message"),
    ("attachments", "attachments of a message"),
    ("members_per_command", "users named in one `conversation_create` or `conversation_add`"),
    (
        "open_commands",
        "commands of one socket that wait for their reply; beyond it the socket is not read until some have",
    ),
    ("cursors_per_resume", "cursors in one `resume`; use `more` for the rest"),
    ("replay_entries", "entries that a cursor may be behind its head; further behind it gets `gap_too_large`"),
    ("history_entries", "entries read by one `history`"),
    ("conversations", "conversations that one session follows"),
    ("topic_bytes", "UTF-8 bytes of a topic's name"),
    ("topics", "topics that one socket subscribes"),
];
