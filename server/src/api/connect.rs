//! The handshake of the WebSocket. Once answered, the TCP socket leaves HTTP for good.

use std::net::{IpAddr, TcpStream};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bowline_protocol::{Code, Codec, Failure};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tungstenite::handshake::derive_accept_key;

use super::Api;
use super::client::{Address, bearer};
use super::refusal::Refusal;
use crate::accounts::Identity;
use crate::deadline::Deadline;

const RETRY_AFTER_MS: u64 = 1_000;
/// Those who are turned away in the same moment are asked to come back spread over this.
const SPREAD_MS: u64 = 4_000;

/// Takes the sockets that became WebSockets.
pub type Adopt = Box<dyn Fn(Socket) + Send + Sync>;

/// A TCP socket after the handshake, non-blocking and without delay.
#[derive(Debug)]
pub struct Socket {
    pub stream: TcpStream,
    /// What the client sent right behind its request: the first bytes of its frames. No readiness event follows for them.
    pub read_buf: Bytes,
    pub codec: Codec,
    /// Of the token in the Authorization header, if there was one. Verified; revocation is still to be checked.
    pub identity: Option<Identity>,
    /// Of the client, as far as the proxies in front tell it.
    pub address: IpAddr,
    /// To be kept as long as the socket is open.
    pub place: Place,
}

/// One of the WebSockets that a server may have; free for another one when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Answers 101 and gives the socket to [`Adopt`] when that answer was written.
pub(super) async fn connect(
    State(api): State<Api>,
    Extension(Address(address)): Extension<Address>,
    Extension(deadline): Extension<Deadline>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let key = check_upgrade(headers)?;
    check_page(&api, &request)?;
    let (codec, chosen) = choose_codec(headers)?;
    let place = admit(&api, address)?;
    let identity = bearer(headers)?.map(|token| api.inner.accounts.verify(token)).transpose()?;

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if let Some(chosen) = chosen {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Some((stream, read_buf)) = give_up(upgrade, deadline).await else { return };
        (api.inner.adopt)(Socket { stream, read_buf, codec, identity, address, place });
    });
    Ok(response)
}

/// A place, if the server takes sockets, takes them this fast, and has one left.
fn admit(api: &Api, address: IpAddr) -> Result<Place, Failure> {
    if api.draining() {
        return Err(Failure::retry_after(Code::Unavailable, RETRY_AFTER_MS));
    }
    api.inner.connects_per_address.take(Address(address).into()).map_err(spread)?;
    let slower = |failure: Failure| Failure { code: Code::Overloaded, ..spread(failure) };
    api.inner.connects.take(()).map_err(slower)?;
    let permit = api.inner.sockets.clone().try_acquire_owned();
    Ok(Place { _permit: permit.map_err(|_| spread(Failure::retry_after(Code::Overloaded, RETRY_AFTER_MS)))? })
}

fn spread(failure: Failure) -> Failure {
    let retry_after_ms = failure.retry_after_ms.map(|ms| ms + rand::random_range(0..SPREAD_MS));
    Failure { retry_after_ms, ..failure }
}

/// The socket and what was read of it beyond the request, once the answer is out; none if the client went away first.
async fn give_up(upgrade: OnUpgrade, deadline: Deadline) -> Option<(TcpStream, Bytes)> {
    let upgraded = tokio::time::timeout_at(deadline.instant().into(), upgrade).await.ok()?.ok()?;
    let Ok(parts) = upgraded.downcast::<TokioIo<tokio::net::TcpStream>>() else {
        tracing::error!("a WebSocket came from another transport than TCP");
        return None;
    };
    match parts.io.into_inner().into_std() {
        // What hyper read stands in its buffer of many KiB: only a copy lets that go.
        Ok(stream) => Some((stream, Bytes::copy_from_slice(&parts.read_buf))),
        Err(error) => {
            tracing::warn!(%error, "a socket could not leave its reactor");
            None
        }
    }
}

/// RFC 6455, 4.2.1; the value of `Sec-WebSocket-Accept`.
fn check_upgrade(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let has = |name: HeaderName, wanted: &str| {
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    if !has(header::UPGRADE, "websocket") {
        return Err(Refusal::no_upgrade("upgrade", "this is a WebSocket endpoint"));
    }
    if !has(header::CONNECTION, "upgrade") {
        return Err(Failure::invalid("connection", "must name `upgrade`").into());
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::no_upgrade("sec-websocket-version", "must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if !BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Failure::invalid("sec-websocket-key", "must be 16 bytes in base64").into());
    }
    HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| Code::Internal.into())
}

fn check_page(api: &Api, request: &Request) -> Result<(), Failure> {
    if !api.inner.origins.allow(request.headers()) {
        return Err(Failure {
            field: Some("origin".to_owned()),
            message: Some("pages of this origin may not connect".to_owned()),
            ..Failure::new(Code::Forbidden)
        });
    }
    // Addresses end up in logs and histories.
    let query = request.uri().query().unwrap_or_default();
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    match names.into_iter().find(|name| name.to_ascii_lowercase().contains("token")) {
        Some(name) => Err(Failure::invalid(name, "a token never stands in the URL: send it in the `connect` frame")),
        None => Ok(()),
    }
}

/// The codec, and the subprotocol to answer with. A client that offers none, as tools for people do, gets JSON.
fn choose_codec(headers: &HeaderMap) -> Result<(Codec, Option<&'static str>), Failure> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered = lines.filter_map(|line| line.to_str().ok()).collect::<Vec<_>>().join(",");
    if offered.is_empty() {
        return Ok((Codec::Json, None));
    }
    match Codec::negotiate(&offered) {
        Some(codec) => Ok((codec, Some(codec.subprotocol()))),
        None => {
            let spoken = Codec::ALL.map(Codec::subprotocol).join(" or ");
            Err(Failure::invalid("sec-websocket-protocol", format!("must offer {spoken}, or nothing for JSON")))
        }
    }
}
