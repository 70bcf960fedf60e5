//! Compares what a reader saw of a room with the transcript: every body, byte for byte, once, in order. Pure.
//!
//! It goes by what was said and by whom, never by the server's own numbers, so that a server that miscounts can't hide it.

use std::collections::{HashMap, VecDeque};

/// What was said, by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) author: u32,
    pub(crate) body: String,
}

/// What a reader saw. An author who has no part in the run is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) author: Option<u32>,
    pub(crate) body: String,
}

/// One difference. `at` is the place of the line in its room, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Lost {
        at: usize,
    },
    Repeated {
        at: usize,
    },
    Reordered {
        at: usize,
    },
    Altered {
        at: usize,
        seen: Seen,
    },
    /// Was said in another room.
    Foreign {
        seen: Seen,
    },
    /// Was said nowhere.
    Extra {
        seen: Seen,
    },
}

/// What one reader has seen of one room so far.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// This many lines came as they should.
    matched: usize,
    /// All that came from the first difference on.
    rest: Vec<Seen>,
}

impl Reading {
    /// Takes what the reader saw next; gives its place, as long as all has come in order.
    pub(crate) fn see(&mut self, lines: &[Line], author: Option<u32>, body: &str) -> Option<usize> {
        let expected = lines.get(self.matched).filter(|_| self.rest.is_empty());
        if expected.is_some_and(|line| Some(line.author) == author && line.body == body) {
            self.matched += 1;
            return Some(self.matched - 1);
        }
        self.rest.push(Seen { author, body: body.to_owned() });
        None
    }

    /// Every difference. None exactly when the reader saw the room as it was.
    pub(crate) fn faults(self, lines: &[Line], said_elsewhere: impl Fn(&Seen) -> bool) -> Vec<Fault> {
        let mut comparison = Comparison::new(lines, self.matched);
        for seen in self.rest {
            comparison.place(seen);
        }
        comparison.faults(said_elsewhere)
    }
}

struct Comparison<'a> {
    lines: &'a [Line],
    /// Where each line stands, and has not been seen yet.
    unseen: HashMap<(u32, &'a str), VecDeque<usize>>,
    /// Where each line stands for the first time.
    first: HashMap<(u32, &'a str), usize>,
    /// Places in the order seen; what is not in the room has none.
    seen: Vec<Result<usize, Seen>>,
    repeated: Vec<usize>,
    last: Option<usize>,
}

impl<'a> Comparison<'a> {
    fn new(lines: &'a [Line], matched: usize) -> Self {
        let mut unseen: HashMap<_, VecDeque<_>> = HashMap::new();
        let mut first = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            let key = (line.author, line.body.as_str());
            first.entry(key).or_insert(at);
            if at >= matched {
                unseen.entry(key).or_default().push_back(at);
            }
        }
        let seen = (0..matched).map(Ok).collect();
        Self { lines, unseen, first, seen, repeated: Vec::new(), last: matched.checked_sub(1) }
    }

    fn place(&mut self, seen: Seen) {
        let (first, lines) = (&self.first, self.lines);
        let Some(first) = seen.author.and_then(|author| first.get(&(author, seen.body.as_str())).copied()) else {
            self.seen.push(Err(seen));
            return;
        };
        let key = (lines[first].author, lines[first].body.as_str());
        // Of lines that are alike, the one that keeps the order, so that a loss is not taken for a change of order.
        let places = self.unseen.get_mut(&key);
        let at = places.and_then(|places| {
            let next = places.iter().position(|at| Some(*at) > self.last).unwrap_or(0);
            places.remove(next)
        });
        match at {
            Some(at) => {
                self.last = Some(at);
                self.seen.push(Ok(at));
            }
            None => self.repeated.push(first),
        }
    }

    fn faults(self, said_elsewhere: impl Fn(&Seen) -> bool) -> Vec<Fault> {
        let mut lost = vec![true; self.lines.len()];
        let places: Vec<usize> = self.seen.iter().filter_map(|seen| seen.as_ref().ok().copied()).collect();
        for at in &places {
            lost[*at] = false;
        }
        let mut faults: Vec<_> = self.repeated.into_iter().map(|at| Fault::Repeated { at }).collect();
        faults.extend(out_of_order(&places).into_iter().map(|at| Fault::Reordered { at }));
        let mut next = 0;
        for seen in self.seen {
            match seen {
                Ok(at) => next = at + 1,
                Err(seen) if said_elsewhere(&seen) => faults.push(Fault::Foreign { seen }),
                // Something unknown just where a line is missing is that line, altered.
                Err(seen) if lost.get(next).copied().unwrap_or(false) => {
                    lost[next] = false;
                    faults.push(Fault::Altered { at: next, seen });
                    next += 1;
                }
                Err(seen) => faults.push(Fault::Extra { seen }),
            }
        }
        faults.extend(lost.iter().enumerate().filter(|(_, lost)| **lost).map(|(at, _)| Fault::Lost { at }));
        faults
    }
}

/// The fewest that would have to move for the rest to be in order: all but a longest increasing run.
fn out_of_order(places: &[usize]) -> Vec<usize> {
    // tails[n]: where the smallest end of an increasing run of n + 1 is.
    let mut tails: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (i, place) in places.iter().enumerate() {
        let n = tails.partition_point(|tail| places[*tail] < *place);
        before.push(n.checked_sub(1).map(|n| tails[n]));
        if n == tails.len() { tails.push(i) } else { tails[n] = i }
    }
    let mut kept = vec![false; places.len()];
    let mut at = tails.last().copied();
    while let Some(i) = at {
        kept[i] = true;
        at = before[i];
    }
    places.iter().zip(kept).filter(|(_, kept)| !kept).map(|(place, _)| *place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str) -> Line {
        let (author, body) = text.split_at(1);
        Line { author: author.parse().expect("an author"), body: body.to_owned() }
    }

    fn seen(text: &str) -> Seen {
        let line = line(text);
        Seen { author: Some(line.author), body: line.body }
    }

    fn faults_of(room: &[Line], saw: &[Seen]) -> Vec<Fault> {
        let mut reading = Reading::default();
        for seen in saw {
            reading.see(room, seen.author, &seen.body);
        }
        reading.faults(room, |seen| seen.body == "other room")
    }

    fn check(room: &[&str], saw: &[&str], faults: &[Fault]) {
        let room: Vec<_> = room.iter().map(|text| line(text)).collect();
        let saw: Vec<_> = saw.iter().map(|text| seen(text)).collect();
        assert_eq!(faults_of(&room, &saw), faults, "{saw:?}");
    }

    const ROOM: [&str; 5] = ["1one", "2two", "1", "2ok", "1ok"];

    #[test]
    fn the_same_is_no_fault() {
        check(&ROOM, &ROOM, &[]);
        check(&[], &[], &[]);
    }

    #[test]
    fn each_planted_fault_is_found_and_named() {
        use Fault::*;
        check(&ROOM, &["1one", "1", "2ok", "1ok"], &[Lost { at: 1 }]);
        check(&ROOM, &["1one", "2two", "1", "2ok"], &[Lost { at: 4 }]);
        check(&ROOM, &[], &[0, 1, 2, 3, 4].map(|at| Lost { at }));
        check(&ROOM, &["1one", "2two", "2two", "1", "2ok", "1ok"], &[Repeated { at: 1 }]);
        check(&ROOM, &["1one", "2two", "1", "2ok", "1ok", "1one"], &[Repeated { at: 0 }]);
        check(&ROOM, &["2two", "1one", "1", "2ok", "1ok"], &[Reordered { at: 1 }]);
        check(&ROOM, &["1one", "1", "2ok", "1ok", "2two"], &[Reordered { at: 1 }]);
        check(&ROOM, &["1one", "2tw0", "1", "2ok", "1ok"], &[Altered { at: 1, seen: seen("2tw0") }]);
        check(&ROOM, &["1one", "2two", "1 ", "2ok", "1ok"], &[Altered { at: 2, seen: seen("1 ") }]);
        check(&ROOM, &["1one", "1two", "1", "2ok", "1ok"], &[Altered { at: 1, seen: seen("1two") }]);
        check(&ROOM, &["1one", "2two", "9hello", "1", "2ok", "1ok"], &[Extra { seen: seen("9hello") }]);
        check(&ROOM, &["1one", "2two", "1", "2ok", "1ok", "2bye"], &[Extra { seen: seen("2bye") }]);
        check(&ROOM, &["1one", "7other room", "2two", "1", "2ok", "1ok"], &[Foreign { seen: seen("7other room") }]);
    }

    #[test]
    fn lines_that_are_alike_are_told_apart_by_order_and_number() {
        use Fault::*;
        check(&["1x", "2a", "1x"], &["2a", "1x"], &[Lost { at: 0 }]);
        check(&["1x", "2a", "1x"], &["1x", "2a"], &[Lost { at: 2 }]);
        check(&["1x", "1x"], &["1x", "1x", "1x"], &[Repeated { at: 0 }]);
        check(&["1x", "2x"], &["2x", "1x"], &[Reordered { at: 1 }]);
    }

    #[test]
    fn an_author_who_is_not_part_of_the_run_is_a_fault() {
        let room = [line("1one")];
        let stranger = Seen { author: None, body: "one".into() };
        assert_eq!(faults_of(&room, std::slice::from_ref(&stranger)), [Fault::Altered { at: 0, seen: stranger }]);
    }

    fn short() -> impl Strategy<Value = String> {
        "[12][ab]?"
    }

    proptest! {
        /// Faults are found exactly when what was seen is not what was said.
        #[test]
        fn no_fault_exactly_when_equal(room in prop::collection::vec(short(), 0..12), saw in prop::collection::vec(short(), 0..12), same: bool) {
            let room: Vec<_> = room.iter().map(|text| line(text)).collect();
            let saw: Vec<_> = if same {
                room.iter().map(|l| Seen { author: Some(l.author), body: l.body.clone() }).collect()
            } else {
                saw.iter().map(|text| seen(text)).collect()
            };
            let equal = room.len() == saw.len() && room.iter().zip(&saw).all(|(r, s)| Some(r.author) == s.author && r.body == s.body);
            prop_assert_eq!(faults_of(&room, &saw).is_empty(), equal);
        }
    }
}
