//! The smallest handshake that a WebSocket client takes, for what is tested below HTTP.
#![allow(dead_code)]

use std::io::{Error, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use tungstenite::handshake::derive_accept_key;

/// An upgrade request that was answered.
pub(crate) struct Upgraded {
    pub path: String,
    pub protocol: Option<String>,
    /// What came behind the request.
    pub read: Bytes,
}

/// Answers the upgrade request on a fresh connection.
pub(crate) fn accept(stream: &mut TcpStream) -> Result<Upgraded, Error> {
    const MAX_REQUEST_BYTES: usize = 8 << 10;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        let n = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..n]);
        if let Some(at) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if n == 0 || request.len() > MAX_REQUEST_BYTES {
            return Err(Error::other("no whole request"));
        }
    };
    let text = String::from_utf8_lossy(&request[..end]).into_owned();
    let header = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let key = header("sec-websocket-key").ok_or_else(|| Error::other("no key"))?;
    let protocol = header("sec-websocket-protocol").map(str::to_owned);
    let chosen = protocol.as_ref().map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{}\r\n",
        derive_accept_key(key.as_bytes()),
        chosen.unwrap_or_default(),
    );
    stream.write_all(response.as_bytes())?;
    let path = text.split_whitespace().nth(1).unwrap_or("/").to_owned();
    Ok(Upgraded { path, protocol, read: Bytes::from(request.split_off(end)) })
}
