//! WebSocket frames of the server, and the `entries` message put together from encoded items.
//!
//! Items are encoded once and shared; what differs between readers (where they stand) is a few bytes before them. The
//! tests hold both codecs to what `bowline_protocol::Codec` reads.

use bowline_protocol::{Codec, LogId, Seq};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The frames that a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// Of a message in this codec.
    pub fn of(codec: Codec) -> Self {
        match codec {
            Codec::Proto => Opcode::Binary,
            Codec::Json => Opcode::Text,
        }
    }
}

/// Adds the header of an unmasked, unfragmented frame.
pub fn frame_header(opcode: Opcode, payload_bytes: usize, out: &mut Vec<u8>) {
    let opcode = match opcode {
        Opcode::Text => OpCode::Data(Data::Text),
        Opcode::Binary => OpCode::Data(Data::Binary),
        Opcode::Close => OpCode::Control(Control::Close),
        Opcode::Ping => OpCode::Control(Control::Ping),
        Opcode::Pong => OpCode::Control(Control::Pong),
    };
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    if let Err(error) = header.format(payload_bytes as u64, out) {
        unreachable!("a growing buffer was full: {error}");
    }
}

/// Adds everything of a framed `entries` message that stands before its items, which take `item_bytes`.
pub fn entries_head(codec: Codec, log: LogId, after_seq: Seq, to_seq: Seq, item_bytes: usize, out: &mut Vec<u8>) {
    match codec {
        Codec::Proto => proto_head(log, after_seq, to_seq, item_bytes, out),
        Codec::Json => json_head(log, after_seq, to_seq, item_bytes, out),
    }
}

/// What stands after the items.
pub fn entries_end(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Proto => b"",
        Codec::Json => b"]}}",
    }
}

/// Adds one item of a protobuf `Entries`; returns how many bytes of it stand before the entry itself.
pub(super) fn proto_item(entry: &impl prost::Message, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let bytes = entry.encoded_len();
    encode_key(ITEMS, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
    let prefix = out.len() - start;
    if let Err(error) = entry.encode(out) {
        unreachable!("a growing buffer was full: {error}");
    }
    prefix
}

// Field numbers of the schema: ServerFrames.frame, ServerFrame.entries, and those of Entries.
const FRAME: u32 = 1;
const ENTRIES: u32 = 2;
const LOG_ID: u32 = 1;
const AFTER_SEQ: u32 = 2;
const TO_SEQ: u32 = 3;
const ITEMS: u32 = 4;

fn proto_head(log: LogId, after_seq: Seq, to_seq: Seq, item_bytes: usize, out: &mut Vec<u8>) {
    let id = log.0.as_bytes();
    let seqs = [(AFTER_SEQ, after_seq), (TO_SEQ, to_seq)];
    let fields = key_len(LOG_ID)
        + 1
        + id.len()
        + seqs
            .iter()
            .filter(|(_, seq)| *seq > 0)
            .map(|(tag, seq)| key_len(*tag) + encoded_len_varint(*seq))
            .sum::<usize>();
    let entries = fields + item_bytes;
    let frame = key_len(ENTRIES) + encoded_len_varint(entries as u64) + entries;
    let payload = key_len(FRAME) + encoded_len_varint(frame as u64) + frame;

    frame_header(Opcode::Binary, payload, out);
    encode_key(FRAME, WireType::LengthDelimited, out);
    encode_varint(frame as u64, out);
    encode_key(ENTRIES, WireType::LengthDelimited, out);
    encode_varint(entries as u64, out);
    encode_key(LOG_ID, WireType::LengthDelimited, out);
    encode_varint(id.len() as u64, out);
    out.extend_from_slice(id);
    for (tag, seq) in seqs.into_iter().filter(|(_, seq)| *seq > 0) {
        encode_key(tag, WireType::Varint, out);
        encode_varint(seq, out);
    }
}

fn json_head(log: LogId, after_seq: Seq, to_seq: Seq, item_bytes: usize, out: &mut Vec<u8>) {
    let head = format!(r#"{{"entries":{{"log_id":"{log}","after_seq":{after_seq},"to_seq":{to_seq},"items":["#);
    frame_header(Opcode::Text, head.len() + item_bytes + entries_end(Codec::Json).len(), out);
    out.extend_from_slice(head.as_bytes());
}
