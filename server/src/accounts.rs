//! Who somebody is.

pub mod names;
pub mod passwords;

use bowline_protocol::{SessionId, UserId};
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub user: UserId,
    pub session: SessionId,
    pub expires_at_ms: i64,
    pub issued_at_ms: i64,
}
