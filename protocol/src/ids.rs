//! Ids and positions, each a type of its own, so that one can't be given for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids made later sort later.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// From a wire field: exactly 16 bytes.
            pub fn from_wire(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            pub fn to_wire(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A log: a conversation's, a user's own, later a topic's. A user's log has the id of the user.
    LogId
);
id!(
    /// A person or a bot. Comes from the token alone, never from a frame.
    UserId
);
id!(
    /// What a client gives a durable command, so that sending it twice is sending it once.
    ClientId
);
id!(
    /// One login, from which access tokens are made until it is revoked.
    SessionId
);

id!(
    /// A post. Made by the server; ids made later sort later.
    PostId
);
id!(
    /// A comment on a post.
    CommentId
);

impl UserId {
    /// The log of what concerns this user alone.
    pub fn log(self) -> LogId {
        LogId(self.0)
    }
}

/// A place in a log, counted from 1; 0 is before the first entry.
pub type Seq = u64;

/// Which history of the database a position belongs to; raised after a restore.
pub type Epoch = u64;
