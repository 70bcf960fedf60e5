//! Those who keep something of what they read, and hear what is stored.

use bowline_protocol::wire::Entry;
use bowline_protocol::{LogId, Seq};

use crate::accounts::Accounts;
use crate::feed::{Feed, Pushes};
use crate::posts::Posts;

#[derive(Clone)]
pub(super) struct Readers {
    pub(super) accounts: Accounts,
    pub(super) posts: Posts,
    pub(super) feed: Feed,
    pub(super) pushes: Pushes,
}

impl Readers {
    /// What this node stored in a log. Never waits.
    pub(super) fn committed(&self, log: LogId, entries: &[Entry]) {
        self.accounts.committed(log, entries);
        self.posts.committed(log, entries);
        self.feed.committed(log, entries);
        self.pushes.committed(log, entries);
    }

    /// Logs in which something was stored, here or elsewhere. Never waits.
    pub(super) fn changed(&self, heads: &[(LogId, Seq)]) {
        self.accounts.changed(heads);
        self.posts.changed(heads);
        self.pushes.changed(heads);
    }
}
