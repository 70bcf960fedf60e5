//! Follows the change feed: what other nodes committed, and what this one committed and could not publish.

use std::time::Duration;

use bowline_protocol::Failure;
use tokio_util::sync::CancellationToken;

use super::readers::Readers;
use super::socket::Sockets;
use crate::deadline::Deadline;
use crate::log::{Change, Changes, Log};
use crate::wire::Shards;

/// Between two looks while the database does not answer.
const AGAIN: Duration = Duration::from_millis(250);

/// A place in the change feed.
pub(super) struct Follower {
    changes: Changes,
}

impl Follower {
    /// Takes the first position: everything that is committed after this is seen.
    pub(super) async fn start(log: &Log, deadline: Deadline) -> Result<Self, Failure> {
        log.current_epoch(deadline).await?;
        let mut changes = log.changes();
        changes.look(deadline).await?;
        Ok(Self { changes })
    }

    /// Looks each second until stopped. A look that failed is made good by the next one.
    pub(super) async fn run(mut self, log: Log, shards: Shards<Sockets>, readers: Readers, stop: CancellationToken) {
        while let Some(change) = stop.run_until_cancelled(self.changes.next()).await {
            match change {
                Ok(change) => {
                    apply(&change, &log, &shards);
                    readers.changed(&change.heads);
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

fn apply(change: &Change, log: &Log, shards: &Shards<Sockets>) {
    if change.epoch != log.epoch() {
        tracing::warn!(epoch = change.epoch, "the database has a new epoch: clients resume");
        shards.epoch_changed();
        log.adopt_epoch(change.epoch);
    }
    for (log, seq) in &change.heads {
        shards.head(*log, *seq);
    }
}
