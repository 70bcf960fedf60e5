//! The Rust client of Bowline: one socket that stays up, and what a person sees on it exactly once and in order.
//!
//! - [`Client`] is the handle: commands as async methods. [`Events`] is what happens, in order.
//! - [`state`]: where this client stands in each log, and what a push means there. Pure.
//! - [`view`]: a conversation folded to its messages as they are. Pure.
//! - [`lanes`]: the sends that wait, one in flight a log. Pure.
//! - [`outbox`]: where a send is kept until it is answered, so that it survives the process.
//! - [`connection`]: the only part that touches a socket or a clock.
//! - [`accounts`] and [`token`]: who this client is, over HTTP.
//!
//! What always holds: an entry is given out once, in the order of its log, from the position on where the client began,
//! over any number of connections; what breaks that is an event of its own ([`Event::Gap`], [`Event::Trimmed`],
//! [`Event::Reset`]). A message that [`Client::send`] has taken is sent until the server has stored or refused it. Topics
//! promise less: what is published comes at most once, and what was missed is counted ([`Event::Published`]) or lies
//! between two connections ([`Event::Subscribed`]).

pub mod accounts;
pub mod backoff;
mod client;
mod connection;
mod error;
pub mod event;
pub mod lanes;
pub mod outbox;
mod social;
pub mod state;
pub mod token;
pub mod view;

pub use bowline_protocol as protocol;
pub use client::{Client, Config, Draft, Events, NewConversation, Sending};
pub use error::Error;
pub use event::{Event, Why};
pub use social::{NewPost, ProfileChange};
pub use state::{Cursor, Start};
pub use token::{TokenError, TokenSource};
