//! Turns of connections that begin to speak: so many at once, and of one network no more than its share of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::Network;

/// Cheap to clone; all clones give the same turns.
#[derive(Clone)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    networks: Arc<Networks>,
}

/// A connection that has its turn; dropped, it is another one's.
pub(super) struct Turn {
    _of_network: (OwnedSemaphorePermit, Member),
    _of_all: OwnedSemaphorePermit,
}

/// Of networks with a connection that speaks or waits for it: no more than there are connections.
struct Networks {
    share: usize,
    /// Held for one lookup, never across an await.
    members: Mutex<HashMap<Network, (Arc<Semaphore>, usize)>>,
}

/// One connection of a network.
struct Member {
    network: Network,
    networks: Arc<Networks>,
}

impl Turns {
    /// One at least in all, and of each network.
    pub(super) fn new(all: usize, share_percent: u64) -> Self {
        let permits = |turns: usize| turns.clamp(1, Semaphore::MAX_PERMITS);
        let all = permits(all);
        let share = u128::from(share_percent) * all as u128 / 100;
        let share = permits(usize::try_from(share).unwrap_or(all));
        let networks = Networks { share, members: Mutex::default() };
        Self { all: Arc::new(Semaphore::new(all)), networks: Arc::new(networks) }
    }

    /// Waits for a turn of the network's share, then for one of all: nobody who waits keeps one from others.
    pub(super) async fn take(&self, network: Network) -> Option<Turn> {
        let (share, member) = self.networks.enter(network);
        let of_network = share.acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn { _of_network: (of_network, member), _of_all: of_all })
    }
}

impl Networks {
    fn enter(self: &Arc<Self>, network: Network) -> (Arc<Semaphore>, Member) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let (share, count) = members.entry(network).or_insert_with(|| (Arc::new(Semaphore::new(self.share)), 0));
        *count += 1;
        (Arc::clone(share), Member { network, networks: Arc::clone(self) })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.networks.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = members.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                members.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::FutureExt as _;

    use super::super::client::Address;
    use super::*;

    fn host(n: u8) -> Network {
        Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))).into()
    }

    #[test]
    fn a_network_has_its_share_and_is_forgotten_with_its_last_connection() {
        // In all, the share in percent, what one network gets, what two get.
        for (all, percent, one, two) in
            [(4, 50, 2, 4), (5, 50, 2, 4), (4, 75, 3, 4), (4, 100, 4, 4), (1, 50, 1, 1), (0, 1, 1, 1)]
        {
            let turns = Turns::new(all, percent);
            let now = |n| turns.take(host(n)).now_or_never().flatten();
            let first: Vec<Turn> = std::iter::from_fn(|| now(1)).collect();
            assert_eq!(first.len(), one, "{percent} % of {all}");
            let second: Vec<Turn> = std::iter::from_fn(|| now(2)).collect();
            assert_eq!(first.len() + second.len(), two, "{percent} % of {all}");
            drop((first, second));
            assert!(turns.networks.members.lock().unwrap().is_empty() && now(3).is_some());
        }
    }
}
