//! Fan-outs by their log.

use std::hash::{BuildHasher as _, RandomState};

use bowline_protocol::LogId;
use hashbrown::HashTable;

use super::fanout::Fanout;
use super::slab::Slab;

/// Finds a fan-out by its log. Each one holds its log, so a place here takes five bytes; a map that held logs would take
/// 25, and every user has a log.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    pub(super) fn find(&self, log: LogId, fanouts: &Slab<Fanout>) -> Option<u32> {
        self.places.find(self.hasher.hash_one(log), |place| is_of(fanouts, *place, log)).copied()
    }

    /// Enters one that stands in the slab, and whose log is not here yet.
    pub(super) fn insert(&mut self, log: LogId, place: u32, fanouts: &Slab<Fanout>) {
        let Self { places, hasher } = self;
        places.insert_unique(hasher.hash_one(log), place, |place| {
            fanouts.at(*place).map_or(0, |fanout| hasher.hash_one(fanout.log))
        });
    }

    /// Takes one out that still stands in the slab.
    pub(super) fn remove(&mut self, log: LogId, fanouts: &Slab<Fanout>) {
        if let Ok(entry) = self.places.find_entry(self.hasher.hash_one(log), |place| is_of(fanouts, *place, log)) {
            entry.remove();
        }
    }
}

fn is_of(fanouts: &Slab<Fanout>, place: u32, log: LogId) -> bool {
    fanouts.at(place).is_some_and(|fanout| fanout.log == log)
}
