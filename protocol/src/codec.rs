//! Both codecs, for whole WebSocket messages of 1..n frames.

use bytes::{BufMut, BytesMut};
use prost::Message as _;

use crate::wire::{ClientFrame, ClientFrames, ServerFrame, ServerFrames};
use crate::{Code, Failure};

/// How frames are written on a connection; chosen by the WebSocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `bowline.v1.proto`: binary messages, frames join by concatenation.
    Proto,
    /// `bowline.v1.json`: text messages, one frame a line.
    Json,
}

impl Codec {
    pub const ALL: [Codec; 2] = [Codec::Proto, Codec::Json];

    /// The name in `Sec-WebSocket-Protocol`.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Codec::Proto => "bowline.v1.proto",
            Codec::Json => "bowline.v1.json",
        }
    }

    /// The first of the peer's choices that we speak.
    pub fn negotiate(header: &str) -> Option<Codec> {
        header.split(',').find_map(|name| Codec::ALL.into_iter().find(|c| c.subprotocol() == name.trim()))
    }

    /// Adds one frame to a message; messages made of any frames in a row are valid.
    pub fn write(self, frame: &ServerFrame, out: &mut BytesMut) {
        match self {
            Codec::Proto => write_proto(frame, out),
            Codec::Json => write_json(frame, out),
        }
    }

    pub fn write_client(self, frame: &ClientFrame, out: &mut BytesMut) {
        match self {
            Codec::Proto => write_proto(frame, out),
            Codec::Json => write_json(frame, out),
        }
    }

    /// The frames of a client's message. Each is decoded on its own, so one bad line of JSON spoils no other.
    pub fn read_client(self, message: &[u8]) -> Vec<Result<ClientFrame, Refused>> {
        match self {
            Codec::Proto => match ClientFrames::decode(message) {
                Ok(frames) => frames.frame.into_iter().map(|frame| named(frame, || None)).collect(),
                Err(error) => vec![Err(Refused::malformed(error.to_string()))],
            },
            Codec::Json => lines(message).map(|line| named(parse(line)?, || kind_of(line))).collect(),
        }
    }

    /// The frames of a server's message, as a client reads them.
    pub fn read_server(self, message: &[u8]) -> Result<Vec<ServerFrame>, Failure> {
        match self {
            Codec::Proto => match ServerFrames::decode(message) {
                Ok(frames) => Ok(frames.frame),
                Err(error) => Err(Refused::malformed(error.to_string()).failure),
            },
            Codec::Json => lines(message).map(|line| parse(line).map_err(|r| r.failure)).collect(),
        }
    }
}

/// A frame that could not be taken, with its id where that much could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub id: Option<u64>,
    pub failure: Failure,
}

impl Refused {
    fn malformed(message: String) -> Self {
        Self { id: None, failure: Failure { message: Some(message), ..Failure::new(Code::Malformed) } }
    }
}

/// Tag of `frame` in `ClientFrames` and `ServerFrames`: field 1, length-delimited.
const FRAME_TAG: u8 = 0x0a;

fn write_proto(frame: &impl prost::Message, out: &mut BytesMut) {
    let length = frame.encoded_len();
    out.reserve(1 + prost::length_delimiter_len(length) + length);
    out.put_u8(FRAME_TAG);
    if let Err(error) = frame.encode_length_delimited(out) {
        unreachable!("a growing buffer was full: {error}");
    }
}

fn write_json(frame: &impl serde::Serialize, out: &mut BytesMut) {
    if !out.is_empty() {
        out.put_u8(b'\n');
    }
    // The types of the contract have nothing that serde_json refuses, but ids of a wrong length; those are ours.
    if let Err(error) = serde_json::to_writer(out.writer(), frame) {
        unreachable!("a frame of the contract did not become JSON: {error}");
    }
}

fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

fn parse<'a, T: serde::Deserialize<'a>>(line: &'a [u8]) -> Result<T, Refused> {
    let mut reader = serde_json::Deserializer::from_slice(line);
    let parsed =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| (field_at(error.path()), error.into_inner()));
    let whole = parsed.and_then(|value| reader.end().map(|()| value).map_err(|error| (None, error)));
    whole.map_err(|(field, error)| {
        let code = if error.is_data() { Code::Invalid } else { Code::Malformed };
        let failure = Failure { message: Some(error.to_string()), field, ..Failure::new(code) };
        Refused { id: id_of(line), failure }
    })
}

/// The field that was being read, as far as its name is known.
fn field_at(path: &serde_path_to_error::Path) -> Option<String> {
    let path = path.to_string();
    let known = path.strip_suffix('?').unwrap_or(&path).trim_end_matches('.');
    Some(short(known)).filter(|known| !known.is_empty())
}

/// What a refusal repeats of a peer's own words: names of ours are shorter, and nobody is to be sent a mirror.
fn short(name: &str) -> String {
    const BYTES: usize = 64;
    name[..name.floor_char_boundary(BYTES)].to_owned()
}

/// The id of a line whose rest can't be taken, so that the refusal reaches its command.
fn id_of(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: Option<u64>,
    }
    serde_json::from_slice::<Id>(line).ok()?.id
}

/// A command without a kind has one that this server does not know.
fn named(frame: ClientFrame, name: impl FnOnce() -> Option<String>) -> Result<ClientFrame, Refused> {
    if frame.kind.is_some() {
        return Ok(frame);
    }
    let failure = Failure { field: name(), ..Failure::new(Code::UnknownCommand) };
    Err(Refused { id: Some(frame.id), failure })
}

/// The first key of a line that is not the id.
fn kind_of(line: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    object.keys().find(|key| *key != "id").map(|key| short(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ping, Send, client_frame::Kind};

    fn refused(line: &str) -> Refused {
        Codec::Json.read_client(line.as_bytes()).remove(0).expect_err("must be refused")
    }

    #[test]
    fn an_error_names_the_field() {
        let r = refused(r#"{"id":7,"send":{"log_id":"nonsense"}}"#);
        assert_eq!((r.id, r.failure.code, r.failure.field.as_deref()), (Some(7), Code::Invalid, Some("send.log_id")));
        let r = refused(r#"{"id":7,"send":{"body":5}}"#);
        assert_eq!(r.failure.field.as_deref(), Some("send.body"));
        let r = refused(r#"{"id":9007199254740992,"ping":{}}"#);
        assert_eq!((r.failure.code, r.failure.field.as_deref()), (Code::Invalid, Some("id")));
    }

    #[test]
    fn an_unknown_command_is_named_and_spoils_no_neighbour() {
        let message = b"{\"id\":1,\"fly\":{}}\n{\"id\":2,\"ping\":{}}";
        let frames = Codec::Json.read_client(message);
        let r = frames[0].clone().expect_err("no such command");
        assert_eq!((r.id, r.failure.code, r.failure.field.as_deref()), (Some(1), Code::UnknownCommand, Some("fly")));
        assert_eq!(frames[1], Ok(ClientFrame { id: 2, kind: Some(Kind::Ping(Ping {})) }));
    }

    #[test]
    fn broken_json_and_two_kinds_are_refused() {
        assert_eq!(refused(r#"{"id":1,"ping":"#).failure.code, Code::Malformed);
        assert_eq!(refused(r#"{"id":1,"ping":{}} x"#).failure.code, Code::Malformed);
        assert_eq!(refused(r#"{"id":1,"ping":{},"resume":{}}"#).failure.code, Code::Invalid);
        assert_eq!(refused("[]").failure.code, Code::Invalid);
    }

    #[test]
    fn both_codecs_join_frames_and_read_them_back() {
        let frames = [
            ClientFrame { id: 1, kind: Some(Kind::Ping(Ping {})) },
            ClientFrame {
                id: 2,
                kind: Some(Kind::Send(Send {
                    log_id: vec![7; 16],
                    client_id: vec![9; 16],
                    body: "grüße\n".into(),
                    attrs: Some(r#"{"a":[1]}"#.into()),
                    ..Default::default()
                })),
            },
        ];
        for codec in Codec::ALL {
            let mut message = BytesMut::new();
            for frame in &frames {
                codec.write_client(frame, &mut message);
            }
            let back: Vec<_> = codec.read_client(&message).into_iter().map(|r| r.expect("valid")).collect();
            assert_eq!(back, frames, "{codec:?}");
        }
    }
}
