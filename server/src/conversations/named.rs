//! Logs that a client names when it comes back.

use std::ops::Deref;
use std::sync::Arc;

use bowline_protocol::Failure;
use bowline_protocol::command::Cursor;

use crate::limits::{Budget, Share};

/// Cursors that a client has named. What all of these take in a process is within their [`Budget`], however long they wait.
#[derive(Debug)]
pub struct Named {
    cursors: Vec<Cursor>,
    share: Share,
}

impl Named {
    pub fn none(budget: &Arc<Budget>) -> Self {
        Self { cursors: Vec::new(), share: Share::none(budget) }
    }

    /// `overloaded` if too much is held already; then none of these were added.
    pub fn add(&mut self, cursors: &[Cursor]) -> Result<(), Failure> {
        self.share.grow(size_of_val(cursors))?;
        // What is charged is what is taken.
        self.cursors.reserve_exact(cursors.len());
        self.cursors.extend_from_slice(cursors);
        Ok(())
    }
}

impl Deref for Named {
    type Target = [Cursor];

    fn deref(&self) -> &[Cursor] {
        &self.cursors
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.cursors == other.cursors
    }
}
