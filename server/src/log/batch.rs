use bowline_protocol::{Code, Failure};

use super::command::Done;
use super::store::Input;
use crate::deadline::Deadline;

/// Commands that may be stored by one call, and who waits for each.
pub(super) struct Batch {
    /// Names it among those under way.
    pub number: u64,
    pub inputs: Vec<Input>,
    /// `None` once it has its answer.
    pub callers: Vec<Option<Caller>>,
}

/// Who waits for a command's outcome.
pub(super) struct Caller {
    pub deadline: Deadline,
    pub done: Done,
}

impl Batch {
    pub(super) fn split(&mut self) -> Batch {
        let half = self.inputs.len() / 2;
        Batch { number: self.number, inputs: self.inputs.split_off(half), callers: self.callers.split_off(half) }
    }

    /// Gives everyone who still waits the same answer.
    pub(super) fn refuse(self, failure: &Failure) {
        for caller in self.callers.into_iter().flatten() {
            (caller.done)(Err(failure.clone()));
        }
    }

    /// Answers those whose deadline has passed.
    pub(super) fn expire(&mut self, code: Code) {
        for caller in &mut self.callers {
            if let Some(late) = caller.take_if(|caller| caller.deadline.passed()) {
                (late.done)(Err(code.into()));
            }
        }
    }

    /// Drops the commands for which nobody waits any more.
    pub(super) fn forget_answered(&mut self) {
        let mut waits = self.callers.iter().map(Option::is_some);
        self.inputs.retain(|_| waits.next().unwrap_or(false));
        self.callers.retain(Option::is_some);
    }

    pub(super) fn earliest(&self) -> Option<Deadline> {
        self.callers.iter().flatten().map(|caller| caller.deadline).min()
    }

    pub(super) fn latest(&self) -> Option<Deadline> {
        self.callers.iter().flatten().map(|caller| caller.deadline).max()
    }
}
