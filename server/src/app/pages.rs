//! The stored log as the source of pages.

use std::time::Duration;

use bowline_protocol::{Failure, LogId};

use crate::deadline::Deadline;
use crate::log::Log;
use crate::tail::{PageRead, PageSource};

/// One read of pages; a failed one is tried again by who asked.
const READ_TIME: Duration = Duration::from_secs(10);

pub(super) struct Pages(pub(super) Log);

impl PageSource for Pages {
    async fn read_pages(&self, log: LogId, pages: &[u64]) -> Result<PageRead, Failure> {
        let range = self.0.read_pages(log, pages, Deadline::after(READ_TIME)).await?;
        Ok(PageRead { as_of_seq: range.as_of_seq, first_seq: range.first_seq, entries: range.entries })
    }
}
