use std::sync::Arc;
use std::time::Duration;

use ::clickhouse::Client;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// `KILL QUERY`s under way at once. The others are not sent: a server that is so slow ends its queries by their limits.
pub(super) const KILLS: usize = 8;
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// A query that the server may be running. Dropped before [`Running::ended`], it is killed there, by the user who asked.
pub(super) struct Running {
    query_id: String,
    client: Client,
    kills: Arc<Semaphore>,
    ended: bool,
}

impl Running {
    pub(super) fn new(client: &Client, kills: &Arc<Semaphore>) -> Self {
        let query_id = format!("bowline-{}", Uuid::new_v4().simple());
        Self { query_id, client: client.clone(), kills: kills.clone(), ended: false }
    }

    pub(super) fn query_id(&self) -> &str {
        &self.query_id
    }

    /// The server has answered, with rows or with an error.
    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), self.kills.clone().try_acquire_owned()) else { return };
        let kill = self.client.query(&format!("KILL QUERY WHERE query_id = '{}' ASYNC", self.query_id)).execute();
        runtime.spawn(async move {
            let _place = place;
            match tokio::time::timeout(KILL_TIMEOUT, kill).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a query could not be killed"),
                Err(_) => tracing::debug!("a query could not be killed in time"),
            }
        });
    }
}
