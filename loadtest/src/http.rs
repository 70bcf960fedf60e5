//! HTTP/1.1 to one server over a bounded number of connections that stay open: a request costs a few microseconds on this side,
//! and none waits longer than its server takes, as long as a connection is free.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bowline_client::protocol::wire;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::raw::Target;

/// The connections to one server.
pub(crate) struct Http {
    target: Target,
    /// One a request under way; who finds none waits.
    places: Semaphore,
    /// Held to take or give back one.
    idle: Mutex<Vec<(TcpStream, Instant)>>,
}

/// What is asked. Paths and tokens are of plain letters.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) body: Option<Value>,
}

/// What the server answered.
pub(crate) struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// An answer that is no success: by the catalogue's name, or what was there instead.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) retry_after_ms: Option<u64>,
}

/// A server closes what was quiet for 5 s.
const FRESH: Duration = Duration::from_secs(3);
const HEAD_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 8 << 20;

impl Http {
    pub(crate) async fn new(url: &str, connections: usize) -> anyhow::Result<Self> {
        let target = Target::resolve(url).await?;
        Ok(Self { target, places: Semaphore::new(connections), idle: Mutex::default() })
    }

    /// Asked again on another connection where one that was kept turns out to be closed: what changes something carries a
    /// `client_id`.
    pub(crate) async fn ask(&self, request: &Request<'_>) -> anyhow::Result<Answer> {
        let _place = self.places.acquire().await?;
        if let Some(mut stream) = self.kept()
            && let Ok(answer) = self.ask_on(&mut stream, request).await
        {
            self.keep(stream);
            return Ok(answer);
        }
        let mut stream = TcpStream::connect(self.target.address()).await?;
        stream.set_nodelay(true)?;
        let answer = self.ask_on(&mut stream, request).await?;
        self.keep(stream);
        Ok(answer)
    }

    fn kept(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().filter(|(_, since)| since.elapsed() < FRESH).map(|(stream, _)| stream)
    }

    fn keep(&self, stream: TcpStream) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((stream, Instant::now()));
    }

    async fn ask_on(&self, stream: &mut TcpStream, request: &Request<'_>) -> anyhow::Result<Answer> {
        let Request { method, path, token, body } = request;
        let authority = self.target.authority();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n");
        if let Some(body) = body {
            let body = body.to_string();
            // Writing to a String does not fail.
            let _ = write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            text.push_str("\r\n");
        }
        stream.write_all(text.as_bytes()).await?;
        read(stream).await
    }
}

impl Answer {
    /// What it holds, or why not.
    pub(crate) fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Refused> {
        if !(200..300).contains(&self.status) {
            return Err(refusal(self.status, &self.body));
        }
        serde_json::from_slice(&self.body).map_err(|error| Refused::because(format!("not understood: {error}")))
    }
}

impl Refused {
    pub(crate) fn because(name: impl Into<String>) -> Self {
        Self { name: name.into(), retry_after_ms: None }
    }
}

impl From<wire::Error> for Refused {
    fn from(error: wire::Error) -> Self {
        Self { name: error.name, retry_after_ms: error.retry_after_ms }
    }
}

fn refusal(status: u16, body: &[u8]) -> Refused {
    #[derive(Deserialize)]
    struct Body {
        error: wire::Error,
    }
    let ours = serde_json::from_slice::<Body>(body).ok();
    ours.map_or_else(|| Refused::because(format!("HTTP {status}")), |body| body.error.into())
}

async fn read(stream: &mut TcpStream) -> anyhow::Result<Answer> {
    let mut bytes = Vec::with_capacity(4 * 1024);
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(bytes.len() < HEAD_BYTES, "the head of an answer is too long");
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection ended before the answer");
    };
    let (status, length) = head(&bytes[..head_end])?;
    ensure!(length <= BODY_BYTES, "an answer of {length} bytes");
    let mut body = bytes.split_off(head_end);
    body.reserve(length.saturating_sub(body.len()));
    while body.len() < length {
        ensure!(stream.read_buf(&mut body).await? > 0, "the connection ended within the answer");
    }
    Ok(Answer { status, body })
}

/// Status and length of the body.
fn head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 = status.context("not an answer of HTTP/1.1")?;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().context("content-length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("an answer in chunks");
        }
    }
    Ok((status, length.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_others_refused() {
        let read = |text: &str| head(text.as_bytes()).ok();
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-length:  12\r\n\r\n"), Some((200, 12)));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, 0)));
        for wrong in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "x", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_has_the_catalogues_name_whoever_answers() {
        let answer = |status, body: &str| Answer { status, body: body.as_bytes().to_vec() }.read::<Value>();
        let body = r#"{"error":{"code":401,"name":"overloaded","message":"full","retry_after_ms":900}}"#;
        let refused = answer(503, body).expect_err("a refusal");
        assert_eq!((refused.name.as_str(), refused.retry_after_ms), ("overloaded", Some(900)));
        assert_eq!(answer(502, "<html>").expect_err("a refusal").name, "HTTP 502");
        assert!(answer(200, "<html>").is_err() && answer(201, "{}").is_ok());
    }
}
