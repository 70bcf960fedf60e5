//! A fault planted into what one reader saw, so that anybody can see the comparison fail.

use clap::ValueEnum;

use crate::check::Seen;
use crate::transcript::Transcript;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// One line does not arrive
    Lost,
    /// One line arrives twice
    Repeated,
    /// Two lines arrive in the other order
    Reordered,
    /// One byte of a line is another
    Altered,
}

/// The fault in the hands of the reader who has it: the first author of the first room, in its middle.
pub(crate) struct Planted {
    plant: Plant,
    at: usize,
    count: usize,
    held: Option<Seen>,
}

const ROOM: usize = 0;

impl Planted {
    pub(crate) fn new(plant: Plant, author: u32, transcript: &Transcript) -> Option<Self> {
        let lines = &transcript.rooms.get(ROOM)?.lines;
        if lines.first()?.author != author {
            return None;
        }
        // Two lines that are alike can change places unseen.
        let middle = lines.len() / 2;
        let at = (middle..lines.len()).find(|at| lines.get(at + 1).is_some_and(|next| *next != lines[*at]));
        Some(Self { plant, at: at.unwrap_or(middle), count: 0, held: None })
    }

    pub(crate) fn room(&self) -> usize {
        ROOM
    }

    /// What the reader sees in place of this.
    pub(crate) fn spoil(&mut self, mut seen: Seen) -> Vec<Seen> {
        let here = self.count == self.at;
        self.count += 1;
        if let Some(held) = self.held.take() {
            return vec![seen, held];
        }
        match self.plant {
            Plant::Lost if here => vec![],
            Plant::Repeated if here => vec![seen.clone(), seen],
            Plant::Altered if here => {
                seen.body = match seen.body.pop() {
                    Some('.') => seen.body + "!",
                    _ => seen.body + ".",
                };
                vec![seen]
            }
            Plant::Reordered if here => {
                self.held = Some(seen);
                vec![]
            }
            _ => vec![seen],
        }
    }

    /// What was held back and never overtaken.
    pub(crate) fn rest(self) -> Option<(usize, Seen)> {
        self.held.map(|seen| (ROOM, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Fault, Line, Reading};
    use crate::transcript::Room;

    #[test]
    fn each_fault_is_one_that_the_comparison_finds() {
        let lines: Vec<_> = ["a", "b", "b", "c."].map(|body| Line { author: 0, body: body.into() }).into();
        for (plant, fault) in [
            (Plant::Lost, Fault::Lost { at: 2 }),
            (Plant::Repeated, Fault::Repeated { at: 1 }),
            (Plant::Reordered, Fault::Reordered { at: 3 }),
            (Plant::Altered, Fault::Altered { at: 2, seen: Seen { author: Some(0), body: ".".into() } }),
        ] {
            let room = Room { name: String::new(), lines: lines.clone(), due: vec![], joins: vec![] };
            let transcript = Transcript { authors: vec!["x".into()], rooms: vec![room] };
            assert!(Planted::new(plant, 1, &transcript).is_none(), "one reader only");
            let mut planted = Planted::new(plant, 0, &transcript).expect("the first author");
            let mut reading = Reading::default();
            for line in &lines {
                for seen in planted.spoil(Seen { author: Some(line.author), body: line.body.clone() }) {
                    reading.see(&lines, seen.author, &seen.body);
                }
            }
            assert_eq!(reading.faults(&lines, |_| false), [fault], "{plant:?}");
        }
    }
}
