//! The files of `protocol/vectors`, and how they are written anew.

use std::path::PathBuf;
use std::{env, fs};

use bowline_protocol::Codec;
use bowline_protocol::wire::{ClientFrame, ServerFrame};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};

/// A message that both codecs read and write exactly so.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Valid {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) json: String,
    pub(crate) proto: String,
}

/// A message that is read, though no implementation writes it so. `reads` are its frames in Bowline JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tolerated {
    pub(crate) name: String,
    pub(crate) from: Side,
    pub(crate) codec: Format,
    pub(crate) message: String,
    pub(crate) reads: Vec<String>,
}

/// A message with at least one frame that is refused, and what becomes of each frame.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) from: Side,
    pub(crate) codec: Format,
    pub(crate) message: String,
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Outcome {
    Reads { reads: String },
    Refused { id: Option<u64>, code: String, field: Option<String> },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    Proto,
}

impl Format {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Format::Json => Codec::Json,
            Format::Proto => Codec::Proto,
        }
    }

    /// The bytes of a vector's message: hex for protobuf, and for JSON after `hex:`, where it is no text.
    pub(crate) fn bytes(self, message: &str) -> Vec<u8> {
        match (self, message.strip_prefix("hex:")) {
            (Format::Json, None) => message.as_bytes().to_vec(),
            (Format::Json, Some(hex)) => from_hex(hex),
            (Format::Proto, _) => from_hex(message),
        }
    }
}

impl Side {
    pub(crate) fn file(self) -> &'static str {
        match self {
            Side::Client => "client.json",
            Side::Server => "server.json",
        }
    }

    pub(crate) fn valid(self) -> Vec<Valid> {
        read(self.file())
    }
}

pub(crate) fn tolerated() -> Vec<Tolerated> {
    read("tolerated.json")
}

pub(crate) fn refused() -> Vec<Refused> {
    read("refused.json")
}

/// Whether files that can be made from others are to be written instead of compared.
pub(crate) fn bless() -> bool {
    env::var_os("BOWLINE_BLESS").is_some()
}

/// A file of the repository, named from its root.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn write_valid(side: Side, vectors: &[Valid]) {
    let path = in_repository("protocol/vectors").join(side.file());
    let mut text = serde_json::to_string_pretty(vectors).unwrap();
    text.push('\n');
    fs::write(path, text).unwrap();
}

fn read<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let path = in_repository("protocol/vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Frames of one side, so that each check is written once.
pub(crate) trait Frame: Sized + PartialEq + std::fmt::Debug + Serialize {
    const SIDE: Side;
    fn read(codec: Codec, message: &[u8]) -> Result<Vec<Self>, String>;
    fn write(&self, codec: Codec, out: &mut BytesMut);
}

impl Frame for ClientFrame {
    const SIDE: Side = Side::Client;

    fn read(codec: Codec, message: &[u8]) -> Result<Vec<Self>, String> {
        codec.read_client(message).into_iter().map(|r| r.map_err(|r| format!("{:?}", r.failure))).collect()
    }

    fn write(&self, codec: Codec, out: &mut BytesMut) {
        codec.write_client(self, out);
    }
}

impl Frame for ServerFrame {
    const SIDE: Side = Side::Server;

    fn read(codec: Codec, message: &[u8]) -> Result<Vec<Self>, String> {
        codec.read_server(message).map_err(|f| format!("{f:?}"))
    }

    fn write(&self, codec: Codec, out: &mut BytesMut) {
        codec.write(self, out);
    }
}

pub(crate) fn message<F: Frame>(codec: Codec, frames: &[F]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| frame.write(codec, &mut out));
    out.to_vec()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte: {text}");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
