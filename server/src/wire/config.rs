//! What an operator can set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, millis};

use super::registry::MAX_SHARDS;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that own sockets. A message wakes each that follows its log, so few: one carries 500,000 deliveries/s.
    pub shards: usize,
    /// Tails and pages of one shard. Tails fill half of it; pages fill the rest, and most of that half, while many catch up.
    pub tail_bytes: usize,
    /// What the kernel may hold of frames that were not sent yet, a socket.
    pub notsent_lowat_bytes: u32,
    /// One read of a socket.
    pub read_buffer_bytes: usize,
    /// The longest message of a client; an application may allow less. Set from `limits.frame_bytes`.
    #[serde(skip)]
    pub message_bytes: usize,
    /// Pings go out at this rhythm; a peer from which nothing came for two of them is gone.
    #[serde(rename = "heartbeat_ms", with = "millis")]
    pub heartbeat: Duration,
    /// A peer that takes nothing of what waits for it is gone after this time.
    #[serde(rename = "stall_limit_ms", with = "millis")]
    pub stall_limit: Duration,
    /// How long a closing handshake may take.
    #[serde(rename = "close_timeout_ms", with = "millis")]
    pub close_timeout: Duration,
    /// A socket with this many open commands (set from `limits.open_commands`), or this many bytes of replies unsent, is not read.
    #[serde(skip)]
    pub open_commands: u16,
    pub unsent_pause_bytes: usize,
    /// Replies beyond this close the socket: its application makes more than the peer takes.
    pub unsent_max_bytes: usize,
    /// Private frames made in one turn of a shard; outcomes beyond it wait for the next turn.
    pub turn_private_bytes: usize,
    /// Published entries that wait for a shard, together no more than `tail_bytes`; beyond it only the logs' heads are kept,
    /// and pages are read.
    pub inbox_entries: usize,
    /// New sockets that wait for a shard; beyond it they are refused.
    pub inbox_sockets: usize,
    /// Statements at once that read pages, a node.
    pub page_reads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 1,
            tail_bytes: 8 << 20,
            notsent_lowat_bytes: 2048,
            read_buffer_bytes: 16 << 10,
            message_bytes: 64 << 10,
            heartbeat: Duration::from_secs(30),
            stall_limit: Duration::from_secs(300),
            close_timeout: Duration::from_secs(5),
            open_commands: 32,
            unsent_pause_bytes: 16 << 10,
            unsent_max_bytes: 1 << 20,
            turn_private_bytes: 64 << 10,
            inbox_entries: 4096,
            inbox_sockets: 16 << 10,
            page_reads: 4,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let (kib, mib) = (1024, 1024 * 1024);
        let time = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ranges = [
            ("shards", self.shards as u64, 1..=MAX_SHARDS as u64),
            ("tail_bytes", self.tail_bytes as u64, 64 * kib..=1024 * mib),
            ("notsent_lowat_bytes", u64::from(self.notsent_lowat_bytes), 1..=mib),
            ("read_buffer_bytes", self.read_buffer_bytes as u64, kib..=16 * mib),
            ("heartbeat_ms", time(self.heartbeat), 100..=600_000),
            ("stall_limit_ms", time(self.stall_limit), 1_000..=86_400_000),
            ("close_timeout_ms", time(self.close_timeout), 100..=60_000),
            ("unsent_pause_bytes", self.unsent_pause_bytes as u64, kib..=16 * mib),
            ("unsent_max_bytes", self.unsent_max_bytes as u64, kib..=64 * mib),
            ("turn_private_bytes", self.turn_private_bytes as u64, kib..=64 * mib),
            ("inbox_entries", self.inbox_entries as u64, 1..=1_000_000),
            ("inbox_sockets", self.inbox_sockets as u64, 1..=1_000_000),
            ("page_reads", self.page_reads as u64, 1..=100),
        ];
        ranges.into_iter().filter_map(|(key, value, allowed)| Invalid::unless_in(key, value, allowed)).collect()
    }
}
