//! Frames that came right behind `connect`, until it is answered.

use std::sync::Arc;

use bowline_protocol::wire::ClientFrame;
use bowline_protocol::{Code, Failure};
use prost::Message as _;

use crate::limits::{Budget, Share};

/// More are refused.
const FRAMES: usize = 32;

/// Kept encoded: decoded, a frame of many empty fields takes twenty times its length.
pub(super) struct Held {
    frames: usize,
    encoded: Vec<u8>,
    share: Share,
}

impl Held {
    pub(super) fn none(budget: &Arc<Budget>) -> Self {
        Self { frames: 0, encoded: Vec::new(), share: Share::none(budget) }
    }

    pub(super) fn add(&mut self, frame: &ClientFrame) -> Result<(), Failure> {
        if self.frames == FRAMES {
            return Err(Failure { limit: Some(FRAMES as u64), ..Failure::new(Code::OutOfOrder) });
        }
        let encoded = frame.encode_length_delimited_to_vec();
        self.share.grow(encoded.len())?;
        self.encoded.reserve_exact(encoded.len());
        self.encoded.extend(encoded);
        self.frames += 1;
        Ok(())
    }

    /// All of them, as they came.
    pub(super) fn take(self) -> Vec<ClientFrame> {
        let mut rest = &self.encoded[..];
        let next = || (!rest.is_empty()).then(|| ClientFrame::decode_length_delimited(&mut rest).ok()).flatten();
        std::iter::from_fn(next).collect()
    }
}
