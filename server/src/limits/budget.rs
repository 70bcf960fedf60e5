use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_protocol::{Code, Failure};

/// Bytes that many hold together and that are never more than so many. Half of them is for those who hold little each, so
/// that a few who hold much keep nobody else out.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

/// What one holder has of a [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// A holder of no more than this may be among those who use all.
const LITTLE: usize = 8 * 1024;
const RETRY_AFTER_MS: u64 = 1_000;

impl Budget {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0) })
    }
}

impl Share {
    pub fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes so many bytes more, or says in `overloaded` when to come again. A refusal takes nothing.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let Budget { most, used } = &*self.budget;
        let bound = if self.bytes + bytes > LITTLE { most / 2 } else { *most };
        let taken = |before: usize| before.checked_add(bytes).filter(|after| *after <= bound);
        // Nothing else is read or written by what this counter says.
        let refused = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        refused.map_err(|_| Failure::retry_after(Code::Overloaded, RETRY_AFTER_MS))?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>, bytes: usize) -> Option<Share> {
        let mut share = Share::none(budget);
        share.grow(bytes).ok().map(|()| share)
    }

    #[test]
    fn nobody_gets_more_than_there_is_and_what_is_dropped_is_free_again() {
        let budget = Budget::new(4 * LITTLE);
        let mut held: Vec<_> = (0..4).map_while(|_| share(&budget, LITTLE)).collect();
        assert_eq!(held.len(), 4);
        let refused = Failure::retry_after(Code::Overloaded, RETRY_AFTER_MS);
        assert_eq!(held[0].grow(1), Err(refused));
        held.pop();
        assert!(share(&budget, LITTLE + 1).is_none(), "a half is not for those who hold much");
        let mut little = share(&budget, LITTLE).expect("what was dropped");
        assert!(share(&budget, 1).is_none() && little.grow(0).is_ok());
        drop((held, little));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn those_who_hold_much_share_one_half() {
        let budget = Budget::new(8 * LITTLE);
        let mut much = share(&budget, LITTLE).expect("little at first");
        assert_eq!((0..8).take_while(|_| much.grow(LITTLE).is_ok()).count(), 3);
        let others: Vec<_> = (0..8).map_while(|_| share(&budget, LITTLE)).collect();
        assert_eq!(others.len(), 4, "the other half");
    }
}
