//! Who somebody is: accounts with a password, sessions and their tokens, and the users of the app's own issuer.
//!
//! May touch `storage` (through `store.rs`, the only file here with SQL) and `log`, through which a session ends.
//!
//! Always holds: an identity comes from a verified token alone; no password is hashed outside [`passwords`]' threads; a
//! secret that a client holds is stored as a hash only.

mod names;
pub mod passwords;
pub mod tokens;

pub use tokens::{Identity, Tokens};
