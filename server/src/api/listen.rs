//! The socket that connections come in by.

use std::io;
use std::net::TcpListener;

use socket2::{Domain, Protocol, Socket, Type};

use super::Config;

/// Where the kernel says how long it lets a queue of connections be.
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// Binds and listens: from here on connections queue, and are served once [`super::serve`] runs.
pub fn listen(config: &Config) -> io::Result<TcpListener> {
    let address = config.listen;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is started again takes its port at once, although connections of the one before are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    warn_of_less(config.backlog);
    Ok(socket.into())
}

/// What does not fit into the queue is dropped by the kernel without a word, and the client tries again after a second.
fn warn_of_less(backlog: u32) {
    let allowed = std::fs::read_to_string(SOMAXCONN).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(allowed) = allowed.filter(|allowed| *allowed < backlog) {
        tracing::warn!(backlog, allowed, "http.backlog is above net.core.somaxconn, which counts");
    }
}
