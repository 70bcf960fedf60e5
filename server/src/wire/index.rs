//! Topics by their log.

use std::hash::{BuildHasher as _, RandomState};

use bowline_protocol::LogId;
use hashbrown::HashTable;

use super::slab::Slab;
use super::topic::Topic;

/// Finds a topic by its log. Each topic holds its log, so a place here takes five bytes; a map that held logs would take
/// 25, and every user has a log.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    pub(super) fn find(&self, log: LogId, topics: &Slab<Topic>) -> Option<u32> {
        self.places.find(self.hasher.hash_one(log), |place| is_of(topics, *place, log)).copied()
    }

    /// Enters a topic that stands in the slab, and whose log is not here yet.
    pub(super) fn insert(&mut self, log: LogId, place: u32, topics: &Slab<Topic>) {
        let Self { places, hasher } = self;
        places.insert_unique(hasher.hash_one(log), place, |place| {
            topics.at(*place).map_or(0, |topic| hasher.hash_one(topic.log))
        });
    }

    /// Takes a topic out that still stands in the slab.
    pub(super) fn remove(&mut self, log: LogId, topics: &Slab<Topic>) {
        if let Ok(entry) = self.places.find_entry(self.hasher.hash_one(log), |place| is_of(topics, *place, log)) {
            entry.remove();
        }
    }
}

fn is_of(topics: &Slab<Topic>, place: u32, log: LogId) -> bool {
    topics.at(place).is_some_and(|topic| topic.log == log)
}
