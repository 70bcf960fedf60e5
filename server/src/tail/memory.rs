//! A log in memory: a page source for tests, examples and benchmarks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_protocol::{Failure, LogId, Seq, wire};

use super::page::page_of;
use super::source::{PageRead, PageSource};

/// Keeps every entry of every log, rendered as its writer last put it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    logs: Arc<Mutex<HashMap<LogId, Vec<wire::Entry>>>>,
}

impl MemoryLog {
    /// Adds the entry at the end of its log and gives it the next seq.
    pub fn append(&self, log: LogId, mut entry: wire::Entry) -> wire::Entry {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = logs.entry(log).or_default();
        entry.seq = entries.len() as Seq + 1;
        entry.version = entry.version.max(entry.seq);
        entries.push(entry.clone());
        entry
    }

    /// Changes how a stored entry is rendered from here on.
    pub fn rewrite(&self, log: LogId, seq: Seq, change: impl FnOnce(&mut wire::Entry)) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = logs.get_mut(&log).and_then(|entries| entries.get_mut(seq as usize - 1)) {
            change(entry);
        }
    }

    pub fn read(&self, log: LogId, pages: &[u64]) -> PageRead {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = logs.get(&log).map(Vec::as_slice).unwrap_or_default();
        PageRead {
            as_of_seq: entries.len() as Seq,
            first_seq: 1,
            entries: entries.iter().filter(|e| pages.contains(&page_of(e.seq))).cloned().collect(),
        }
    }
}

impl PageSource for MemoryLog {
    async fn read_pages(&self, log: LogId, pages: &[u64]) -> Result<PageRead, Failure> {
        Ok(self.read(log, pages))
    }
}
