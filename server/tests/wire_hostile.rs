//! Peers that keep to the framing and mean no good: each costs a bounded amount, and nobody else feels it.

mod support;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline::wire::Config;
use bowline_protocol::{Close, Codec, LogId, UserId};
use support::client::Client;
use support::node::{Node, until};
use support::raw::{frame, raw};

fn close_frame(close: Close) -> Vec<u8> {
    let reason = close.reason().as_bytes();
    [&[0x88, 2 + reason.len() as u8], &close.number().to_be_bytes()[..], reason].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_without_end_are_refused_and_many_small_ones_are_not() {
    let node = Node::start(Config::default());
    let check = |bytes: Vec<u8>, answer: &[u8], what: &str| {
        let mut stream = raw(&node, UserId::new(), &[]);
        stream.write_all(&bytes).expect("sent");
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).expect("an answer");
        assert_eq!(got, answer, "{what}");
    };
    let letters = |n: usize| [frame(0x01, b"x"), frame(0x00, b"x").repeat(n), frame(0x80, b"x")].concat();
    check(letters(98), &[&[0x81, 100][..], &[b'x'; 100]].concat(), "a letter a fragment");
    check([frame(0x01, b""), frame(0x00, b"").repeat(40), frame(0x80, b"x")].concat(), b"\x81\x01x", "some empty ones");
    check([frame(0x01, b""), frame(0x00, b"").repeat(100)].concat(), &close_frame(Close::TooBig), "empty ones");
    let between = [frame(0x00, b""), frame(0x89, b"")].concat().repeat(100);
    // Beside the first one, as many as are allowed in all.
    let pongs = [0x8a, 0].repeat(63);
    let answer = [pongs, close_frame(Close::TooBig)].concat();
    check([frame(0x01, b""), between].concat(), &answer, "empty ones with pings between them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tiny_frames_leaves_its_neighbours_their_turns() {
    let node = Node::start(Config::default());
    for (what, tiny) in [("messages", frame(0x81, b"")), ("pings", frame(0x89, b""))] {
        let flood = raw(&node, UserId::new(), &[]);
        let (mut writing, mut reading) = (flood.try_clone().expect("cloned"), flood.try_clone().expect("cloned"));
        let (ended, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&ended);
        let frames = tiny.repeat(10_000);
        let writer =
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) && writing.write_all(&frames).is_ok() {});
        let answered = Arc::clone(&rounds);
        let reader = std::thread::spawn(move || {
            let mut sink = vec![0; 1 << 16];
            while reading.read(&mut sink).is_ok_and(|n| n > 0) {
                answered.store(true, Ordering::Relaxed);
            }
        });
        let mut neighbour = Client::connect(node.address, UserId::new(), Codec::Json).await;
        for n in 0..100 {
            // Each round falls into the flood: it was answered again since the last one.
            rounds.store(false, Ordering::Relaxed);
            until(&format!("the flood of {what} goes on"), || rounds.load(Ordering::Relaxed)).await;
            neighbour.order(format!("round {n}")).await;
            assert_eq!(neighbour.message().await.into_text().expect("text").as_str(), format!("round {n}"));
        }
        ended.store(true, Ordering::Relaxed);
        flood.shutdown(std::net::Shutdown::Both).expect("open to the end");
        writer.join().expect("no panic");
        reader.join().expect("no panic");
    }
    until("only the neighbours may be left, and they went", || node.shards.sockets() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_cannot_be_written_ends_in_time_in_a_drain_too() {
    let node = Node::start(Config {
        close_timeout: Duration::from_millis(100),
        unsent_max_bytes: 64 << 20,
        ..Config::default()
    });
    let mut peers = Vec::new();
    for order in ["!big 1000000 20", "never reads, never closes"] {
        let mut peer = raw(&node, UserId::new(), &[]);
        peer.write_all(&frame(0x81, order.as_bytes())).expect("sent");
        peers.push(peer);
    }
    until("both were heard", || node.heard() == 2).await;
    // The stall limit is minutes away.
    node.shards.drain(Duration::from_millis(50));
    until("they are gone", || node.shards.sockets() == 0 && node.closed() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_that_never_reads_does_not_take_of_a_watched_log_is_foreseen() {
    let node = Node::start(Config { unsent_max_bytes: 64 << 20, ..Config::default() });
    let (user, log, other) = (UserId::new(), LogId::new(), LogId::new());
    let mut stuck = raw(&node, user, &[]);
    for order in [format!("!watch {log} 0"), format!("!follow {other} 0"), "!big 1000000 20".to_owned()] {
        stuck.write_all(&frame(0x81, order.as_bytes())).expect("sent");
    }
    until("all were heard", || node.heard() == 3).await;
    node.send(other, "of no interest");
    node.send(log, "published");
    until("what was published is foreseen", || node.foreseen(user).contains(&1)).await;
    let stored = node.store(log, "of another node");
    node.shards.head(log, stored.seq);
    until("what has to be read is foreseen", || node.foreseen(user).contains(&2)).await;
    assert!(node.passed(user).is_empty(), "it was not delivered");

    let mut taken = vec![0; 1 << 20];
    until("once he reads, it is delivered as ever", || {
        stuck.read(&mut taken).is_ok_and(|n| n > 0) && node.passed(user) == [1, 2]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_for_whom_there_is_no_room_is_told_when_to_come_back() {
    let node = Node::start(Config { inbox_sockets: 0, ..Config::default() });
    let mut answer = Vec::new();
    raw(&node, UserId::new(), &[]).read_to_end(&mut answer).expect("an orderly end");
    assert_eq!(answer, close_frame(Close::Overloaded));
    assert_eq!(Close::retry_after_ms(Close::Overloaded.reason()), Some(1_000));
}
