//! Where pages come from.

use std::future::Future;

use bowline_protocol::{Failure, LogId, Seq, wire};

/// Stored entries of one log, rendered as they were at `as_of_seq`.
#[derive(Clone, Debug, Default)]
pub struct PageRead {
    /// The log's last seq in the snapshot that was read.
    pub as_of_seq: Seq,
    /// The first entry that is still kept; 1 if none was ever dropped.
    pub first_seq: Seq,
    /// In seq order.
    pub entries: Vec<wire::Entry>,
}

/// The stored log. The server reads PostgreSQL; tests read a [`super::MemoryLog`].
pub trait PageSource: Send + Sync + 'static {
    /// Reads whole pages (see [`super::page_of`]) of one log in one snapshot that is not older than the call.
    fn read_pages(&self, log: LogId, pages: &[u64]) -> impl Future<Output = Result<PageRead, Failure>> + Send;
}
