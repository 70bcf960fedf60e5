//! The bulkhead before the fallback: however many readers find nothing in the cache at once, the database is asked for a
//! few of them at a time. The others get what is the same for all, marked as degraded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Invalid, millis};
use crate::deadline::Deadline;
use crate::limits::{Limiter, Rate};
use crate::telemetry::Metrics;

/// How much of the fallback is done at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// At once. Each holds a connection of the pool (15), which chat stores its messages with: fewer than half of them.
    pub permits: usize,
    /// In all.
    pub rate: Rate,
    /// How long one waits for his turn.
    #[serde(rename = "wait_ms", with = "millis")]
    pub wait: Duration,
    /// Who may wait; one more is turned away at once.
    pub waiting: usize,
}

/// Lets a few through. Cheap to clone; all clones are one bulkhead.
#[derive(Clone)]
pub struct Bulkhead {
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    rate: Arc<Limiter<()>>,
    wait: Duration,
    inside: Gauge,
    refused: Counter,
}

/// A place inside; dropped, it is free for the next one.
#[derive(Debug)]
#[must_use = "a permit that is dropped bounds nothing"]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    inside: Gauge,
}

/// There was no place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fallback is full")]
pub struct Full;

/// What everybody may be shown: the last good answer that is not one reader's own. Whoever makes one leaves it here.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// Held to clone or replace the `Arc`.
    last: Mutex<Option<Arc<T>>>,
}

impl Bulkhead {
    pub fn new(config: &Config, metrics: &Metrics) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(config.permits)),
            waiting: Arc::new(Semaphore::new(config.waiting)),
            rate: Arc::new(Limiter::new(config.rate, 1)),
            wait: config.wait,
            inside: metrics.register("feed_fallback_inside", "Fallbacks under way", Gauge::default()),
            refused: metrics.register("feed_fallback_refused", "Fallbacks that found no place", Counter::default()),
        }
    }

    /// A place, after `wait` at most and by the deadline. Whoever is refused shows the [`Snapshot`].
    pub async fn enter(&self, deadline: Deadline) -> Result<Permit, Full> {
        let entered = self.wait_for_place(deadline.capped(self.wait).instant().into()).await;
        self.refused.inc_by(u64::from(entered.is_err()));
        entered
    }

    async fn wait_for_place(&self, until: Instant) -> Result<Permit, Full> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Full)?;
        let acquired = timeout_at(until, self.permits.clone().acquire_owned()).await;
        let permit = acquired.map_err(|_| Full)?.map_err(|_| Full)?;
        // Another may take the next token, so it is asked again until time is up.
        while let Err(refused) = self.rate.take(()) {
            let again = Instant::now() + Duration::from_millis(refused.retry_after_ms.unwrap_or(1));
            if again > until {
                return Err(Full);
            }
            sleep_until(again).await;
        }
        self.inside.inc();
        Ok(Permit { _permit: permit, inside: self.inside.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inside.dec();
    }
}

impl<T> Snapshot<T> {
    pub fn replace(&self, with: Arc<T>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(with);
    }

    /// Nothing until somebody made one.
    pub fn last(&self) -> Option<Arc<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self { last: Mutex::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { permits: 6, rate: Rate { burst: 20, interval_ms: 5 }, wait: Duration::from_millis(50), waiting: 256 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let wait = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("permits", self.permits as u64, 1..=1_000),
            ("wait_ms", wait, 0..=10_000),
            ("waiting", self.waiting as u64, 1..=100_000),
        ];
        let outside = ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed));
        outside.chain(self.rate.validate().into_iter().map(|invalid| invalid.under("rate"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulkhead(config: Config) -> Bulkhead {
        Bulkhead::new(&config, &Metrics::default())
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[tokio::test]
    async fn a_place_that_is_left_is_the_next_ones() {
        let bulkhead = bulkhead(Config { permits: 1, wait: Duration::from_secs(20), ..Config::default() });
        let inside = bulkhead.enter(soon()).await.unwrap();
        let waits = tokio::spawn({
            let bulkhead = bulkhead.clone();
            async move { bulkhead.enter(soon()).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        assert_eq!(bulkhead.inside.get(), 1);
        drop(inside);
        assert_eq!(waits.await.unwrap(), Ok(()));
        assert_eq!((bulkhead.inside.get(), bulkhead.refused.get()), (0, 0));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_allowed_nor_past_his_deadline() {
        let hour = Duration::from_secs(3_600);
        for (wait, deadline) in [(Duration::ZERO, soon()), (hour, Deadline::after(Duration::ZERO))] {
            let bulkhead = bulkhead(Config { permits: 1, wait, ..Config::default() });
            let _inside = bulkhead.permits.clone().try_acquire_owned().unwrap();
            assert_eq!(bulkhead.enter(deadline).await.map(drop), Err(Full));
            assert_eq!(bulkhead.refused.get(), 1);
        }
    }

    #[tokio::test]
    async fn the_rate_holds_where_places_are_free() {
        let rate = Rate { burst: 3, interval_ms: 3_600_000 };
        let bulkhead = bulkhead(Config { rate, ..Config::default() });
        let mut entered = 0;
        for _ in 0..10 {
            entered += u32::from(bulkhead.enter(soon()).await.is_ok());
        }
        assert_eq!((entered, bulkhead.refused.get()), (3, 7));
    }

    #[tokio::test]
    async fn the_waiting_room_is_bounded() {
        let config = Config { permits: 1, waiting: 5, wait: Duration::from_secs(20), ..Config::default() };
        let bulkhead = bulkhead(config);
        let inside = bulkhead.enter(soon()).await.unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let bulkhead = bulkhead.clone();
            asking.spawn(async move { bulkhead.enter(soon()).await.map(drop) });
        }
        for _ in 0..3 {
            assert_eq!(asking.join_next().await.unwrap().unwrap(), Err(Full));
        }
        drop(inside);
        assert_eq!(asking.join_all().await, [Ok(()); 5]);
    }

    #[test]
    fn a_snapshot_is_the_last_one() {
        let snapshot = Snapshot::default();
        assert_eq!(snapshot.last(), None);
        snapshot.replace(Arc::new(1));
        snapshot.replace(Arc::new(2));
        assert_eq!(snapshot.last().as_deref(), Some(&2));
    }
}
