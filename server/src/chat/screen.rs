//! What is shown, and how. Messages go to standard output, everything else to standard error, so that a pipe gets the
//! conversation alone.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};

use bowline_client::protocol::wire::{self, entry::Content};
use bowline_client::protocol::{Seq, UserId};
use bowline_client::view::{Change, Message, View};

pub(super) struct Screen {
    me: UserId,
    names: HashMap<UserId, String>,
    view: View,
    day: Option<i64>,
    /// A typed line stands on the terminal already, and is replaced by the stored one.
    terminal: bool,
}

/// Messages that can still be shown changed.
const REMEMBERED: usize = 1_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

impl Screen {
    pub(super) fn new(me: UserId, name: &str) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let names = HashMap::from([(me, name.to_owned())]);
        Self { me, names, view: View::new(REMEMBERED), day: None, terminal }
    }

    pub(super) fn know(&mut self, names: HashMap<UserId, String>) {
        self.names.extend(names);
    }

    /// Shows what an entry changes; nothing, if it was shown already.
    pub(super) fn entry(&mut self, entry: &wire::Entry) {
        if let Some(change) = self.view.apply(entry) {
            self.change(change);
        } else if let Some(text) = self.happened(entry) {
            self.note(&text);
        }
    }

    pub(super) fn history(&mut self, history: &wire::Messages) {
        for entry in history.items.iter().filter_map(|item| item.entry.as_ref()) {
            if let Some(change) = self.view.apply(entry) {
                self.change(change);
            }
        }
    }

    pub(super) fn reset(&mut self, first_unsure_seq: Seq) {
        self.view.reset(first_unsure_seq);
    }

    /// What was said up to `seq` has been shown.
    pub(super) fn has_reached(&self, seq: Seq) -> bool {
        self.view.messages().next_back().map_or(0, |message| message.seq) >= seq
    }

    /// About the talk, not of it.
    pub(super) fn note(&self, text: &str) {
        eprintln!("* {text}");
    }

    /// The typed line goes from the terminal: it comes back when it is stored.
    pub(super) fn take_back_typed(&self) {
        if self.terminal {
            print!("\x1b[1A\x1b[2K");
            let _ = std::io::stdout().flush();
        }
    }

    fn change(&mut self, change: Change) {
        let (seq, how) = match change {
            Change::Added(seq) => (seq, ""),
            Change::Edited(seq) => (seq, " (edited)"),
            Change::Deleted(seq) => (seq, " (deleted)"),
        };
        let Some(message) = self.view.get(seq) else { return };
        let day = message.created_at_ms.div_euclid(DAY_MS);
        if self.day.replace(day) != Some(day) {
            self.note(&format!("{} (times are UTC)", date(day)));
        }
        let line = line(message, &self.name(message.sender), how);
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    fn happened(&self, entry: &wire::Entry) -> Option<String> {
        let who = self.name(UserId::from_wire(&entry.sender_id));
        let names = |ids: &[Vec<u8>]| {
            let names: Vec<_> = ids.iter().map(|id| self.name(UserId::from_wire(id))).collect();
            names.join(", ")
        };
        Some(match entry.content.as_ref()? {
            Content::MembersAdded(added) => format!("{who} added {}", names(&added.user_ids)),
            Content::MemberLeft(left) if left.user_id == entry.sender_id => format!("{who} left"),
            Content::MemberLeft(left) => format!("{who} removed {}", names(std::slice::from_ref(&left.user_id))),
            Content::Renamed(renamed) => format!("{who} named the conversation {:?}", renamed.title),
            Content::Reacted(reacted) => format!("{who} reacted {}", reacted.emoji),
            _ => return None,
        })
    }

    /// A name, or the beginning of the id of somebody whose name is not known here.
    fn name(&self, user: Option<UserId>) -> String {
        match user {
            Some(user) if user == self.me => self.names[&user].clone(),
            Some(user) => self.names.get(&user).cloned().unwrap_or_else(|| user.to_string()[..8].to_owned()),
            None => "?".to_owned(),
        }
    }
}

fn line(message: &Message, name: &str, how: &str) -> String {
    let minutes = message.created_at_ms.rem_euclid(DAY_MS) / MINUTE_MS;
    // What another one wrote must not drive this terminal.
    let body: String =
        message.body.as_deref().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let separator = if body.is_empty() { "" } else { " " };
    format!("{:02}:{:02} {name}:{separator}{body}{how}", minutes / 60, minutes % 60)
}

/// The Gregorian date of a day counted from 1970.
fn date(day: i64) -> String {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_time_and_no_control_characters() {
        let created_at_ms = 3 * DAY_MS + (9 * 60 + 5) * MINUTE_MS + 59_999;
        let message = |body: Option<&str>| Message {
            seq: 1,
            version: 1,
            sender: None,
            created_at_ms,
            body: body.map(str::to_owned),
        };
        assert_eq!(line(&message(Some("hi ü")), "bob", ""), "09:05 bob: hi ü");
        assert_eq!(line(&message(Some("a\x1b[2Jb\nc")), "bob", " (edited)"), "09:05 bob: a [2Jb c (edited)");
        assert_eq!(line(&message(None), "bob", " (deleted)"), "09:05 bob: (deleted)");
    }

    #[test]
    fn dates() {
        for (day, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_781, "2026-11-24")] {
            assert_eq!(date(day), text);
        }
    }
}
