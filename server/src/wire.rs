//! Sockets: shards own them, read and write WebSocket frames, and move cursors over the tails of the logs they follow.
//!
//! A shard is one OS thread with its own readiness loop. It knows frames and places in logs, not what is in them: what a
//! socket is for is an [`Application`] that it calls. There is no task, no channel, no timer and no message queue a socket.
//!
//! A topic of the contract is here a log that is in no store: found by name (`named`), on the same path otherwise. A cursor
//! that finds nothing in memory goes on with what is there, where one of a stored log reads a page.
//!
//! May touch `tail`. Must always hold:
//! - A socket that can take no more costs its slot and the one frame that was cut, nothing else.
//! - A message of a shared log is written whole before anything else goes to that socket.
//! - Nothing in a shard waits: not for a socket, a lock that is held long, or a read.

mod application;
mod catchup;
mod close;
mod config;
mod drain;
mod fanout;
mod fetch;
mod follow;
mod followers;
mod frame;
mod handle;
mod inbox;
mod index;
mod input;
mod io;
mod mask;
mod metrics;
mod named;
mod read;
mod registry;
mod round;
mod shard;
mod signals;
mod slab;
mod slot;
mod sweep;
mod utf8;
mod write;

pub use application::Application;
pub use config::Config;
pub use handle::{Refused, Shards};
pub use inbox::Address;
pub use io::{Follow, Io};
