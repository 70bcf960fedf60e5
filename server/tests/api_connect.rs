//! The WebSocket's handshake and the bounds of HTTP connections, over real sockets.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "api_support/fixture.rs"]
mod fixture;

use std::net::Ipv4Addr;
use std::time::Duration;

use bowline::api::{self, Socket};
use bowline::limits::Rate;
use bowline_protocol::{Codec, SessionId, UserId};
use fixture::{PASSWORD, Server, roomy};
use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Of the key above, from RFC 6455.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The headers of a good handshake, and changes to them; an empty value leaves one out.
fn handshake(path: &str, changes: &[(&str, &str)]) -> String {
    let mut headers = vec![
        ("host", "chat.example"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    headers.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    headers.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\n{lines}\r\n")
}

impl Server {
    /// Sends bytes on a connection of their own; the head of the answer, its body, and the connection.
    async fn raw(&self, bytes: &[u8]) -> (String, Value, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "closed without an answer");
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        while read.len() < end + length.unwrap_or(0) {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "closed in the middle of an answer");
        }
        (head, serde_json::from_slice(&read[end..]).unwrap_or_default(), stream)
    }

    async fn adopted(&mut self) -> Socket {
        tokio::time::timeout(Duration::from_secs(30), self.sockets.recv()).await.expect("a socket is given").unwrap()
    }

    fn token(&self) -> (UserId, SessionId, String) {
        let (user, session) = (UserId::new(), SessionId::new());
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let made = self.accounts.tokens().mint(user, session, None, i64::try_from(now_ms).unwrap()).unwrap();
        (user, session, made.token.expose_secret().to_owned())
    }
}

#[tokio::test]
async fn a_websocket_client_is_handed_over_with_its_codec_and_identity() {
    let mut server = Server::start().await;
    let (user, session, token) = server.token();
    for (offered, codec) in [("bowline.v1.proto", Codec::Proto), ("other, bowline.v1.json", Codec::Json)] {
        let mut request = format!("ws://{}/v1/connect", server.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (mut client, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], codec.subprotocol());
        let socket = server.adopted().await;
        let identity = socket.identity.as_ref().unwrap();
        assert_eq!((socket.codec, identity.user, identity.session), (codec, user, session));
        assert_eq!(socket.address.to_string(), "127.0.0.1");
        assert!(socket.stream.nodelay().unwrap());

        // The socket is whole: a WebSocket of its own on this end talks with the client.
        let stream = TcpStream::from_std(socket.stream).unwrap();
        let mut own = WebSocketStream::from_partially_read(stream, socket.read_buf.to_vec(), Role::Server, None).await;
        client.send(Message::text("ahoy")).await.unwrap();
        assert_eq!(own.next().await.unwrap().unwrap(), Message::text("ahoy"));
        own.send(Message::text("ahoy yourself")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("ahoy yourself"));
    }
}

#[tokio::test]
async fn frames_sent_right_behind_the_request_are_not_lost() {
    let mut server = Server::start().await;
    // Masked with zeros: as it is.
    let frame = b"\x81\x84\0\0\0\0ahoy";
    let bytes = [handshake("/v1/connect", &[]).as_bytes(), frame].concat();
    let (head, _, _open) = server.raw(&bytes).await;
    assert!(head.starts_with("http/1.1 101 ") && head.contains(&ACCEPT.to_lowercase()), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "none was offered: {head}");
    let mut socket = server.adopted().await;
    assert_eq!((socket.codec, socket.identity), (Codec::Json, None));
    let mut got = socket.read_buf.to_vec();
    if got.len() < frame.len() {
        socket.stream.set_nonblocking(false).unwrap();
        let mut rest = vec![0; frame.len() - got.len()];
        std::io::Read::read_exact(&mut socket.stream, &mut rest).unwrap();
        got.extend(rest);
    }
    assert_eq!(got, frame);
}

#[tokio::test]
async fn a_handshake_that_is_not_right_is_refused_by_field() {
    let (accounts, mut api) = roomy();
    api.allowed_origins = vec!["https://app.example".to_owned()];
    let mut server = Server::with(accounts, api).await;
    let check = async |path: &str, changes: &[(&str, &str)], status: u16, name: &str, field: Option<&str>| {
        let (head, body, _) = server.raw(handshake(path, changes).as_bytes()).await;
        let error = &body["error"];
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{changes:?}: {head}{body}");
        assert_eq!((error["name"].as_str(), error["field"].as_str()), (Some(name), field), "{changes:?}");
        if status == 426 {
            assert!(head.contains("sec-websocket-version: 13"), "{head}");
        }
    };
    let path = "/v1/connect";
    check(path, &[("upgrade", "")], 426, "invalid", Some("upgrade")).await;
    check(path, &[("upgrade", "h2c")], 426, "invalid", Some("upgrade")).await;
    check(path, &[("connection", "close")], 400, "invalid", Some("connection")).await;
    check(path, &[("sec-websocket-version", "8")], 426, "invalid", Some("sec-websocket-version")).await;
    check(path, &[("sec-websocket-key", "")], 400, "invalid", Some("sec-websocket-key")).await;
    check(path, &[("sec-websocket-key", "c2hvcnQ=")], 400, "invalid", Some("sec-websocket-key")).await;
    let other = ("sec-websocket-protocol", "graphql-ws");
    check(path, &[other], 400, "invalid", Some("sec-websocket-protocol")).await;
    check(path, &[("origin", "https://evil.example")], 403, "forbidden", Some("origin")).await;
    check("/v1/connect?access_token=x", &[], 400, "invalid", Some("access_token")).await;
    check(path, &[("authorization", "Bearer nonsense")], 401, "unauthenticated", None).await;
    check(path, &[("authorization", "Basic YTpi")], 401, "unauthenticated", Some("authorization")).await;
    assert!(server.sockets.try_recv().is_err(), "no socket was given away");
    let (head, _, _open) = server.raw(handshake(path, &[("origin", "https://app.example")]).as_bytes()).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_full_or_draining_server_says_so() {
    let (accounts, mut api) = roomy();
    api.max_sockets = 1;
    let mut server = Server::with(accounts, api).await;
    let request = handshake("/v1/connect", &[]);
    let (_, _, _open) = server.raw(request.as_bytes()).await;
    let first = server.adopted().await;
    let (head, body, _) = server.raw(request.as_bytes()).await;
    assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after: "), "{head}");
    assert_eq!(body["error"]["name"], "overloaded");
    drop(first);
    let (head, _, _open) = server.raw(request.as_bytes()).await;
    assert!(head.starts_with("http/1.1 101 "), "the place is free again: {head}");
    server.adopted().await;
    server.api.drain();
    let (head, body, _) = server.raw(request.as_bytes()).await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body["error"]["name"], "unavailable");
}

#[tokio::test]
async fn more_that_begin_than_the_rate_allows_are_told_when_to_come_back() {
    let (accounts, api) = roomy();
    let three = Rate { burst: 3, interval_ms: 60_000 };
    let request = |from: &str| handshake("/v1/connect", &[("x-forwarded-for", from)]);
    for (what, config, status, name) in [
        ("all", api::Config { connects: three, ..api.clone() }, 503, "overloaded"),
        (
            "an address",
            api::Config { connects_per_address: three, forwarded_hops: 1, ..api.clone() },
            429,
            "rate_limited",
        ),
        // Without trust in a proxy there is one address, whatever the header says.
        ("the peer", api::Config { connects_per_address: three, ..api.clone() }, 429, "rate_limited"),
    ] {
        let server = Server::with(accounts.clone(), config).await;
        for n in 0..4 {
            let other = if what == "an address" { "192.0.2.1".to_owned() } else { format!("192.0.2.{n}") };
            let (head, body, _open) = server.raw(request(&other).as_bytes()).await;
            let expected = if n < 3 { 101 } else { status };
            assert!(head.starts_with(&format!("http/1.1 {expected} ")), "{what}, {n}: {head}");
            if n == 3 {
                assert_eq!(body["error"]["name"], name, "{what}");
                let retry_after_ms = body["error"]["retry_after_ms"].as_u64().unwrap();
                // The next is let in after a minute; those turned away come back spread over some seconds.
                assert!((59_000..64_000).contains(&retry_after_ms), "{what}: {retry_after_ms}");
                assert!(head.contains(&format!("retry-after: {}", retry_after_ms.div_ceil(1_000))), "{head}");
            }
        }
        let (head, ..) = server.raw(request("198.51.100.7").as_bytes()).await;
        let expected = if what == "an address" { 101 } else { status };
        assert!(head.starts_with(&format!("http/1.1 {expected} ")), "{what}: another address: {head}");
    }
}

#[tokio::test]
async fn the_silent_take_nobodys_turn() {
    let (accounts, api) = roomy();
    let server = Server::with(accounts, api::Config { max_speaking: 1, ..api }).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let (head, ..) = server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_lines_is_refused() {
    let server = Server::start().await;
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(20_000));
    for (what, headers) in [("many", many), ("long", long)] {
        let (head, ..) = server.raw(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
        assert!(head.starts_with("http/1.1 431 "), "{what}: {head}");
    }
}

#[tokio::test]
async fn one_that_sends_a_byte_at_a_time_is_cut_at_the_same_moment() {
    let (accounts, api) = roomy();
    let server = Server::with(accounts, api::Config { header_timeout_ms: 300, ..api }).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dripping = tokio::spawn(async move {
        let mut sent = 0;
        for byte in handshake("/v1/connect", &[("x-long", &"x".repeat(10_000))]).bytes() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    });
    let mut answer = Vec::new();
    let _ = reading.read_to_end(&mut answer).await;
    drop(reading);
    assert!(!answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    assert!(dripping.await.unwrap() < 10_000, "it was cut while it went on");
}

#[tokio::test]
async fn one_that_sends_its_headers_slowly_is_cut() {
    let (accounts, api) = roomy();
    let server = Server::with(accounts, api::Config { header_timeout_ms: 200, ..api }).await;
    for (sent, what) in [("", "nothing"), ("GET /healthz HTTP/1.1\r\nho", "half a head")] {
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{what}: {}", String::from_utf8_lossy(&rest));
    }
    let (head, _, mut idle) = server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200 "));
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0, "an idle connection is closed");
}

#[tokio::test]
async fn one_that_sends_its_body_slowly_is_answered_by_the_deadline() {
    let (accounts, api) = roomy();
    let server = Server::with(accounts, api::Config { request_timeout_ms: 200, ..api }).await;
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    let (head, body, _) = server.raw(head.as_bytes()).await;
    assert!(head.starts_with("http/1.1 504 "), "{head}");
    assert_eq!(body["error"]["name"], "deadline_exceeded");
}

/// A connection from this address of the machine, on which this was sent.
async fn from(host: u8, server: &Server, sent: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

#[tokio::test]
async fn one_host_that_speaks_slowly_leaves_half_of_the_turns_to_others() {
    const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answered = async |stream: &mut TcpStream, within: Duration| {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(within, stream.read_exact(&mut answer)).await;
        read.is_ok_and(|read| read.is_ok()) && &answer == b"HTTP/1.1 200"
    };
    let (accounts, api) = roomy();
    let api = api::Config { max_speaking: 4, header_timeout_ms: 60_000, ..api };
    // Behind a proxy that says whom it speaks for, one address is everybody's.
    for (forwarded_hops, a_third) in [(0, false), (1, true)] {
        let server = Server::with(accounts.clone(), api::Config { forwarded_hops, ..api.clone() }).await;
        let mut slow = Vec::new();
        for _ in 0..2 {
            slow.push(from(2, &server, b"GET /healthz").await);
        }
        // Once these two have their turns, one more of theirs waits.
        let mut own = from(2, &server, WHOLE).await;
        let (at_once, in_time) = (Duration::from_millis(200), Duration::from_secs(20));
        assert_eq!(answered(&mut own, if a_third { in_time } else { at_once }).await, a_third, "{forwarded_hops} hops");
        for host in [1, 3, 1] {
            assert!(answered(&mut from(host, &server, WHOLE).await, in_time).await, "127.0.0.{host}");
        }
        drop(slow);
        assert!(a_third || answered(&mut own, in_time).await, "it was only to wait");
    }
}

#[tokio::test]
async fn more_connections_than_allowed_wait_their_turn() {
    let (accounts, api) = roomy();
    let server = Server::with(accounts, api::Config { max_connections: 2, ..api }).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let (_, _, first) = server.raw(request).await;
    let (_, _, _second) = server.raw(request).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(request).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), third.read(&mut [0; 1])).await;
    assert!(early.is_err(), "it is not answered while two others are open");
    drop(first);
    let mut answer = [0; 12];
    third.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way() {
    let server = Server::start().await;
    let body = json!({"username": "ada", "password": PASSWORD});
    let register = server.post("/v1/accounts", &body);
    let stop = async {
        // The request is under way once it hashes.
        fixture::until("a password is being hashed or was", async || {
            let metrics = server.send(|http| http.get(server.url("/metrics"))).await;
            !metrics.body.as_str().unwrap().contains("accounts_hash_seconds_count 0\n")
        })
        .await;
        server.stop.cancel();
    };
    let (answer, ()) = tokio::join!(register, stop);
    assert_eq!(answer.status, 201);
    server.served.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let (accounts, mut api) = roomy();
    api.allowed_origins = vec!["https://app.example".to_owned()];
    let server = Server::with(accounts, api).await;
    for (origin, allowed) in [("https://app.example", Some("https://app.example")), ("https://evil.example", None)] {
        let preflight = server
            .send(|http| {
                http.request(reqwest::Method::OPTIONS, server.url("/v1/sessions"))
                    .header("origin", origin)
                    .header("access-control-request-method", "POST")
            })
            .await;
        let answer = server.send(|http| http.get(server.url("/healthz")).header("origin", origin)).await;
        for answer in [&preflight, &answer] {
            let header = answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(header, allowed, "{origin}");
        }
        assert_eq!(preflight.status, if allowed.is_some() { 204 } else { 405 });
    }
}

#[tokio::test]
async fn a_plain_client_library_is_told_why_it_is_refused() {
    let server = Server::start().await;
    let mut request = format!("ws://{}/v1/connect", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-ws".parse().unwrap());
    let Err(Error::Http(response)) = tokio_tungstenite::connect_async(request).await else {
        panic!("the handshake must be refused");
    };
    assert_eq!(response.status(), 400);
    let body: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("bowline.v1.proto or bowline.v1.json"), "{body}");
}
