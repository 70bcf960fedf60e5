//! Who was let in a moment ago, so that each request of his need not be asked of the database.

use std::time::{Duration, Instant};

use bowline_protocol::wire::{Entry, entry::Content};
use bowline_protocol::{LogId, Seq};
use moka::sync::Cache;

use super::Identity;
use crate::marks::Marks;

/// A session that was ended on another node is known here within 2 s, by the change feed; without it, after this time.
const BELIEVED: Duration = Duration::from_secs(10);
/// Tokens that are remembered at once, about 150 bytes each; what was not used for longest goes first.
const TOKENS: u64 = 50_000;

/// The tokens of this node's last moments. By what a token says, since two of one session may differ in whether they are still good.
pub(super) struct Admitted {
    recent: Cache<Identity, Instant>,
    marks: Marks,
}

impl Admitted {
    pub(super) fn has(&self, identity: &Identity) -> bool {
        let asked = self.recent.get(identity);
        asked.is_some_and(|asked| self.marks.unchanged([identity.user.0], asked))
    }

    /// It was let in when it was asked for at this moment.
    pub(super) fn add(&self, identity: Identity, asked: Instant) {
        self.recent.insert(identity, asked);
    }

    pub(super) fn committed(&self, log: LogId, entries: &[Entry]) {
        if entries.iter().any(|entry| matches!(entry.content, Some(Content::SessionRevoked(_)))) {
            self.marks.mark(log.0);
        }
    }

    pub(super) fn changed(&self, heads: &[(LogId, Seq)]) {
        heads.iter().for_each(|(log, _)| self.marks.mark(log.0));
    }
}

impl Default for Admitted {
    fn default() -> Self {
        let recent = Cache::builder().max_capacity(TOKENS).time_to_live(BELIEVED).build();
        Self { recent, marks: Marks::default() }
    }
}
