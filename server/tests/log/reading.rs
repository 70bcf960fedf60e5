use bowline::deadline::Deadline;
use bowline::log::Action;
use bowline_protocol::wire::{self, ConversationKind, Role, entry::Content};
use bowline_protocol::{Code, LogId};
use bowline_testkit::TestDatabase;

use crate::fixture::*;

/// One of everything that can be in a log.
async fn everything(database: &TestDatabase, node: &Node) -> Vec<LogId> {
    let [a, b, c] = users(database).await;
    let log = group(node, a, &[b]).await;
    let whole = wire::Message {
        body: Some("Tie it twice".into()),
        reply_to_seq: Some(1),
        thread_root_seq: Some(1),
        mentions: vec![b.to_wire(), a.to_wire(), c.to_wire(), b.to_wire()],
        attachments: vec![wire::Attachment {
            url: "https://knots.example/a.png".into(),
            media_type: "image/png".into(),
            size: 5,
            sha256: Some("00ff".into()),
        }],
        attrs: Some(r#"{"b":1e400,"a":1.0,"a":"\\u0000"}"#.into()),
        deleted: false,
    };
    let empty = wire::Message { body: Some(String::new()), ..Default::default() };
    let emoji = || "🪢".to_owned();
    for (log, sender, action) in [
        (log, a, Action::Message(whole)),
        (log, b, Action::Message(empty)),
        (log, b, Action::React { target_seq: 2, emoji: emoji() }),
        (log, b, Action::Unreact { target_seq: 2, emoji: emoji() }),
        (log, a, Action::AddMembers(vec![c])),
        (log, a, Action::SetRole { user: c, role: Role::Admin }),
        (log, c, Action::Rename("Bends".into())),
        (log, c, Action::RemoveMember(b)),
        (log, c, Action::Leave),
        (a.log(), a, Action::Mute { conversation: log, muted: true }),
        (a.log(), a, Action::RevokeSession(None)),
    ] {
        node.run(command(log, sender, action)).await.unwrap();
    }
    node.run(create(a, ConversationKind::Direct, &[b])).await.unwrap();
    vec![log, a.log(), b.log(), c.log()]
}

#[tokio::test]
async fn what_is_handed_on_is_what_is_read() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let logs = everything(&database, &node).await;
    let sunk = node.sunk();
    for log in &logs {
        assert_eq!(sunk[log], node.whole(*log).await);
        assert!(sunk[log].iter().all(|entry| entry.content.is_some()));
    }
    assert_eq!(sunk.len(), logs.len() + 1, "and the direct conversation");
    check_dense(&database).await;
}

#[tokio::test]
async fn what_a_user_log_tells() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [log, _, b, _] = everything(&database, &node).await[..] else { unreachable!() };
    let told: Vec<_> = node.whole(b).await.into_iter().filter_map(|entry| entry.content).collect();
    let conversation_id = log.to_wire();
    let title = Some("Reef knots".to_owned());
    let joined = |conversation_id, kind: ConversationKind, title| {
        Content::Joined(wire::Joined { conversation_id, conversation_seq: 1, kind: kind.into(), title })
    };
    let direct = match &told[3] {
        Content::Joined(joined) => joined.conversation_id.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        told,
        [
            joined(conversation_id.clone(), ConversationKind::Group, title),
            // Twice in the message, told once; the sender and one who is not there are told nothing.
            Content::Mentioned(wire::Mentioned { conversation_id: conversation_id.clone(), conversation_seq: 2 }),
            Content::Left(wire::Left { conversation_id, conversation_seq: 9 }),
            joined(direct, ConversationKind::Direct, None),
        ]
    );
}

#[tokio::test]
async fn a_message_is_read_as_it_is_now_and_only_its_newest_fact_holds_the_text() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    let mut said = text(log, a, "one");
    if let Action::Message(message) = &mut said.action {
        message.attrs = Some("{}".into());
        message.reply_to_seq = Some(1);
    }
    node.run(said).await.unwrap();
    let edit = |version, body: &str| command(log, a, Action::Edit { target_seq: 2, version, body: body.into() });
    let bodies = || async {
        let entries = node.whole(log).await;
        let body = |entry: wire::Entry| match entry.content? {
            Content::Message(message) => message.body,
            Content::Edited(edited) => edited.body,
            _ => None,
        };
        let version = entries[1].version;
        (version, entries.into_iter().skip(1).map(body).collect::<Vec<_>>())
    };
    let some = |body: &str| Some(body.to_owned());

    node.run(edit(2, "two")).await.unwrap();
    assert_eq!(bodies().await, (3, vec![some("two"), some("two")]));
    node.run(edit(3, "three")).await.unwrap();
    assert_eq!(bodies().await, (4, vec![some("three"), None, some("three")]));
    node.run(command(log, a, Action::Delete { target_seq: 2 })).await.unwrap();
    assert_eq!(bodies().await, (5, vec![None, None, None, None]));

    let Some(Content::Message(message)) = node.whole(log).await[1].content.clone() else { panic!() };
    assert!(message.deleted);
    assert_eq!((message.attrs, message.reply_to_seq), (None, Some(1)), "where it stands in a thread is kept");
}

#[tokio::test]
async fn ranges_and_pages_cover_what_they_say() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a] = users(&database).await;
    let log = group(&node, a, &[]).await;
    all(node.give_all((0..399).map(|n| text(log, a, &n.to_string())))).await;
    let soon = Deadline::after(LONG);
    let seqs = |range: bowline::log::Range| {
        assert_eq!((range.as_of_seq, range.first_seq), (400, 1));
        range.entries.into_iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    for (after, to, expected) in
        [(0, 3, (1..=3)), (10, 11, (11..=11)), (398, 500, (399..=400)), (0, u64::MAX, (1..=400))]
    {
        assert_eq!(seqs(node.log.read(log, after, to, soon).await.unwrap()), expected.collect::<Vec<_>>());
    }
    assert_eq!(seqs(node.log.read(log, 400, 900, soon).await.unwrap()), Vec::<u64>::new());
    for (pages, expected) in [
        (vec![0], (1..128).collect::<Vec<_>>()),
        (vec![1], (128..256).collect()),
        (vec![3, 0], (1..128).chain(384..=400).collect()),
        (vec![9, u64::MAX], vec![]),
    ] {
        assert_eq!(seqs(node.log.read_pages(log, &pages, soon).await.unwrap()), expected, "{pages:?}");
    }
    let numbers: Vec<_> = node.whole(log).await.iter().map(|entry| entry.message_no).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    assert_eq!(node.log.read(LogId::new(), 0, 9, soon).await.unwrap_err().code, Code::NotFound);
    assert_eq!(node.log.read_pages(log, &[0; 9], soon).await.unwrap_err().code, Code::TooLarge);
}
