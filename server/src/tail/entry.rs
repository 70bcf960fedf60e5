//! A live entry, ready to be written.

use std::sync::{Arc, OnceLock};

use bowline_protocol::wire::{self, ServerFrames, server_frame::Kind as Push};
use bowline_protocol::{Codec, LogId};
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::framing::{Opcode, entries_head, frame_header, proto_item};
use super::header::{Header, Kind};

/// One entry as the message that every level reader of the log gets (`entries`, or the message of a topic): encoded once
/// a codec, framed once, and shared. Protobuf is made at once, JSON when the first reader needs it.
#[derive(Debug)]
pub struct Entry {
    header: Header,
    proto: Bytes,
    /// Where the payload and, in it, the encoded `wire::Entry` begin in `proto`.
    payload_at: u32,
    item_at: u32,
    json: OnceLock<Bytes>,
}

impl Entry {
    pub fn new(log: LogId, entry: &wire::Entry) -> Arc<Self> {
        let mut item = Vec::with_capacity(entry.encoded_len() + 8);
        let prefix = proto_item(entry, &mut item);
        let mut frame = Vec::with_capacity(item.len() + 56);
        entries_head(Codec::Proto, log, entry.seq - 1, entry.seq, item.len(), &mut frame);
        let payload_at = header_bytes(&frame);
        let item_at = (frame.len() + prefix) as u32;
        frame.extend_from_slice(&item);
        frame.shrink_to_fit();
        Arc::new(Self { header: Header::of(entry), proto: frame.into(), payload_at, item_at, json: OnceLock::new() })
    }

    /// A topic's message, which nobody decodes here.
    pub fn of_topic(message: wire::TopicMessage) -> Arc<Self> {
        let header = Header { seq: message.seq, version: message.seq, target_seq: 0, removes: None, kind: Kind::Other };
        let frame = wire::ServerFrame { id: None, kind: Some(Push::TopicMessage(message)) };
        let mut payload = BytesMut::new();
        Codec::Proto.write(&frame, &mut payload);
        let mut frame = Vec::with_capacity(payload.len() + 4);
        frame_header(Opcode::Binary, payload.len(), &mut frame);
        let payload_at = frame.len() as u32;
        frame.extend_from_slice(&payload);
        Arc::new(Self { header, proto: frame.into(), payload_at, item_at: payload_at, json: OnceLock::new() })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole WebSocket frame.
    pub fn frame(&self, codec: Codec) -> &Bytes {
        match codec {
            Codec::Proto => &self.proto,
            Codec::Json => self.json.get_or_init(|| self.to_json()),
        }
    }

    /// For the few who must know what is in it; a topic's message is no entry.
    pub fn decode(&self) -> wire::Entry {
        decoded(&self.proto[self.item_at as usize..])
    }

    /// What it takes in memory in one codec, bookkeeping included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.proto.len()
    }

    fn to_json(&self) -> Bytes {
        let frames: ServerFrames = decoded(&self.proto[self.payload_at as usize..]);
        let mut payload = BytesMut::new();
        for frame in &frames.frame {
            Codec::Json.write(frame, &mut payload);
        }
        let mut frame = Vec::with_capacity(payload.len() + 4);
        frame_header(Opcode::Text, payload.len(), &mut frame);
        frame.extend_from_slice(&payload);
        frame.into()
    }
}

/// Of our own encoding, so it can't fail.
pub(super) fn decoded<M: prost::Message + Default>(bytes: &[u8]) -> M {
    match M::decode(bytes) {
        Ok(message) => message,
        Err(error) => unreachable!("what was encoded here can't be decoded: {error}"),
    }
}

/// The length of the WebSocket header at the start of an unmasked frame.
fn header_bytes(frame: &[u8]) -> u32 {
    match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    }
}
