//! What must hold after any fault, checked over what was seen. Pure.
//!
//! Three independent views are compared: what writers were told (acks), what readers were given while servers died, and
//! the log as it is stored in the end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bowline_client::protocol::{ClientId, LogId, Seq};

/// A send that its writer was told is stored.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) log: LogId,
    pub(crate) client_id: ClientId,
    pub(crate) seq: Seq,
    pub(crate) body: String,
}

/// An entry of a log, as someone read it. Entries that are no message have no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: Seq,
    pub(crate) client_id: ClientId,
    pub(crate) body: Option<String>,
}

/// What one client went through: its sends in its own order, and what it was given of each log, in that order.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) name: String,
    pub(crate) acked: Vec<Acked>,
    pub(crate) seen: BTreeMap<LogId, Vec<Seen>>,
}

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// G1: acked, and not stored.
    Lost { who: String, log: LogId, seq: Seq },
    /// G1: stored at another place, or with another body, than was acked.
    Changed { who: String, log: LogId, acked: Seq, stored: Seq },
    /// G3: one send, two entries.
    Twice { log: LogId, first: Seq, second: Seq },
    /// G2: the stored log itself is not 1, 2, 3 …
    Hole { log: LogId, after: Seq, next: Seq },
    /// G2: a writer's sends to one log are not in his order.
    Overtaken { who: String, log: LogId, seq: Seq, before: Seq },
    /// G2: given to a reader at another place than its own in the log: a hole, a repeat or a wrong order.
    Misplaced { who: String, log: LogId, expected: Option<Seq>, given: Option<Seq> },
    /// G2: a reader was given something else than what is stored.
    Different { who: String, log: LogId, seq: Seq },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Lost { who, log, seq } => write!(f, "lost: {who} was told that {log}/{seq} is stored"),
            Broken::Changed { who, log, acked, stored } => {
                write!(f, "changed: {who} was told {log}/{acked}, stored is {stored} or another body")
            }
            Broken::Twice { log, first, second } => write!(f, "twice: {log}/{first} is stored again as {second}"),
            Broken::Hole { log, after, next } => write!(f, "hole: in {log} {after} is followed by {next}"),
            Broken::Overtaken { who, log, seq, before } => {
                write!(f, "overtaken: {who} sent {log}/{seq} after {before}")
            }
            Broken::Misplaced { who, log, expected, given } => {
                write!(f, "misplaced: {who} was given {given:?} of {log} where {expected:?} was due")
            }
            Broken::Different { who, log, seq } => write!(f, "different: {who} was given another {log}/{seq}"),
        }
    }
}

/// Everything that does not hold. `stored` is each log from its first entry to its last.
pub(crate) fn check(stored: &BTreeMap<LogId, Vec<Seen>>, witnesses: &[Witness]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut places: HashMap<ClientId, (LogId, &Seen)> = HashMap::new();
    for (log, entries) in stored {
        check_stored(*log, entries, &mut places, &mut broken);
    }
    for witness in witnesses {
        check_acks(witness, &places, &mut broken);
        for (log, entries) in stored {
            let seen = witness.seen.get(log).map_or(&[][..], Vec::as_slice);
            check_reading(&witness.name, *log, entries, seen, &mut broken);
        }
    }
    broken
}

fn check_stored<'a>(
    log: LogId,
    entries: &'a [Seen],
    places: &mut HashMap<ClientId, (LogId, &'a Seen)>,
    broken: &mut Vec<Broken>,
) {
    let mut after = 0;
    for entry in entries {
        if entry.seq != after + 1 {
            broken.push(Broken::Hole { log, after, next: entry.seq });
        }
        after = entry.seq;
        if let Some((_, first)) = places.insert(entry.client_id, (log, entry)) {
            broken.push(Broken::Twice { log, first: first.seq, second: entry.seq });
        }
    }
}

fn check_acks(witness: &Witness, places: &HashMap<ClientId, (LogId, &Seen)>, broken: &mut Vec<Broken>) {
    let who = || witness.name.clone();
    let mut last: HashMap<LogId, Seq> = HashMap::new();
    for Acked { log, client_id, seq, body } in &witness.acked {
        let (log, seq) = (*log, *seq);
        match places.get(client_id) {
            None => broken.push(Broken::Lost { who: who(), log, seq }),
            Some((at, entry)) if *at != log || entry.seq != seq || entry.body.as_ref() != Some(body) => {
                broken.push(Broken::Changed { who: who(), log, acked: seq, stored: entry.seq });
            }
            Some(_) => {}
        }
        let before = last.insert(log, seq).unwrap_or(0);
        if before >= seq {
            broken.push(Broken::Overtaken { who: who(), log, seq, before });
        }
    }
}

/// The first difference between what is stored and what was given; what follows it is out of step anyway.
fn check_reading(who: &str, log: LogId, stored: &[Seen], given: &[Seen], broken: &mut Vec<Broken>) {
    let who = || who.to_owned();
    for place in 0..stored.len().max(given.len()) {
        let (expected, given) = (stored.get(place), given.get(place));
        let (expected_seq, given_seq) = (expected.map(|e| e.seq), given.map(|e| e.seq));
        if expected_seq != given_seq {
            broken.push(Broken::Misplaced { who: who(), log, expected: expected_seq, given: given_seq });
            return;
        }
        if expected != given {
            broken.extend(expected_seq.map(|seq| Broken::Different { who: who(), log, seq }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Stored = BTreeMap<LogId, Vec<Seen>>;

    /// A log of five entries, the first of which is no message; a writer of two of them; a reader of all.
    fn sound() -> (Stored, Vec<Witness>) {
        let log = LogId::new();
        let entry = |seq: Seq| Seen { seq, client_id: ClientId::new(), body: (seq > 1).then(|| format!("body {seq}")) };
        let entries: Vec<Seen> = (1..=5).map(entry).collect();
        let acked = [2, 4].map(|seq: usize| {
            let entry = &entries[seq - 1];
            Acked { log, client_id: entry.client_id, seq: entry.seq, body: entry.body.clone().unwrap() }
        });
        let writer = Witness { name: "w".into(), acked: acked.into(), seen: [(log, entries.clone())].into() };
        let reader = Witness { name: "r".into(), acked: Vec::new(), seen: [(log, entries.clone())].into() };
        ([(log, entries)].into(), vec![writer, reader])
    }

    #[track_caller]
    fn finds(plant: impl FnOnce(&mut Vec<Seen>, &mut [Witness], LogId), expected: impl Fn(&Broken) -> bool) {
        let (mut stored, mut witnesses) = sound();
        let log = *stored.keys().next().unwrap();
        plant(stored.get_mut(&log).unwrap(), &mut witnesses, log);
        let broken = check(&stored, &witnesses);
        assert!(broken.iter().any(expected), "{broken:?}");
    }

    #[test]
    fn what_is_sound_passes() {
        let (stored, witnesses) = sound();
        assert_eq!(check(&stored, &witnesses), []);
    }

    #[test]
    fn an_acked_send_that_is_gone_is_lost() {
        finds(|stored, _, _| _ = stored.remove(3), |b| matches!(b, Broken::Lost { seq: 4, .. }));
        finds(|stored, _, _| stored.truncate(3), |b| matches!(b, Broken::Lost { seq: 4, .. }));
        finds(|stored, _, _| stored[3].client_id = ClientId::new(), |b| matches!(b, Broken::Lost { seq: 4, .. }));
    }

    #[test]
    fn an_acked_send_that_is_other_than_acked_is_changed() {
        finds(|_, w, _| w[0].acked[1].seq = 5, |b| matches!(b, Broken::Changed { acked: 5, stored: 4, .. }));
        finds(|_, w, _| w[0].acked[1].body.push('!'), |b| matches!(b, Broken::Changed { acked: 4, stored: 4, .. }));
        finds(|_, w, _| w[0].acked[1].log = LogId::new(), |b| matches!(b, Broken::Changed { .. }));
    }

    #[test]
    fn one_send_stored_twice_is_found() {
        finds(
            |stored, _, _| stored[4].client_id = stored[1].client_id,
            |b| matches!(b, Broken::Twice { first: 2, second: 5, .. }),
        );
    }

    #[test]
    fn a_hole_in_the_stored_log_is_found() {
        finds(|stored, _, _| _ = stored.remove(2), |b| matches!(b, Broken::Hole { after: 2, next: 4, .. }));
        finds(|stored, _, _| _ = stored.remove(0), |b| matches!(b, Broken::Hole { after: 0, next: 2, .. }));
    }

    #[test]
    fn sends_out_of_their_order_are_found() {
        finds(|_, w, _| w[0].acked.swap(0, 1), |b| matches!(b, Broken::Overtaken { seq: 2, before: 4, .. }));
    }

    #[test]
    fn whatever_a_reader_was_given_wrongly_is_found() {
        let misplaced = |expected: Option<Seq>, given: Option<Seq>| move |b: &Broken| matches!(b, Broken::Misplaced { expected: e, given: g, .. } if (*e, *g) == (expected, given));
        let seen = |w: &mut [Witness], log, plant: fn(&mut Vec<Seen>)| plant(w[1].seen.get_mut(&log).unwrap());
        finds(|_, w, log| seen(w, log, |s| _ = s.remove(2)), misplaced(Some(3), Some(4)));
        finds(|_, w, log| seen(w, log, |s| _ = s.pop()), misplaced(Some(5), None));
        finds(|_, w, log| seen(w, log, |s| s.insert(3, s[2].clone())), misplaced(Some(4), Some(3)));
        finds(|_, w, log| seen(w, log, |s| s.swap(1, 2)), misplaced(Some(2), Some(3)));
        finds(|_, w, log| seen(w, log, |s| s.push(s[4].clone())), misplaced(None, Some(5)));
        finds(|_, w, _| w[1].seen.clear(), misplaced(Some(1), None));
        finds(|_, w, log| seen(w, log, |s| s[2].body = None), |b| matches!(b, Broken::Different { seq: 3, .. }));
    }
}
