//! When something last changed, so that what was read before that is not used. Bounded: where it is full, everything is taken to
//! have changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

/// Things that are marked; one more forgets them all.
const MARKS: usize = 65_536;

/// Changes of a node, by what changed.
#[derive(Debug)]
pub struct Marks {
    /// Held for one look.
    marks: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    by_id: HashMap<Uuid, Instant>,
    /// Everything may have changed until then.
    floor: Option<Instant>,
    most: usize,
}

impl Marks {
    /// It has changed just now.
    pub fn mark(&self, what: Uuid) {
        let now = Instant::now();
        let mut held = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by_id.len() >= held.most && !held.by_id.contains_key(&what) {
            held.by_id = HashMap::new();
            held.floor = Some(now);
        }
        held.by_id.insert(what, now);
    }

    /// Whether none of these has changed since a read that began then. It may say no where nothing changed.
    pub fn unchanged<const N: usize>(&self, what: [Uuid; N], since: Instant) -> bool {
        let held = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |changed: &Instant| *changed < since;
        held.floor.as_ref().is_none_or(earlier) && what.iter().all(|what| held.by_id.get(what).is_none_or(earlier))
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { marks: Mutex::new(Held { by_id: HashMap::new(), floor: None, most: MARKS }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_used() {
        let marks = Marks::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let before = Instant::now();
        assert!(marks.unchanged([one, other], before));
        marks.mark(one);
        assert!(!marks.unchanged([one], before));
        assert!(!marks.unchanged([other, one], before));
        assert!(marks.unchanged([other], before));
        // Clocks tick: a read that begins later has seen it.
        let mut later = Instant::now();
        while later == before {
            later = Instant::now();
        }
        assert!(marks.unchanged([one], later + std::time::Duration::from_nanos(1)));
    }

    #[test]
    fn where_it_is_full_everything_has_changed() {
        let marks = Marks { marks: Mutex::new(Held { by_id: HashMap::new(), floor: None, most: 2 }) };
        let before = Instant::now();
        (1..=2).for_each(|what| marks.mark(Uuid::from_u128(what)));
        assert!(marks.unchanged([Uuid::from_u128(9)], before));
        marks.mark(Uuid::from_u128(2));
        assert!(marks.unchanged([Uuid::from_u128(9)], before), "one that is marked again needs no room");
        marks.mark(Uuid::from_u128(3));
        assert!(!marks.unchanged([Uuid::from_u128(9)], before));
        assert_eq!(marks.marks.lock().unwrap().by_id.len(), 1);
    }
}
