//! What a client names before it follows anything.

use std::sync::Arc;

use bowline_protocol::command::Cursor;
use bowline_protocol::{Code, Failure};

use super::Context;
use crate::conversations::Named;
use crate::limits::Budget;

pub(super) struct Naming {
    pub(super) user_cursor: Option<Cursor>,
    /// Shared with the domain while that is asked.
    pub(super) named: Arc<Named>,
    /// When the first one was named.
    since_ms: Option<i64>,
}

const RETRY_AFTER_MS: u64 = 1_000;

impl Naming {
    pub(super) fn new(user_cursor: Option<Cursor>, budget: &Arc<Budget>) -> Self {
        Self { user_cursor, named: Arc::new(Named::none(budget)), since_ms: None }
    }

    /// A refusal of `resume.cursors` changes nothing; `overloaded` leaves the client without what it named here.
    pub(super) fn add(&mut self, cursors: &[Cursor], cx: &Context<'_>) -> Result<(), Failure> {
        let limit = cx.rules.limits.conversations;
        if (self.named.len() + cursors.len()) as u64 > limit {
            return Err(Failure::too_large("resume.cursors", limit));
        }
        if cursors.is_empty() {
            return Ok(());
        }
        // The domain may still hold what it could not answer in time.
        let named = Arc::get_mut(&mut self.named);
        named.ok_or_else(|| Failure::retry_after(Code::Overloaded, RETRY_AFTER_MS))?.add(cursors)?;
        self.since_ms.get_or_insert(cx.now_ms);
        Ok(())
    }

    /// What is named is held too long without the last `resume`.
    pub(super) fn lingers(&self, cx: &Context<'_>) -> bool {
        self.since_ms.is_some_and(|since_ms| cx.now_ms - since_ms > cx.rules.connect_timeout_ms)
    }
}
