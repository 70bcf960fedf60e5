//! A peer that is spoken to in bytes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bowline_protocol::UserId;

use super::node::Node;

/// A connection of this user's that has just been upgraded, with `behind` in the same write as its request.
pub fn raw(node: &Node, user: UserId, behind: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let request = format!("GET /{user} HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    stream.write_all(&[request.as_bytes(), behind].concat()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    stream
}

/// A masked frame whose mask is nought.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        n @ 0..=125 => vec![0x80 | n as u8],
        n @ 126..=0xffff => [&[0x80 | 126], &(n as u16).to_be_bytes()[..]].concat(),
        n => [&[0x80 | 127], &(n as u64).to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], &[0; 4], payload].concat()
}
