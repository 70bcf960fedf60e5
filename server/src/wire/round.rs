//! One log's turn: its followers, walked backwards, each moved by its own cursor.

use super::application::Application;
use super::fanout::Run;
use super::shard::Shard;
use super::slab::Key;

/// Writes for one follower before the next one; a replay that needs more goes on by itself.
const FOLLOWER_WRITES: usize = 4;
/// Followers looked at in one turn, whether they need anything or not.
const TURN_FOLLOWERS: usize = 8192;

impl<A: Application> Shard<A> {
    /// Serves a log's followers by at most `allowed` writes, and puts the log behind the others if it is not done.
    /// Returns the writes.
    ///
    /// Calls into the application on the way may change the list. A walk backwards bears that: one that leaves is
    /// replaced by one from the end, which was served; one that comes is put at the end, and serves itself.
    pub(super) fn run_entries(&mut self, key: Key, allowed: usize) -> usize {
        let mut writes = 0;
        for _ in 0..TURN_FOLLOWERS {
            let Some(fanout) = self.fanouts.get_mut(key) else { return writes };
            if fanout.at == 0 {
                fanout.queued = false;
                if std::mem::take(&mut fanout.again) {
                    self.fanouts.run(key);
                }
                return writes;
            }
            if writes >= allowed {
                break;
            }
            fanout.at -= 1;
            let follower = fanout.followers.as_slice()[fanout.at as usize];
            writes += self.advance(follower.slot, follower.nth as usize, FOLLOWER_WRITES);
        }
        self.fanouts.runs.push_back(Run::Entries(key));
        writes
    }
}
