//! Conversations: who may read what from where, lists, members, history, how far each has read, and every change of one.
//!
//! May use `log` (writing and reading entries), `storage` (through `store.rs`, the only file here with SQL) and the types
//! of `tail`. Knows no sockets and no sessions. Rights to write are decided by the log's `append`, not here.

mod attach;

pub use attach::{AttachedLog, Attachment, HeadsPage, HeadsPlace};
