//! What is in no log: typing, receipts.

use std::sync::{Arc, OnceLock};

use bowline_protocol::Codec;
use bowline_protocol::wire::ServerFrame;
use bytes::{Bytes, BytesMut};

use super::framing::{Opcode, frame_header};

/// A frame for every reader of a log who can take it at once; nothing keeps it for the others.
#[derive(Debug)]
pub struct Signal {
    frame: ServerFrame,
    proto: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
}

impl Signal {
    pub fn new(frame: ServerFrame) -> Arc<Self> {
        Arc::new(Self { frame, proto: OnceLock::new(), json: OnceLock::new() })
    }

    /// The whole WebSocket frame.
    pub fn frame(&self, codec: Codec) -> &Bytes {
        let made = match codec {
            Codec::Proto => &self.proto,
            Codec::Json => &self.json,
        };
        made.get_or_init(|| {
            let mut payload = BytesMut::new();
            codec.write(&self.frame, &mut payload);
            let mut frame = Vec::with_capacity(payload.len() + 4);
            frame_header(Opcode::of(codec), payload.len(), &mut frame);
            frame.extend_from_slice(&payload);
            frame.into()
        })
    }
}
