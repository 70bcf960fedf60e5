//! The numbered catalogue: one list of codes for WebSocket, HTTP and gRPC, and the close codes.

use std::fmt;

use crate::wire;

macro_rules! catalogue {
    ($( $number:literal $name:ident $wire:literal $http:literal $grpc:literal $retry:ident $text:literal )*) => {
        /// Why a command was refused. The number and name never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( #[doc = $text] $name = $number, )* }

        impl Code {
            pub const ALL: &'static [Code] = &[$( Code::$name, )*];

            pub fn name(self) -> &'static str {
                match self { $( Code::$name => $wire, )* }
            }

            pub fn http_status(self) -> u16 {
                match self { $( Code::$name => $http, )* }
            }

            /// The number of the gRPC status.
            pub fn grpc_status(self) -> u8 {
                match self { $( Code::$name => $grpc, )* }
            }

            pub fn retry(self) -> Retry {
                match self { $( Code::$name => Retry::$retry, )* }
            }

            /// What it means, for people.
            pub fn text(self) -> &'static str {
                match self { $( Code::$name => $text, )* }
            }
        }
    };
}

/// What a client does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same command will fail again.
    Never,
    /// Nothing was stored: send it again after `retry_after_ms`.
    Later,
    /// It may or may not be stored: send it again with the same client_id.
    SameId,
    /// Get a new access token first.
    Refresh,
}

catalogue! {
    100 Malformed "malformed" 400 3 Never "the frame can't be decoded"
    101 UnknownCommand "unknown_command" 400 12 Never "no command of this name"
    102 Invalid "invalid" 400 3 Never "a field has a value that is not allowed"
    103 TooLarge "too_large" 413 3 Never "a field or frame is over its limit"
    104 OutOfOrder "out_of_order" 400 9 Never "not allowed in this state of the connection"
    200 Unauthenticated "unauthenticated" 401 16 Refresh "no valid access token"
    201 TokenExpired "token_expired" 401 16 Refresh "the access token has expired"
    202 Revoked "revoked" 401 16 Never "this session was ended"
    203 BadCredentials "bad_credentials" 401 16 Never "the name or the password is wrong"
    300 NotFound "not_found" 404 5 Never "there is no such thing, or it is not for this user"
    301 Forbidden "forbidden" 403 7 Never "this user may not do that"
    302 TargetGone "target_gone" 410 9 Never "the message was deleted"
    303 TooLate "too_late" 409 9 Never "the time for this has passed"
    304 Conflict "conflict" 409 10 Never "it was changed meanwhile; the current version is given"
    305 IdReused "id_reused" 409 6 Never "this client_id was used for something else"
    306 NameTaken "name_taken" 409 6 Never "this name is in use"
    307 CursorExpired "cursor_expired" 410 9 Never "what the cursor goes through is no longer kept: begin anew without one"
    400 RateLimited "rate_limited" 429 8 Later "too many commands; try again later"
    401 Overloaded "overloaded" 503 8 Later "the server is full; nothing was stored"
    402 Unavailable "unavailable" 503 14 Later "a part that is needed is away; nothing was stored"
    403 OutcomeUnknown "outcome_unknown" 503 14 SameId "it may be stored: send it again with the same client_id"
    404 DeadlineExceeded "deadline_exceeded" 504 4 Later "it took too long; nothing was stored"
    405 EpochChanged "epoch_changed" 503 14 Later "the database was restored; reconnect and resume"
    500 Internal "internal" 500 13 Later "a fault of the server"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a server ended a connection. Three ranges tell a client what to do, whatever the number:
/// 4000–4099 reconnect and resume; 4100–4199 get a new token first; 4200–4299 do not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Close {
    /// RFC 6455: the peer broke the framing.
    Protocol = 1002,
    /// RFC 6455: a text frame that is not UTF-8.
    NotUtf8 = 1007,
    /// RFC 6455: a message over the announced limit.
    TooBig = 1009,
    /// The server goes away; another one is there.
    Drain = 4000,
    /// Nothing came from the peer, or nothing was taken by it, for too long.
    Stalled = 4001,
    /// The server can't take this connection now.
    Overloaded = 4002,
    /// The database has a new epoch.
    EpochChanged = 4003,
    /// A fault of the server.
    Internal = 4004,
    /// No `connect` in time, or cursors were named and no last `resume` came.
    ConnectTimeout = 4005,
    /// The client went on sending although it was told that it sends too much.
    RateLimited = 4006,
    /// The access token is missing, wrong or expired.
    Unauthenticated = 4100,
    /// The access token expired while connected.
    TokenExpired = 4101,
    /// The session was revoked, or the account closed.
    Revoked = 4200,
    /// The peer does not speak this protocol.
    Unsupported = 4201,
}

/// What a client does after a close, by the range of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    Resume,
    RefreshFirst,
    StayAway,
}

impl Close {
    pub fn number(self) -> u16 {
        self as u16
    }

    pub fn reason(self) -> &'static str {
        match self {
            Close::Protocol => "protocol error",
            Close::NotUtf8 => "not UTF-8",
            Close::TooBig => "message too big",
            Close::Drain => "draining",
            Close::Stalled => "stalled",
            Close::Overloaded => "overloaded; retry_after_ms=1000",
            Close::EpochChanged => "epoch changed",
            Close::Internal => "internal error",
            Close::ConnectTimeout => "no connect or resume in time",
            Close::RateLimited => "too many commands; retry_after_ms=5000",
            Close::Unauthenticated => "unauthenticated",
            Close::TokenExpired => "token expired",
            Close::Revoked => "revoked",
            Close::Unsupported => "unsupported",
        }
    }

    /// How long to stay away at least, where the reason of a close says it: it ends in `retry_after_ms=` and a number.
    pub fn retry_after_ms(reason: &str) -> Option<u64> {
        reason.rsplit_once("retry_after_ms=")?.1.parse().ok()
    }

    /// Codes that are not ours mean a broken connection: resume.
    pub fn after(number: u16) -> AfterClose {
        match number {
            4100..=4199 => AfterClose::RefreshFirst,
            4200..=4299 => AfterClose::StayAway,
            _ => AfterClose::Resume,
        }
    }
}

/// A refusal with what a client needs to mend it. Nothing from inside (SQL, paths, hosts) is ever put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// A sentence of its own where the catalogue's is not enough.
    pub message: Option<String>,
    pub field: Option<String>,
    pub limit: Option<u64>,
    pub retry_after_ms: Option<u64>,
    pub version: Option<u64>,
}

impl Failure {
    pub fn new(code: Code) -> Self {
        Self { code, message: None, field: None, limit: None, retry_after_ms: None, version: None }
    }

    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), message: Some(message.into()), ..Self::new(Code::Invalid) }
    }

    pub fn too_large(field: impl Into<String>, limit: u64) -> Self {
        Self { field: Some(field.into()), limit: Some(limit), ..Self::new(Code::TooLarge) }
    }

    pub fn retry_after(code: Code, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..Self::new(code) }
    }

    pub fn to_wire(&self) -> wire::Error {
        wire::Error {
            code: self.code as u32,
            name: self.code.name().to_owned(),
            message: self.message.clone().unwrap_or_else(|| self.code.text().to_owned()),
            field: self.field.clone(),
            limit: self.limit,
            retry_after_ms: self.retry_after_ms,
            version: self.version,
        }
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(field) = &self.field {
            write!(f, " ({field})")?;
        }
        write!(f, ": {}", self.message.as_deref().unwrap_or(self.code.text()))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (i, a) in Code::ALL.iter().enumerate() {
            for b in &Code::ALL[i + 1..] {
                assert_ne!(*a as u32, *b as u32);
                assert_ne!(a.name(), b.name());
            }
        }
    }

    #[test]
    fn close_ranges_tell_what_to_do() {
        assert_eq!(Close::after(Close::Drain.number()), AfterClose::Resume);
        assert_eq!(Close::after(1006), AfterClose::Resume);
        assert_eq!(Close::after(Close::TokenExpired.number()), AfterClose::RefreshFirst);
        assert_eq!(Close::after(Close::Revoked.number()), AfterClose::StayAway);
    }

    #[test]
    fn a_reason_may_say_how_long_to_stay_away() {
        for (reason, expected) in [
            (Close::Overloaded.reason(), Some(1_000)),
            (Close::RateLimited.reason(), Some(5_000)),
            (Close::Stalled.reason(), None),
            ("retry_after_ms=soon", None),
            ("", None),
        ] {
            assert_eq!(Close::retry_after_ms(reason), expected, "{reason}");
        }
    }
}
