//! The connection against a scripted server: what it does when things break.

mod server;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_protocol::wire::client_frame::Kind as Ask;
use bowline_protocol::wire::server_frame::Kind as Push;
use bowline_protocol::{Code, UserId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::*;
use crate::Events;
use server::{Server, room};

fn fixed() -> TokenSource {
    TokenSource::Fixed("token".into())
}

async fn next(events: &mut Events) -> Event {
    timeout(Duration::from_secs(20), events.next()).await.expect("an event in time").expect("not ended")
}

/// The seqs of the next `n` entries, whatever else happens in between.
async fn seqs(events: &mut Events, n: usize) -> Vec<Seq> {
    let mut seqs = Vec::new();
    while seqs.len() < n {
        if let Event::Entry { entry, .. } = next(events).await {
            seqs.push(entry.seq);
        }
    }
    seqs
}

async fn why(events: &mut Events) -> (Why, bool) {
    loop {
        if let Event::Disconnected { why, retry_in } = next(events).await {
            return (why, retry_in.is_some());
        }
    }
}

#[tokio::test]
async fn after_a_cut_it_resumes_where_it_stood_and_nothing_comes_twice() {
    for codec in Codec::ALL {
        let server = Server::start(codec).await;
        let (_client, mut events) = server.client(fixed(), 16);
        let script = async {
            let (mut peer, user, cursors) = server.resumed(30_000).await;
            assert_eq!((user, cursors), (None, vec![]));
            let head = wire::Head { log_id: room().to_wire(), last_seq: 10, ..Default::default() };
            peer.push(None, Push::Heads(wire::Heads { as_of_seq: 7, items: vec![head], more: false })).await;
            peer.entries(10, 12).await;
            assert_eq!(seqs(&mut events, 2).await, [11, 12]);
            peer.cut();
            let (mut peer, user, cursors) = server.resumed(30_000).await;
            assert_eq!((user, cursors), (Some(7), vec![(room(), 12)]), "{codec:?}");
            peer.entries(11, 15).await;
            assert_eq!(seqs(&mut events, 3).await, [13, 14, 15]);
        };
        timeout(Duration::from_secs(20), script).await.expect("in time");
    }
}

#[tokio::test]
async fn a_hole_ends_the_connection_and_is_filled_by_the_next() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (mut peer, ..) = server.resumed(30_000).await;
    peer.entries(3, 4).await;
    peer.entries(5, 6).await;
    let hole = Why::Hole { log: room(), cursor: 4, after_seq: 5 };
    assert_eq!(why(&mut events).await, (hole, true));
    let (mut peer, _, cursors) = server.resumed(30_000).await;
    assert_eq!(cursors, [(room(), 4)]);
    peer.entries(4, 6).await;
    assert_eq!(seqs(&mut events, 2).await, [5, 6]);
}

#[tokio::test]
async fn a_send_whose_answer_was_lost_goes_again_under_its_id_and_those_behind_it_wait() {
    let server = Server::start(Codec::Proto).await;
    let (client, _events) = server.client(fixed(), 64);
    let (mut peer, ..) = server.resumed(30_000).await;
    let first = client.send(room(), "first").await.expect("taken");
    let second = client.send(room(), "second").await.expect("taken");
    let (_, sent) = peer.next_send().await;
    assert_eq!((sent.body.as_str(), &sent.client_id), ("first", &first.client_id().to_wire()));
    peer.cut();

    let (mut peer, ..) = server.resumed(30_000).await;
    let (id, again) = peer.next_send().await;
    assert_eq!(again, sent);
    peer.push(Some(id), Push::Error(Failure::retry_after(Code::Overloaded, 1).to_wire())).await;
    let (id, again) = peer.next_send().await;
    assert_eq!(again, sent);
    peer.push(Some(id), Push::Error(Failure::retry_after(Code::OutcomeUnknown, 1).to_wire())).await;
    let (id, again) = peer.next_send().await;
    assert_eq!(again, sent);
    peer.stored(id, 41).await;
    assert_eq!(first.await.expect("stored").seq, 41);

    let (id, sent) = peer.next_send().await;
    assert_eq!(sent.body, "second");
    peer.push(Some(id), Push::Error(Failure::new(Code::Forbidden).to_wire())).await;
    let refused = second.await.expect_err("refused");
    assert!(matches!(refused, Error::Refused(f) if f.code == Code::Forbidden));
}

#[tokio::test]
async fn commands_are_answered_over_a_reconnect() {
    let server = Server::start(Codec::Proto).await;
    let (client, _events) = server.client(fixed(), 64);
    let (mut peer, ..) = server.resumed(30_000).await;
    let adding = tokio::spawn(async move { client.rename(room(), "new").await });
    let (_, first) = peer.next().await;
    peer.cut();
    let (mut peer, ..) = server.resumed(30_000).await;
    let (id, again) = peer.next().await;
    assert_eq!(first, again, "the same client_id, so twice is once");
    peer.push(Some(id), Push::Stored(wire::Stored { seq: 9, repeat: true, ..Default::default() })).await;
    assert_eq!(adding.await.expect("ran").expect("renamed").seq, 9);
}

#[tokio::test]
async fn what_a_close_code_asks_for_is_done() {
    for (code, renewed, ends) in
        [(4000, 0, false), (4002, 0, false), (1006, 0, false), (4101, 1, false), (4200, 0, true)]
    {
        let server = Server::start(Codec::Proto).await;
        let renewals = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&renewals);
        let token = TokenSource::Callback(Arc::new(move |renew| {
            counted.fetch_add(usize::from(renew), Ordering::Relaxed);
            Box::pin(std::future::ready(Ok("token".to_owned())))
        }));
        let (_client, mut events) = server.client(token, 16);
        let (mut peer, ..) = server.resumed(30_000).await;
        match code {
            1006 => peer.cut(),
            code => peer.close(code).await,
        }
        let (why, comes_back) = why(&mut events).await;
        assert_eq!(comes_back, !ends, "{why}");
        if ends {
            assert_eq!(events.next().await, None);
        } else {
            server.resumed(30_000).await;
        }
        assert_eq!(renewals.load(Ordering::Relaxed), renewed, "{code}");
    }
}

#[tokio::test]
async fn a_refused_connect_is_taken_by_its_code() {
    for (code, comes_back) in [(Code::Overloaded, true), (Code::Revoked, false), (Code::Unauthenticated, false)] {
        let server = Server::start(Codec::Proto).await;
        let (_client, mut events) = server.client(fixed(), 16);
        let mut peer = server.accept().await;
        let (id, _) = peer.next().await;
        peer.push(Some(id), Push::Error(Failure::new(code).to_wire())).await;
        let mut last = why(&mut events).await;
        while last.1 && !comes_back {
            last = why(&mut events).await;
        }
        assert_eq!(last.1, comes_back, "{code}: a fixed token can't be renewed");
        if comes_back {
            server.resumed(30_000).await;
        }
    }
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_on_the_same_socket() {
    let server = Server::start(Codec::Proto).await;
    let token = TokenSource::Callback(Arc::new(|renew| {
        Box::pin(std::future::ready(Ok(if renew { "second" } else { "first" }.to_owned())))
    }));
    let (_client, _events) = server.client(token, 16);
    let (mut peer, ..) = server.resumed(30_000).await;
    peer.push(None, Push::TokenExpiring(wire::TokenExpiring::default())).await;
    let (id, ask) = peer.next().await;
    assert_eq!(ask, Ask::Refresh(wire::Refresh { access_token: "second".into() }));
    peer.push(Some(id), Push::Error(Failure::retry_after(Code::Unavailable, 1).to_wire())).await;
    let (_, again) = peer.next().await;
    assert_eq!(again, ask, "a server that can't take it now is asked again, on the same socket");
}

#[tokio::test]
async fn a_move_asked_for_before_the_connection_is_up_counts() {
    let server = Server::start(Codec::Proto).await;
    let (client, mut events) = server.client(fixed(), 16);
    let moving = tokio::spawn(async move { client.open(room(), 5).await });
    assert_eq!(next(&mut events).await, Event::Moved { log: room(), after_seq: 5 });
    let (mut peer, ..) = server.resumed(30_000).await;
    let (id, ask) = peer.next().await;
    assert_eq!(ask, Ask::ConversationOpen(wire::ConversationOpen { log_id: room().to_wire(), after_seq: 5 }));
    peer.entries(9, 10).await;
    peer.push(Some(id), Push::Done(wire::Done {})).await;
    peer.entries(5, 7).await;
    assert_eq!(seqs(&mut events, 2).await, [6, 7]);
    moving.await.expect("ran").expect("moved");
}

#[tokio::test]
async fn a_complaint_about_no_command_ends_nothing() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (mut peer, ..) = server.resumed(30_000).await;
    peer.push(None, Push::Error(Failure::new(Code::Malformed).to_wire())).await;
    peer.entries(0, 1).await;
    assert_eq!(seqs(&mut events, 1).await, [1]);
}

#[tokio::test]
async fn a_token_of_another_user_ends_the_client() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (peer, ..) = server.resumed(30_000).await;
    peer.cut();
    let mut peer = server.accept().await;
    let (id, _) = peer.next().await;
    let other = UserId(Uuid::from_u128(2)).to_wire();
    let connected = wire::Connected { session_id: vec![9; 16], user_id: other, ..Default::default() };
    peer.push(Some(id), Push::Connected(connected)).await;
    assert!(why(&mut events).await.1, "the cut");
    let (reason, comes_back) = why(&mut events).await;
    assert!(matches!(reason, Why::Token(_)) && !comes_back, "{reason}");
}

#[tokio::test]
async fn a_draining_server_is_left_in_the_slot_that_it_gave() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (mut peer, ..) = server.resumed(30_000).await;
    peer.push(None, Push::Drain(wire::Drain { reconnect_after_ms: 20, ticket: None })).await;
    assert_eq!(why(&mut events).await, (Why::Drained, true));
    let (mut peer, ..) = server.resumed(30_000).await;
    peer.push(None, Push::Drain(wire::Drain { reconnect_after_ms: 3_600_000, ticket: None })).await;
    peer.close(4000).await;
    loop {
        if let Event::Disconnected { retry_in, .. } = next(&mut events).await {
            assert!(retry_in.expect("comes back") > Duration::from_secs(3_000), "closed early, the slot still counts");
            break;
        }
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (mut peer, ..) = server.resumed(30).await;
    let (_, ask) = peer.next().await;
    assert_eq!(ask, Ask::Ping(wire::Ping {}));
    assert_eq!(why(&mut events).await, (Why::Silent, true));
    server.resumed(30_000).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_tried_again() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 16);
    let (mut tcp, _) = server.0.accept().await.expect("a connection");
    let mut request = [0; 4096];
    let read = tcp.read(&mut request).await.expect("the upgrade");
    assert!(request[..read].starts_with(b"GET /v1/connect"));
    tcp.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await.expect("answered");
    assert_eq!(why(&mut events).await, (Why::Http(503), true));
    server.resumed(30_000).await;
}

#[tokio::test]
async fn while_nobody_takes_events_the_socket_is_not_read_and_then_nothing_is_missing() {
    let server = Server::start(Codec::Proto).await;
    let (_client, mut events) = server.client(fixed(), 1);
    let (mut peer, ..) = server.resumed(30_000).await;
    let writing = tokio::spawn(async move {
        for seq in 0..2_000 {
            let items = vec![wire::Entry { seq: seq + 1, client_id: vec![7; 32 * 1024], ..Default::default() }];
            let entries = wire::Entries { log_id: room().to_wire(), after_seq: seq, to_seq: seq + 1, items };
            peer.push(None, Push::Entries(entries)).await;
        }
        peer
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!writing.is_finished(), "64 MB went into a client that nobody reads");
    assert_eq!(seqs(&mut events, 2_000).await, (1..=2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closed_client_finishes_what_is_under_way() {
    let server = Server::start(Codec::Proto).await;
    let (client, mut events) = server.client(fixed(), 64);
    let (mut peer, ..) = server.resumed(30_000).await;
    let sending = client.send(room(), "last words").await.expect("taken");
    let closing = tokio::spawn(async move { client.close().await });
    let (id, _) = peer.next_send().await;
    peer.stored(id, 5).await;
    assert_eq!(sending.await.expect("stored").seq, 5);
    closing.await.expect("closed");
    assert_eq!(why(&mut events).await, (Why::ByUs, false));
    assert_eq!(events.next().await, None);
}
