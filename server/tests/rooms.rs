//! The rooms use each other only as the table in ARCHITECTURE.md says.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_arrow_between_rooms_is_in_the_table() {
    let rooms = Rooms::of_the_project();
    let files = sources(&root().join("src"));
    assert!(files.len() >= rooms.0.len(), "no sources were found");
    let wrong: Vec<String> = files.iter().flat_map(|(module, text)| forbidden(&rooms, module, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_and_the_crate_name_the_same_rooms() {
    let rooms = Rooms::of_the_project();
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut there: BTreeSet<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    there.insert("main");
    assert_eq!(there, rooms.0.keys().map(String::as_str).collect());
}

#[test]
fn sessions_do_no_io_and_read_no_clock() {
    let outside = ["tokio", "tokio_postgres", "mio", "reqwest", "hyper", "axum", "net", "fs", "thread", "now"];
    for (module, text) in sources(&root().join("src")).into_iter().filter(|(module, _)| module[0] == "session") {
        let used: Vec<_> = tokens(&text).into_iter().filter(|t| outside.contains(&t.as_str())).collect();
        assert_eq!(used, [""; 0], "in {}", module.join("::"));
    }
}

#[test]
fn what_is_pure_in_the_feed_does_no_io_and_reads_no_clock() {
    let outside = ["tokio", "redis", "net", "fs", "thread", "SystemTime", "rand", "Instant::now", "Deadline::after"];
    let pure = ["candidate", "ranking", "page", "budget", "machine"];
    let files = sources(&root().join("src"));
    let pure =
        files.iter().filter(|(module, _)| module[0] == "feed" && pure.contains(&module[module.len() - 1].as_str()));
    let mut seen = 0;
    for (module, text) in pure {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = tokens(code).concat();
        let used: Vec<_> = outside.iter().filter(|word| code.contains(&format!("{word}::"))).collect();
        let called: Vec<_> = outside.iter().filter(|word| code.contains(&format!("{word}("))).collect();
        assert!(used.is_empty() && called.is_empty(), "{used:?} {called:?} in {}", module.join("::"));
        seen += 1;
    }
    assert_eq!(seen, 5);
}

const TABLE: &str = "\
    | layer | room | for | never | of its own layer it uses |\n| --- | --- | --- | --- | --- |\n\
    | 7 | `app` | everything | rules | |\n\
    | 4 | `conversations` | the domain | sockets | |\n\
    | 3 | `wire` | sockets | domain | |\n\
    | 1 | `log` | entries | above | `storage` |\n\
    | 1 | `storage` | pools | domain | |\n\
    | any | `deadline` | time | | |\n";

#[track_caller]
fn check(module: &str, text: &str, arrows: &[&str]) {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    let found = forbidden(&Rooms::read(TABLE), &module, text);
    let targets: Vec<&str> = found.iter().map(|f| f.rsplit(' ').next().unwrap()).collect();
    assert_eq!(targets, arrows, "{text}");
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    check("wire", "use crate::conversations::Conversations;", &["conversations"]);
    check("wire::shard", "use crate::{log::Log, conversations::{self, Send}};", &["conversations", "conversations"]);
    check("wire::shard", "fn f() { crate::app::run() }", &["app"]);
    check("wire", "use super::app;", &["app"]);
    check("wire::shard", "use super::super::app::App;", &["app"]);
    check("wire", "mod tests { use super::super::app::App; }", &["app"]);
    check("wire", "mod tests { fn a() {} } use super::app::App;", &["app"]);
    check("storage", "use crate::log::Log;", &["log"]);
    check("log", "use crate::*;", &["*"]);
    check("log", "use crate::elsewhere::Thing;", &["elsewhere"]);
    check("deadline", "use crate::log::Log;", &["log"]);
    check("app", "use bowline::unknown::Thing;", &["unknown"]);
    check("attic", "use crate::log::Log;", &["attic"]);
}

#[test]
fn what_the_table_has_is_no_finding() {
    check("wire", "use crate::log::Log; use crate::deadline::Deadline; use super::wire::x;", &[]);
    check("log::append", "use crate::storage::Pool; use super::Log; use super::read::Range;", &[]);
    check("log", "mod tests { use super::*; }", &[]);
    check("storage", "use crate::log::Config; use crate::app::Config as A;", &[]);
    check("storage", "// use crate::app::App;\n/* crate::app::x */ const A: &str = \"crate::app::y\";", &[]);
    check("storage", "const A: &str = r#\"say \" crate::app::y\"#; const B: char = '\"'; fn f<'a>(a: &'a str) {}", &[]);
    check("app", "use crate::wire::{Shard, slab::Slab}; pub(crate) fn f() {}", &[]);
}

/// Rooms by name, with their layer (none: free for all) and the rooms of the same layer that they use.
struct Rooms(BTreeMap<String, (Option<u32>, Vec<String>)>);

impl Rooms {
    fn of_the_project() -> Rooms {
        Rooms::read(&fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap())
    }

    fn read(document: &str) -> Rooms {
        let rows = document.lines().skip_while(|line| !line.starts_with("| layer | room |")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let rooms = rows.map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let layer = if cells[1] == "any" { None } else { Some(cells[1].parse().unwrap()) };
            let beside = cells[5].split(',').map(|name| name.trim().trim_matches('`').to_owned());
            (cells[2].trim_matches('`').to_owned(), (layer, beside.collect()))
        });
        let rooms = Rooms(rooms.collect());
        assert!(!rooms.0.is_empty(), "no table of rooms");
        rooms
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let Some((to_layer, _)) = self.0.get(to) else { return false };
        let (from_layer, beside) = &self.0[from];
        match (from_layer, to_layer) {
            _ if from == to => true,
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(from), Some(below)) => below < from || (below == from && beside.iter().any(|b| b == to)),
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `src` but `lib.rs`, by its module path.
fn sources(src: &Path) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open = vec![(src.to_owned(), Vec::new())];
    while let Some((folder, above)) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let mut module: Vec<String> = above.clone();
            module.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                open.push((path, module));
            } else if path.extension().is_some_and(|e| e == "rs") && module != ["lib"] {
                found.push((module, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The arrows of one file that the table does not have, each as a sentence that ends with the other room.
fn forbidden(rooms: &Rooms, module: &[String], text: &str) -> Vec<String> {
    let from = module[0].as_str();
    if !rooms.0.contains_key(from) {
        return vec![format!("not in the table: {from}")];
    }
    let arrows = paths(module, text).into_iter().filter(|path| path.last().is_none_or(|last| last != "Config"));
    let targets = arrows.filter_map(|path| path.into_iter().next());
    let wrong = targets.filter(|to| !rooms.allows(from, to));
    wrong.map(|to| format!("{} may not use {to}", module.join("::"))).collect()
}

/// All paths of a file that begin in this crate, from the crate's root on.
fn paths(module: &[String], text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // Inline modules that are open, with the depth of braces outside of them.
    let (mut inline, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    let mut i = 0;
    while i < tokens.len() {
        let starts = (i == 0 || tokens[i - 1] != "::") && tokens.get(i + 1).is_some_and(|t| t == "::");
        match tokens[i].as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, outside)| *outside == depth);
            }
            "mod" if tokens.get(i + 2).is_some_and(|t| t == "{") => inline.push((tokens[i + 1].clone(), depth)),
            "crate" | "bowline" if starts => _ = tree(&tokens, i + 2, &[], &mut found),
            "super" if starts => {
                let mut base = module.to_vec();
                base.extend(inline.iter().map(|(name, _)| name.clone()));
                while tokens[i] == "super" && tokens.get(i + 1).is_some_and(|t| t == "::") {
                    base.pop();
                    i += 2;
                }
                tree(&tokens, i, &base, &mut found);
                i -= 1;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Takes the paths of the use tree that starts at `at`, and returns where it ends. A single path is a tree too.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let is = |at: usize, sign: &str| tokens.get(at).is_some_and(|t| t == sign);
    let mut path = prefix.to_vec();
    loop {
        if is(at, "{") {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = tree(tokens, at, &path, found);
                while at < tokens.len() && !is(at, ",") && !is(at, "}") {
                    at += 1;
                }
                at += usize::from(is(at, ","));
            }
            return at + 1;
        }
        path.extend(tokens.get(at).filter(|name| *name != "self").cloned());
        at += 1;
        if !is(at, "::") {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

/// Names, `::`, and single signs, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else {
            let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if rest.starts_with("::") { 2 } else { name.max(first.len_utf8()) };
            tokens.extend(Some(&rest[..length]).filter(|t| !t.trim().is_empty()).map(|t| (*t).to_owned()));
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string or character that `text` starts with.
fn literal(text: &str) -> Option<usize> {
    let raw = text.strip_prefix("br").or(text.strip_prefix('r')).unwrap_or_default();
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    if raw[hashes..].starts_with('"') {
        let start = text.len() - raw.len() + hashes + 1;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = text.char_indices().skip(1).peekable();
    let escaped = chars.peek().is_some_and(|(_, c)| *c == '\\');
    let mut seen = 0;
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some(at + 1);
        }
        // A quote that does not close after one character starts a lifetime.
        if quote == '\'' && seen > 0 && !escaped {
            return None;
        }
        if c == '\\' {
            chars.next();
        }
        seen += 1;
    }
    None
}
