//! The rules of the house that no compiler knows.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{command, root};

const LOOK_AGAIN: usize = 400;
const TOO_LONG: usize = 600;

pub(crate) fn run() -> anyhow::Result<()> {
    let listed =
        command::output(Command::new("git").current_dir(root()).args(["ls-files", "-co", "--exclude-standard"]))?;
    let mut findings = Vec::new();
    for path in listed.lines().filter(|path| root().join(path).is_file()) {
        // What is no text has no rules.
        let Ok(text) = String::from_utf8(fs::read(root().join(path)).with_context(|| path.to_owned())?) else {
            continue;
        };
        findings.extend(look(path, &text));
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    match findings.iter().filter(|finding| finding.breaks).count() {
        0 => Ok(()),
        broken => bail!("{broken} rules of the house are broken"),
    }
}

#[derive(Debug)]
struct Finding {
    place: String,
    what: String,
    /// Otherwise it is only a place to look at.
    breaks: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}{}", self.place, self.what, if self.breaks { "" } else { " (look again)" })
    }
}

/// Words that have no place in the repository, with the reason. In two halves, so that this file keeps its own rules.
const NOWHERE: &[([&str; 2], &str)] = &[
    (["/wo", "rk/"], "a path of one machine"),
    (["/ro", "ot/"], "a path of one machine"),
    (["/ho", "me/"], "a path of one machine"),
    (["index.", "crates.io"], "the host of a registry"),
    (["static.", "crates.io"], "the host of a registry"),
    (["registry.", "npmjs.org"], "the host of a registry"),
    (["pypi", ".org"], "the host of a registry"),
    (["deb.", "debian.org"], "the host of a registry"),
];

/// Homebrew's folder on Linux, the same on every machine.
const HOMEBREW: &str = concat!("/ho", "me/linuxbrew");

const NOT_IN_CODE: &[([&str; 2], &str)] = &[
    (["to", "do!"], "unfinished"),
    (["unimple", "mented!"], "unfinished"),
    (["TO", "DO"], "unfinished"),
    (["FIX", "ME"], "unfinished"),
    (["Not written", " yet"], "unfinished"),
    (["#[ig", "nore"], "a test that nobody runs"),
];

/// Crates that would bring a C library or a second implementation of TLS.
const BANNED_CRATES: &[&str] = &["aws-lc-sys", "native-tls", "openssl-sys"];

fn look(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |line: Option<usize>, what: &str, breaks: bool| {
        let place = line.map_or_else(|| path.to_owned(), |line| format!("{path}:{}", line + 1));
        found.push(Finding { place, what: what.to_owned(), breaks });
    };
    if path == "Cargo.lock" {
        for name in BANNED_CRATES.iter().filter(|name| text.contains(&format!("name = \"{name}\""))) {
            find(None, &format!("{name} is not wanted among the dependencies"), true);
        }
        return found;
    }
    let code = Path::new(path).extension().is_some_and(|extension| extension == "rs");
    for (number, line) in text.lines().enumerate() {
        let words = NOWHERE.iter().chain(if code { NOT_IN_CODE } else { &[] });
        let line = line.replace(HOMEBREW, "");
        for (halves, why) in words.filter(|(halves, _)| line.contains(&halves.concat())) {
            find(Some(number), &format!("{} is {why}", halves.concat()), true);
        }
        if code && path.starts_with("server/src/") && !may_speak_sql(path) && is_sql(&line) {
            find(Some(number), "SQL outside of store.rs, log and storage", true);
        }
    }
    let lines = text.lines().count();
    if code && lines > LOOK_AGAIN {
        find(None, &format!("{lines} lines: has it one subject?"), lines > TOO_LONG);
    }
    if is_front_page(path) && !text.starts_with("//! ") {
        find(None, "a front page says what the room is for, what it may touch and what must always hold", true);
    }
    found
}

fn may_speak_sql(path: &str) -> bool {
    let room = path.trim_start_matches("server/src/");
    path.ends_with("/store.rs")
        || path.contains("/store/")
        || ["log/", "log.rs", "storage/", "storage.rs"].iter().any(|sql| room.starts_with(sql))
}

/// A line on which a statement begins, in a literal of its own or within a longer one.
fn is_sql(line: &str) -> bool {
    let start = line.trim_start().trim_start_matches(['"', '(', 'r', '#']);
    let quoted = line.split('"').skip(1);
    let starts = quoted.chain([start]);
    starts.map(str::trim_start).any(|text| {
        ["SELECT ", "INSERT INTO ", "DELETE FROM "].iter().any(|verb| text.starts_with(verb))
            || text.starts_with("UPDATE ") && text.contains(" SET ")
    })
}

fn is_front_page(path: &str) -> bool {
    let room = path.strip_prefix("server/src/").and_then(|path| path.strip_suffix(".rs"));
    room.is_some_and(|room| !room.contains('/') && !["lib", "main"].contains(&room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let found: Vec<_> = look(path, text).into_iter().map(|f| f.to_string()).collect();
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e)), "{found:?}");
    }

    #[test]
    fn broken_rules_are_found() {
        check("docs/x.md", concat!("a\nsee /wo", "rk/main"), &["docs/x.md:2"]);
        check("a.toml", concat!("index = \"https://index.", "crates.io\""), &["host"]);
        check("server/src/a/b.rs", concat!("fn f() { to", "do!() }"), &["unfinished"]);
        check("protocol/src/a.rs", &"\n".repeat(401), &["look again"]);
        check("protocol/src/a.rs", &"\n".repeat(601), &["601 lines: has it one subject?"]);
        check("server/src/api/http.rs", "let a = \"SELECT 1\";", &["SQL"]);
        check("server/src/api/http.rs", "        SELECT id\n        FROM heads", &["SQL"]);
        check("server/src/accounts.rs", "//! a\n//! b\nquery(r#\"UPDATE a SET b = 1\"#)", &["SQL"]);
        check("server/src/tail.rs", "fn f() {}", &["front page"]);
        check("Cargo.lock", "[[package]]\nname = \"openssl-sys\"", &["openssl-sys"]);
    }

    #[test]
    fn what_is_right_is_not_found() {
        check("server/src/accounts/store.rs", "let a = \"SELECT 1\";", &[]);
        check("server/src/log.rs", "//! a\n//! b\nlet a = \"DELETE FROM entries\";", &[]);
        check("server/tests/plans.rs", "let a = \"SELECT 1\";", &[]);
        check("server/src/api/http.rs", "// Select what may be UPDATED.\nlet update = \"UPDATE\";", &[]);
        check("server/src/a/b.rs", &format!("let a = \"{HOMEBREW}/.linuxbrew\";"), &[]);
        check("docs/x.md", concat!("a list of to", "do!"), &[]);
    }
}
