//! The contract of Bowline: what crosses the wire, and nothing else. No sockets, no SQL, no clock.
//!
//! - [`wire`]: the frames, generated from `proto/bowline.proto`, the only place where a wire name is written.
//! - [`codec`]: the two codecs, protobuf and Bowline JSON, for whole WebSocket messages.
//! - [`command`]: a client's frame after it was checked against the [`limits`], with ids of their own types.
//! - [`code`]: the numbered catalogue of errors and close codes.

pub mod code;
pub mod codec;
pub mod command;
mod ids;
mod json;
pub mod limits;

pub use code::{Close, Code, Failure};
pub use codec::Codec;
pub use ids::{ClientId, CommentId, Epoch, LogId, PostId, Seq, SessionId, UserId};

/// The frames as they cross the wire. `bytes` fields are UUIDs; see the conventions at the head of the schema.
pub mod wire {
    #![allow(clippy::unwrap_used, unused_qualifications)]
    include!(concat!(env!("OUT_DIR"), "/bowline.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/json.rs"));
}
