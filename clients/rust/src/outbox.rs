//! Where a message is kept from the moment a client takes it until the server has stored or refused it.

mod file;
mod memory;

use std::io;
use std::pin::Pin;

use bowline_protocol::{ClientId, wire};

pub use file::FileOutbox;
pub use memory::MemoryOutbox;

/// A future of an [`Outbox`].
pub type Kept<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Keeps sends. The client calls it from one task, one call at a time.
pub trait Outbox: Send {
    /// What an earlier process left, oldest first.
    fn load(&mut self) -> Kept<'_, Vec<wire::Send>>;

    /// After this a send is as safe as the outbox can make it. An error means that it was not taken.
    fn put<'a>(&'a mut self, send: &'a wire::Send) -> Kept<'a, ()>;

    /// It has been answered. May be forgotten in a crash: then it is sent again, and found to be stored already.
    fn settle(&mut self, client_id: ClientId) -> Kept<'_, ()>;
}

fn full(capacity: usize) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, format!("{capacity} messages are waiting already"))
}
