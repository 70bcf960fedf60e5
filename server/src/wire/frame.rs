//! A client's frame header: parsed by tungstenite, checked here.

use std::io::Cursor;

use bowline_protocol::Close;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest header of a frame, with a mask and a length of 64 bits.
pub(super) const MAX_HEADER_BYTES: usize = 14;

/// The longest payload of a control frame.
pub(super) const MAX_CONTROL_BYTES: usize = 125;

/// A header that keeps every rule that can be checked without knowing what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: FrameKind,
    pub is_final: bool,
    pub mask: [u8; 4],
    pub payload_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl FrameKind {
    pub(super) fn is_control(self) -> bool {
        matches!(self, FrameKind::Close | FrameKind::Ping | FrameKind::Pong)
    }
}

impl Head {
    /// The header at the start of `bytes` and its length; `None` while it is not whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Close> {
        let mut reader = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut reader).map_err(|_| Close::Protocol)?;
        let Some((header, payload_bytes)) = parsed else { return refuse_early(bytes).map(|()| None) };
        refuse_early(bytes)?;
        let Some(mask) = header.mask else { return Err(Close::Protocol) };
        let kind = match header.opcode {
            OpCode::Data(Data::Continue) => FrameKind::Continuation,
            OpCode::Data(Data::Text) => FrameKind::Text,
            OpCode::Data(Data::Binary) => FrameKind::Binary,
            OpCode::Control(Control::Close) => FrameKind::Close,
            OpCode::Control(Control::Ping) => FrameKind::Ping,
            OpCode::Control(Control::Pong) => FrameKind::Pong,
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return Err(Close::Protocol),
        };
        let shortest = match bytes[1] & 0x7f {
            126 => payload_bytes > MAX_CONTROL_BYTES as u64,
            127 => payload_bytes > u64::from(u16::MAX) && payload_bytes >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(Close::Protocol);
        }
        Ok(Some((Head { kind, is_final: header.is_final, mask, payload_bytes }, reader.position() as usize)))
    }
}

/// What the first two bytes show already: reserved bits, a reserved opcode, no mask, a control frame that is long or cut.
fn refuse_early(bytes: &[u8]) -> Result<(), Close> {
    let Some(&first) = bytes.first() else { return Ok(()) };
    let opcode = first & 0x0f;
    let is_control = opcode & 0x08 != 0;
    if first & 0x70 != 0 || (0x3..=0x7).contains(&opcode) || opcode > 0xa || (is_control && first & 0x80 == 0) {
        return Err(Close::Protocol);
    }
    let Some(&second) = bytes.get(1) else { return Ok(()) };
    if second & 0x80 == 0 || (is_control && usize::from(second & 0x7f) > MAX_CONTROL_BYTES) {
        return Err(Close::Protocol);
    }
    Ok(())
}

/// The code of a close frame's payload, if it has one.
pub(super) fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let Some((number, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Close::Protocol) };
    };
    let number = u16::from_be_bytes(*number);
    if !CloseCode::from(number).is_allowed() {
        return Err(Close::Protocol);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(number)),
        Err(_) => Err(Close::NotUtf8),
    }
}
