use bowline_protocol::{Epoch, Failure, LogId, Seq};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Log, store};
use crate::deadline::Deadline;

/// Finds what any node committed, whoever published it or died before: the position is the text of a snapshot, so every
/// committed entry is seen exactly once, whatever runs for how long beside it.
pub struct Changes {
    log: Log,
    position: Option<Position>,
    ticks: Interval,
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Each log that has entries since the last look, and the highest seq of these.
    pub heads: Vec<(LogId, Seq)>,
    /// The newest in the database. Another one than [`Log::epoch`]: what this node keeps of any log is void.
    pub epoch: Epoch,
}

/// Transactions below `xmax` that are not in `xip` had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    xmax: i64,
    xip: Vec<i64>,
}

impl Changes {
    pub(super) fn new(log: Log) -> Self {
        let mut ticks = tokio::time::interval(log.config().change_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { log, position: None, ticks }
    }

    /// Waits for the next second (`change_interval`), then looks. After an error the next look covers what this one did not.
    pub async fn next(&mut self) -> Result<Change, Failure> {
        self.ticks.tick().await;
        self.look(Deadline::after(self.log.config().change_interval.max(std::time::Duration::from_secs(1)) * 2)).await
    }

    /// What was committed since the last look. The first one finds nothing: it says from where on, so it comes before
    /// anything is followed.
    pub async fn look(&mut self, deadline: Deadline) -> Result<Change, Failure> {
        let connection = self.log.pool().get(deadline).await?;
        let from = self.position.clone().unwrap_or(Position { xmax: i64::MAX, xip: Vec::new() });
        let found = store::changes(&connection, from.xmax, &from.xip, deadline).await;
        let (snapshot, epoch, heads) = found.map_err(|fault| {
            tracing::warn!(%fault, "the change feed can't be read");
            fault.read()
        })?;
        self.position = Position::read(&snapshot);
        Ok(Change { heads, epoch })
    }
}

impl Position {
    /// `xmin:xmax:xip,xip,…`
    fn read(snapshot: &str) -> Option<Self> {
        let mut parts = snapshot.split(':').skip(1);
        let xmax = parts.next()?.parse().ok()?;
        let xip =
            parts.next()?.split(',').filter(|id| !id.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { xmax, xip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_says_which_transactions_had_ended() {
        let read = |text| Position::read(text).map(|position| (position.xmax, position.xip));
        assert_eq!(read("10:20:10,14,15"), Some((20, vec![10, 14, 15])));
        assert_eq!(read("10:10:"), Some((10, vec![])));
        assert_eq!(read("nonsense"), None);
    }
}
