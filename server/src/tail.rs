//! What a node holds of its active logs in memory, and who stands where in them.
//!
//! A [`Tail`] keeps the newest entries of one log, each encoded once a codec and framed once for every socket, and the
//! aligned pages that replays are read in. A [`Cursor`] is one reader's place and decides what is for him. Everything
//! here is pure: no sockets, no clocks, no domain; a [`PageSource`] is how stored entries come in.
//!
//! Must always hold:
//! - Memory is never the truth of what is stored. An entry that is lost, repeated or out of order on the way here costs a
//!   page read, no more. (A topic's message is stored nowhere, and its loss shows in the seq.)
//! - What a tail or page says of a message is no older than the newest fact that this node knows of.
//! - A cursor only moves forward, over ranges that were covered.

mod budget;
mod cursor;
mod entry;
mod framing;
mod header;
mod log_tail;
mod memory;
mod page;
mod plan;
mod signal;
mod source;
mod spans;

pub use budget::{Budget, Token};
pub use cursor::{Covered, Cursor, Stretch};
pub use entry::Entry;
pub use framing::{Opcode, entries_end, entries_head, frame_header};
pub use header::{Header, Kind};
pub use log_tail::{Arrival, Tail};
pub use memory::MemoryLog;
pub use page::{PAGE_ENTRIES, Page, Slice, page_of};
pub use plan::{MAX_FRAMES, Plan, plan};
pub use signal::Signal;
pub use source::{PageRead, PageSource};
pub use spans::{Span, Spans};
