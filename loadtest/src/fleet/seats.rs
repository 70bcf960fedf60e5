//! Who follows what. A rule instead of a list, so that each process works it out by itself. Pure.

use serde::{Deserialize, Serialize};

/// `sockets` readers, each following `follow` of `targets` conversations or topics: neighbours, so that each target has as
/// many readers as any other. `beside` more readers follow one target more, and nothing else does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Seats {
    pub(crate) sockets: u32,
    pub(crate) follow: u32,
    pub(crate) targets: u32,
    pub(crate) beside: u32,
}

impl Seats {
    pub(crate) fn readers(self) -> u32 {
        self.sockets + self.beside
    }

    pub(crate) fn all_targets(self) -> u32 {
        self.targets + u32::from(self.beside > 0)
    }

    pub(crate) fn is_beside(self, reader: u32) -> bool {
        reader >= self.sockets
    }

    pub(crate) fn follows(self, reader: u32) -> impl Iterator<Item = u32> {
        let first = u64::from(reader) * u64::from(self.follow);
        let (beside, targets) = (self.is_beside(reader), u64::from(self.targets.max(1)));
        let count = if beside { 1 } else { self.follow };
        (0..count).map(move |n| if beside { self.targets } else { ((first + u64::from(n)) % targets) as u32 })
    }

    /// The readers of each target.
    pub(crate) fn members(self) -> Vec<Vec<u32>> {
        let mut members = vec![Vec::new(); self.all_targets() as usize];
        for reader in 0..self.readers() {
            for target in self.follows(reader) {
                members[target as usize].push(reader);
            }
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_as_many_readers_and_those_beside_have_their_own() {
        let seats = Seats { sockets: 10_000, follow: 5, targets: 1_000, beside: 2 };
        let members = seats.members();
        assert_eq!(members.len(), 1_001);
        assert!(members[..1_000].iter().all(|members| members.len() == 50));
        assert_eq!(members[1_000], [10_000, 10_001]);
        let topics = Seats { sockets: 6, follow: 1, targets: 3, beside: 0 };
        assert_eq!(topics.members(), [[0, 3], [1, 4], [2, 5]]);
    }
}
