//! The WebSocket itself: what the peer sends and how a socket ends, against tokio-tungstenite and against raw bytes.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bowline::wire::Config;
use bowline_protocol::wire::server_frame::Kind;
use bowline_protocol::{Close, Codec, LogId, UserId};
use futures_util::SinkExt as _;
use support::client::Client;
use support::node::{Node, until};
use support::raw::{frame, raw};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

async fn client(node: &Node, codec: Codec) -> Client {
    Client::connect(node.address, UserId::new(), codec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_whole() {
    let node = Node::start(Config::default());
    let mut client = client(&node, Codec::Proto).await;
    for size in [0, 1, 125, 126, 127, 4_000, 65_535, 65_536] {
        let text = "ü".repeat(size / 2) + if size % 2 == 1 { "x" } else { "" };
        let binary: Vec<u8> = (0..size).map(|i| i as u8 | 0x80).collect();
        for message in [Message::text(text), Message::binary(binary)] {
            client.socket.send(message.clone()).await.expect("sent");
            assert_eq!(client.message().await, message, "{size} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_come_back_as_one_message_and_pings_between_them_are_answered() {
    let node = Node::start(Config::default());
    let mut client = client(&node, Codec::Proto).await;
    let fragment = |data: &'static str, opcode, last| Message::Frame(Frame::message(data, OpCode::Data(opcode), last));
    for message in [
        fragment("one ", Data::Text, false),
        fragment("two ", Data::Continue, false),
        Message::Ping("now".into()),
        fragment("three", Data::Continue, true),
    ] {
        client.socket.send(message).await.expect("sent");
    }
    let pong = futures_util::StreamExt::next(&mut client.socket).await;
    assert_eq!(pong.expect("open").expect("valid"), Message::Pong("now".into()));
    assert_eq!(client.message().await, Message::text("one two three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_framing_closes_with_its_code() {
    let node = Node::start(Config::default());
    let too_big = vec![b'x'; Config::default().message_bytes + 1];
    let cases = [
        ("no mask", vec![0x81, 0x01, b'x'], Close::Protocol),
        ("a reserved bit", frame(0xc1, b"x"), Close::Protocol),
        ("not UTF-8", frame(0x81, b"\xff"), Close::NotUtf8),
        ("not UTF-8 in the second fragment", [frame(0x01, b"\xe2"), frame(0x00, b"x")].concat(), Close::NotUtf8),
        ("too long", frame(0x82, &too_big), Close::TooBig),
        ("too long, by its header", frame(0x82, &too_big)[..14].to_vec(), Close::TooBig),
        ("too long in fragments", [frame(0x02, &too_big[1..]), frame(0x80, b"x")].concat(), Close::TooBig),
    ];
    for (name, bytes, close) in cases {
        let mut stream = raw(&node, UserId::new(), &[]);
        stream.write_all(&bytes).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an orderly end");
        let reason = close.reason().as_bytes();
        let expected = [&[0x88, 2 + reason.len() as u8], &close.number().to_be_bytes()[..], reason].concat();
        assert_eq!(answer, expected, "{name}");
    }
    until("all sockets are gone", || node.shards.sockets() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_allow_less() {
    let node = Node::start(Config::default());
    let mut client = client(&node, Codec::Json).await;
    client.order("!limit 100").await;
    client.socket.send(Message::text("x".repeat(100))).await.expect("sent");
    assert_eq!(client.message().await.len(), 100);
    client.socket.send(Message::text("x".repeat(101))).await.expect("sent");
    assert_eq!(client.close_code().await, Close::TooBig.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_came_with_the_handshake_are_not_lost() {
    let node = Node::start(Config::default());
    let mut stream = raw(&node, UserId::new(), &[frame(0x81, b"early"), frame(0x81, b"bird")[..3].to_vec()].concat());
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"\x81\x05early");
    stream.write_all(&frame(0x81, b"bird")[3..]).expect("sent");
    stream.read_exact(&mut answer[..6]).expect("answered");
    assert_eq!(&answer[..6], b"\x81\x04bird");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peers_close_is_answered_with_its_code() {
    let node = Node::start(Config::default());
    let mut client = client(&node, Codec::Proto).await;
    client.socket.close(Some(CloseFrame { code: 4_321.into(), reason: "bye".into() })).await.expect("sent");
    assert_eq!(client.close_code().await, 4_321);
    until("the socket is gone", || node.shards.sockets() == 0).await;
    assert_eq!(node.closed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_vanish_leave_nothing() {
    let node = Node::start(Config::default());
    let log = LogId::new();
    for bytes in [&b""[..], &frame(0x81, b"half of it")[..8], &frame(0x01, b"half of it"), &[0x81]] {
        let mut stream = raw(&node, UserId::new(), &[]);
        stream.write_all(&frame(0x81, format!("!follow {log} 0").as_bytes())).expect("sent");
        stream.write_all(bytes).expect("sent");
    }
    until("all were told", || node.closed() == 4).await;
    until("all sockets are gone", || node.shards.sockets() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_take_part_in_the_closing_is_dropped() {
    let node = Node::start(Config { close_timeout: Duration::from_millis(100), ..Config::default() });
    let mut stream = raw(&node, UserId::new(), &frame(0x81, b"!close"));
    until("the socket is gone", || node.shards.sockets() == 0).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    assert_eq!(&answer[..4], [&[0x88, 9][..], &Close::Revoked.number().to_be_bytes()].concat());
    assert_eq!(node.closed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_socket_and_pongs_keep_it() {
    let heartbeat = Duration::from_millis(120);
    let node = Node::start(Config { heartbeat, ..Config::default() });
    let mut silent = raw(&node, UserId::new(), &[]);
    let mut lively = client(&node, Codec::Proto).await;
    let ponging = tokio::spawn(async move {
        lively.order("!work kept").await;
        (lively.notice().await, lively)
    });
    for _ in 0..3 {
        let mut sent = Vec::new();
        silent.read_to_end(&mut sent).expect("an orderly end");
        assert_eq!(&sent[..2], [0x89, 0], "a ping comes first");
        let code = Close::Stalled.number().to_be_bytes();
        assert!(sent.windows(4).any(|bytes| bytes == [&[0x88, 9], &code[..]].concat()), "{sent:?}");
        silent = raw(&node, UserId::new(), &[]);
    }
    assert_eq!(node.open_work(), 1);
    node.finish_work();
    assert_eq!(ponging.await.expect("no panic").0, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_of_what_waits_is_ended() {
    let config = Config {
        heartbeat: Duration::from_millis(120),
        stall_limit: Duration::from_millis(300),
        close_timeout: Duration::from_millis(100),
        unsent_max_bytes: 64 << 20,
        ..Config::default()
    };
    let node = Node::start(config);
    let _stopped = raw(&node, UserId::new(), &frame(0x81, b"!big 1000000 20"));
    until("it is gone", || node.closed() == 1 && node.shards.sockets() == 0).await;
    assert!(node.metrics.text().contains("bowline_sockets_stalled_total 1"), "{}", node.metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_enough_open_commands_is_not_read() {
    let node = Node::start(Config::default());
    let mut client = client(&node, Codec::Json).await;
    let commands = 100;
    for i in 0..commands {
        client.order(format!("!work {i}")).await;
    }
    until("as many as are allowed are open", || node.open_work() == 32).await;
    for i in 0..commands {
        assert!(node.open_work() <= 32 && node.heard() <= i + 32, "{} were heard", node.heard());
        until("the next is open", || node.finish_work()).await;
        assert_eq!(client.notice().await, i.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_replies_wait_is_not_read_until_it_takes_them() {
    let node = Node::start(Config::default());
    let mut client = Client::with_window(node.address, UserId::new(), Codec::Proto, Some(4096)).await;
    let commands = 2_000;
    for _ in 0..commands {
        client.socket.feed(Message::binary("!big 1000 1")).await.expect("fed");
    }
    let (mut sink, mut stream) = futures_util::StreamExt::split(client.socket);
    let flush = tokio::spawn(async move { sink.flush().await });
    until("replies wait", || node.heard() > 20).await;
    for i in 0..commands {
        let next = futures_util::StreamExt::next(&mut stream).await;
        assert!(next.expect("open").expect("valid").len() > 1000, "reply {i}");
    }
    flush.await.expect("no panic").expect("all were read");
    assert_eq!(node.heard(), commands);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replies_than_a_peer_takes_close_the_socket() {
    let node = Node::start(Config { unsent_max_bytes: 100_000, ..Config::default() });
    let mut client = client(&node, Codec::Proto).await;
    client.order("!big 1000000 20").await;
    assert_eq!(client.close_code().await, Close::Overloaded.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_hears_when_everything_was_taken() {
    let node = Node::start(Config { unsent_max_bytes: 64 << 20, ..Config::default() });
    let mut client = client(&node, Codec::Proto).await;
    client.order("!big 1000000 20").await;
    client.order("!taken").await;
    for _ in 0..20 {
        assert_eq!(client.notice().await.len(), 1_000_000);
    }
    assert_eq!(client.notice().await, "taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_tells_every_socket_its_own_time_and_closes_it_then() {
    let node = Node::start(Config::default());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&node, Codec::Proto).await);
    }
    let window = Duration::from_millis(600);
    until("all are open", || node.shards.sockets() == 20).await;
    node.shards.drain(window);
    let mut times = Vec::new();
    for client in &mut clients {
        match client.frame().await {
            Kind::Drain(drain) => times.push(drain.reconnect_after_ms),
            other => panic!("not a drain: {other:?}"),
        }
        assert_eq!(client.close_code().await, Close::Drain.number());
    }
    times.sort_unstable();
    let window_ms = window.as_millis() as u64;
    assert!(times.iter().all(|time| *time <= window_ms), "{times:?}");
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest.is_some_and(|gap| gap <= window_ms / 5), "spread over the window: {times:?}");
    let late = TcpStream::connect(node.address).map(|_| raw(&node, UserId::new(), &[])).expect("accepted");
    let mut answer = Vec::new();
    (&late).read_to_end(&mut answer).expect("an orderly end");
    let reason = Close::Drain.reason().as_bytes();
    let told = [&[0x88, 2 + reason.len() as u8], &Close::Drain.number().to_be_bytes()[..], reason].concat();
    assert_eq!(answer, told, "no socket is taken any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_changed_ends_all_sockets() {
    let node = Node::start(Config::default());
    let mut clients = [client(&node, Codec::Proto).await, client(&node, Codec::Json).await];
    until("all are open", || node.shards.sockets() == 2).await;
    node.shards.epoch_changed();
    for client in &mut clients {
        assert_eq!(client.close_code().await, Close::EpochChanged.number());
    }
}
