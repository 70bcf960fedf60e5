use std::collections::HashSet;
use std::future::ready;

use bowline_protocol::{ClientId, wire};

use super::{Kept, Outbox, full};

/// Keeps sends as long as the process lives: over any number of connections, not over a restart.
#[derive(Debug)]
pub struct MemoryOutbox {
    capacity: usize,
    waiting: HashSet<ClientId>,
}

impl MemoryOutbox {
    /// Takes at most `capacity` messages at a time.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, waiting: HashSet::new() }
    }
}

impl Outbox for MemoryOutbox {
    fn load(&mut self) -> Kept<'_, Vec<wire::Send>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn put<'a>(&'a mut self, send: &'a wire::Send) -> Kept<'a, ()> {
        let taken = self.waiting.len() < self.capacity;
        if taken {
            self.waiting.extend(ClientId::from_wire(&send.client_id));
        }
        Box::pin(ready(if taken { Ok(()) } else { Err(full(self.capacity)) }))
    }

    fn settle(&mut self, client_id: ClientId) -> Kept<'_, ()> {
        self.waiting.remove(&client_id);
        Box::pin(ready(Ok(())))
    }
}
