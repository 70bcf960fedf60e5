//! Frames of any content go through both codecs and come back the same; bytes of any kind are read or refused, never
//! a panic.

use bowline_protocol::Codec;
use bowline_protocol::wire::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::vectors::{Frame, message};

/// The largest integer of the contract.
const MAX_WHOLE: u64 = (1 << 53) - 1;

fn id() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 16)
}

fn ids() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(id(), 0..4)
}

fn whole() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000u64, 0..=MAX_WHOLE, Just(MAX_WHOLE)]
}

fn time() -> impl Strategy<Value = i64> {
    -(MAX_WHOLE as i64)..=MAX_WHOLE as i64
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,12}", any::<String>(), Just("\u{0}\n\"\\\u{2028}😀".to_owned())]
}

/// An object as this codec writes it, so that its text is the same after a way through JSON.
fn attrs() -> impl Strategy<Value = String> {
    proptest::collection::btree_map(
        text(),
        prop_oneof![
            any::<i64>().prop_map(|n| serde_json::json!(n)),
            text().prop_map(|t| serde_json::json!([t, null, true])),
        ],
        0..4,
    )
    .prop_map(|map| serde_json::to_string(&map).unwrap())
}

prop_compose! {
    fn attachment()(url in text(), media_type in text(), size in whole(), sha256 in of(text())) -> Attachment {
        Attachment { url, media_type, size, sha256 }
    }
}

prop_compose! {
    fn cursor()(log_id in id(), seq in whole(), epoch in whole()) -> Cursor {
        Cursor { log_id, seq, epoch }
    }
}

prop_compose! {
    fn a_message()(
        body in of(text()), reply_to_seq in of(whole()), thread_root_seq in of(whole()), mentions in ids(),
        attachments in vec(attachment(), 0..3), attrs in of(attrs()), deleted in any::<bool>(),
    ) -> Message {
        Message { body, reply_to_seq, thread_root_seq, mentions, attachments, attrs, deleted }
    }
}

fn content() -> impl Strategy<Value = entry::Content> {
    use entry::Content;
    prop_oneof![
        a_message().prop_map(Content::Message),
        (whole(), of(text())).prop_map(|(target_seq, body)| Content::Edited(Edited { target_seq, body })),
        whole().prop_map(|target_seq| Content::Deleted(Deleted { target_seq })),
        (whole(), text()).prop_map(|(target_seq, emoji)| Content::Reacted(Reacted { target_seq, emoji })),
        (whole(), text()).prop_map(|(target_seq, emoji)| Content::Unreacted(Reacted { target_seq, emoji })),
        whole().prop_map(|target_seq| Content::Erased(Erased { target_seq })),
        (0..3, of(text()), ids()).prop_map(|(kind, title, user_ids)| Content::Created(Created {
            kind,
            title,
            user_ids
        })),
        ids().prop_map(|user_ids| Content::MembersAdded(MembersAdded { user_ids })),
        id().prop_map(|user_id| Content::MemberLeft(MemberLeft { user_id })),
        (id(), 0..3).prop_map(|(user_id, role)| Content::RoleSet(RoleSet { user_id, role })),
        text().prop_map(|title| Content::Renamed(Renamed { title })),
        (id(), whole(), 0..3, of(text())).prop_map(|(conversation_id, conversation_seq, kind, title)| {
            Content::Joined(Joined { conversation_id, conversation_seq, kind, title })
        }),
        of(id()).prop_map(|session_id| Content::SessionRevoked(SessionRevoked { session_id })),
        (id(), any::<bool>()).prop_map(|(conversation_id, muted)| Content::Muted(Muted { conversation_id, muted })),
        (id(), of(text()), vec(attachment(), 0..3), of(attrs()), any::<bool>()).prop_map(
            |(post_id, body, attachments, attrs, deleted)| {
                Content::Posted(Posted { post_id, body, attachments, attrs, deleted })
            }
        ),
        (id(), id(), id(), text()).prop_map(|(post_id, author_id, comment_id, body)| {
            Content::Commented(Commented { post_id, author_id, comment_id, body })
        }),
        (id(), id()).prop_map(|(post_id, author_id)| Content::Liked(AboutPost { post_id, author_id })),
        id().prop_map(|user_id| Content::UserMuted(AboutUser { user_id })),
        (text(), text(), text()).prop_map(|(display_name, avatar_url, bio)| {
            Content::ProfileChanged(ProfileChanged { display_name, avatar_url, bio })
        }),
    ]
}

prop_compose! {
    fn an_entry()(
        seq in whole(), message_no in whole(), version in whole(), created_at_ms in time(), sender_id in id(),
        sender_kind in 0..3, client_id in id(), content in of(content()),
    ) -> Entry {
        Entry { seq, message_no, version, created_at_ms, sender_id, sender_kind, client_id, content }
    }
}

prop_compose! {
    fn head()(
        (log_id, peer_id) in (id(), of(id())), (kind, role) in (0..3, 0..3), title in of(text()),
        (last_seq, first_seq, read_seq, unread) in (whole(), whole(), whole(), whole()),
        last_at_ms in time(), last_message in of(an_entry()), muted in any::<bool>(),
    ) -> Head {
        Head {
            log_id, kind, title, role, last_seq, first_seq, read_seq, unread, last_at_ms, last_message, muted, peer_id,
        }
    }
}

prop_compose! {
    fn an_error()(
        code in any::<u32>(), (name, message) in (text(), text()), field in of(text()),
        (limit, retry_after_ms, version) in (of(whole()), of(whole()), of(whole())),
    ) -> Error {
        Error { code, name, message, field, limit, retry_after_ms, version }
    }
}

prop_compose! {
    fn topic_message()(topic in text(), seq in whole(), sender_id in id(), body in text()) -> TopicMessage {
        TopicMessage { topic, seq, sender_id, body }
    }
}

prop_compose! {
    fn a_post()(
        (post_id, user_id) in (id(), id()), (body, display_name, avatar_url) in (text(), text(), text()),
        attachments in vec(attachment(), 0..3), attrs in of(attrs()), created_at_ms in time(),
        (likes, comments, shares) in (whole(), whole(), whole()), liked in any::<bool>(),
    ) -> Post {
        let author = Some(Person { user_id, display_name, avatar_url });
        Post { post_id, author, body, attachments, attrs, created_at_ms, likes, comments, shares, liked }
    }
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    use server_frame::Kind;
    let kind = prop_oneof![
        (id(), whole(), whole(), vec(an_entry(), 0..3)).prop_map(|(log_id, after_seq, to_seq, items)| {
            Kind::Entries(Entries { log_id, after_seq, to_seq, items })
        }),
        (whole(), vec(head(), 0..3), any::<bool>()).prop_map(|(as_of_seq, items, more)| Kind::Heads(Heads {
            as_of_seq,
            items,
            more
        })),
        an_error().prop_map(Kind::Error),
        (id(), of(an_entry())).prop_map(|(log_id, entry)| Kind::Messages(Messages {
            log_id,
            items: vec![FoldedMessage { entry, reactions: Vec::new() }],
            ..Default::default()
        })),
        (whole(), of(text()))
            .prop_map(|(reconnect_after_ms, ticket)| Kind::Drain(Drain { reconnect_after_ms, ticket })),
        topic_message().prop_map(Kind::TopicMessage),
        (vec(a_post(), 0..3), any::<bool>()).prop_map(|(items, more)| Kind::Posts(Posts { items, more })),
        Just(Kind::Pong(Pong {})),
    ];
    (of(whole()), of(kind)).prop_map(|(id, kind)| ServerFrame { id, kind })
}

prop_compose! {
    fn send()(
        (log_id, client_id) in (id(), id()), body in text(), reply_to_seq in of(whole()), thread_root_seq in of(whole()),
        mentions in ids(), attachments in vec(attachment(), 0..3), attrs in of(attrs()),
    ) -> Send {
        Send { log_id, client_id, body, reply_to_seq, thread_root_seq, mentions, attachments, attrs }
    }
}

fn client_frame() -> impl Strategy<Value = ClientFrame> {
    use client_frame::Kind;
    let kind = prop_oneof![
        send().prop_map(Kind::Send),
        (text(), of((text(), text())), vec(text(), 0..3), of(cursor())).prop_map(
            |(access_token, client, accepts, user_cursor)| {
                let client = client.map(|(name, version)| ClientInfo { name, version });
                Kind::Connect(Connect { access_token, client, accepts, user_cursor })
            }
        ),
        (vec(cursor(), 0..4), any::<bool>()).prop_map(|(cursors, more)| Kind::Resume(Resume { cursors, more })),
        (id(), 0..3, of(text()), ids(), any::<bool>()).prop_map(
            |(client_id, kind, title, user_ids, history_visible)| {
                Kind::ConversationCreate(ConversationCreate { client_id, kind, title, user_ids, history_visible })
            }
        ),
        (id(), whole(), of(whole()), of(time())).prop_map(|(log_id, limit, before_seq, around_at_ms)| {
            Kind::History(History { log_id, limit, before_seq, around_at_ms, ..Default::default() })
        }),
        (text(), text()).prop_map(|(topic, body)| Kind::TopicPublish(TopicPublish { topic, body })),
        (id(), text(), vec(attachment(), 0..3), of(attrs())).prop_map(|(client_id, body, attachments, attrs)| {
            Kind::PostCreate(PostCreate { client_id, body, attachments, attrs })
        }),
        (0..4, id(), whole(), of(time()), of(id())).prop_map(|(kind, user_id, limit, after_at_ms, after_user_id)| {
            Kind::PeopleList(PeopleList { kind, user_id, limit, after_at_ms, after_user_id })
        }),
        Just(Kind::Ping(Ping {})),
    ];
    (whole(), kind).prop_map(|(id, kind)| ClientFrame { id, kind: Some(kind) })
}

fn comes_back<F: Frame>(frames: &[F]) -> Result<(), TestCaseError> {
    for codec in Codec::ALL {
        let back = F::read(codec, &message(codec, frames)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&back[..], frames, "{:?}", codec);
    }
    Ok(())
}

/// A valid message with some bytes changed, so that the bytes reach deep into the decoders.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let hits = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (vec(client_frame(), 1..3), any::<bool>(), hits).prop_map(|(frames, json, hits)| {
        let mut bytes = message(if json { Codec::Json } else { Codec::Proto }, &frames);
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn client_frames_come_back_from_both_codecs(frames in vec(client_frame(), 1..4)) {
        comes_back(&frames)?;
    }

    #[test]
    fn server_frames_come_back_from_both_codecs(frames in vec(server_frame(), 1..4)) {
        comes_back(&frames)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop_oneof![vec(any::<u8>(), 0..300), damaged()]) {
        for codec in Codec::ALL {
            let _ = codec.read_server(&bytes);
            for refused in codec.read_client(&bytes).into_iter().filter_map(Result::err) {
                prop_assert!(refused.failure.field.is_none_or(|field| field.len() <= 64));
            }
        }
    }
}
