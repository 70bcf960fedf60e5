use std::io;

use bowline_protocol::{Code, Failure, wire};

/// Why a command did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// Not answered within the command's time. A durable command may be stored all the same.
    #[error("not answered in time")]
    TimedOut,
    /// The connection ended before the answer. It may have been published all the same, and is not published again.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// As many commands as this client keeps are waiting already; nothing was sent.
    #[error("too many commands are waiting")]
    Busy,
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
    /// The server answered with something else than this command's reply.
    #[error("an answer of another kind")]
    Unexpected,
    /// The outbox could not keep it; nothing was sent.
    #[error("the outbox: {0}")]
    Outbox(io::Error),
    /// The request over HTTP failed.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// Not an address of a Bowline server.
    #[error("not a usable address: {0}")]
    Url(String),
}

/// An error of the wire. A number that this client does not know keeps the meaning of its hundred.
pub(crate) fn failure(error: wire::Error) -> Failure {
    let known = Code::ALL.iter().copied().find(|code| *code as u32 == error.code);
    let code = known.unwrap_or(match error.code {
        200..=299 => Code::Unauthenticated,
        300..=399 => Code::Forbidden,
        400..=599 => Code::Unavailable,
        _ => Code::Invalid,
    });
    Failure {
        code,
        message: Some(error.message).filter(|m| !m.is_empty()),
        field: error.field,
        limit: error.limit,
        retry_after_ms: error.retry_after_ms,
        version: error.version,
    }
}
