//! One log's turn: its followers, walked backwards, each moved by its own cursor.

use super::application::Application;
use super::shard::Shard;
use super::slab::Key;
use super::topic::Run;

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
            let Some(topic) = self.topics.get_mut(key) else { return writes };
            if topic.at == 0 {
                topic.queued = false;
                if std::mem::take(&mut topic.again) {
                    self.topics.run(key);
                }
                return writes;
            }
            if writes >= allowed {
                break;
            }
            topic.at -= 1;
            let follower = topic.followers.as_slice()[topic.at as usize];
            writes += self.advance(follower.slot, follower.nth as usize, FOLLOWER_WRITES);
        }
        self.topics.runs.push_back(Run::Entries(key));
        writes
    }
}
