//! Changes, and the frames that answer them.

use bowline_protocol::command::{Change, Create};
use bowline_protocol::wire::{ConversationKind, Role, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Code, LogId};
use tokio::sync::mpsc;

use crate::fixture::{World, code, group, message, soon};

#[tokio::test]
async fn a_message_is_answered_with_sent_and_every_other_change_with_stored() {
    let world = World::start().await;
    let [ada, ben, cleo] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    let said = world.say(ada, log, "hello").await;
    let changes = [
        Change::Edit { target_seq: said, version: said, body: "hallo".into() },
        Change::React { target_seq: said, emoji: "⚓".into() },
        Change::Unreact { target_seq: said, emoji: "⚓".into() },
        Change::Add { users: vec![cleo] },
        Change::SetRole { user: ben, role: Role::Admin },
        Change::Remove { user: cleo },
        Change::Rename { title: "Bends".into() },
        Change::Delete { target_seq: said },
    ];
    for (change, seq) in changes.into_iter().zip(3..) {
        let name = format!("{change:?}");
        match world.change(ada, log, change).await {
            Ok(Push::Stored(stored)) => assert_eq!((stored.log_id, stored.seq), (log.to_wire(), seq), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(code(world.change(ada, log, Change::Leave).await), Code::Forbidden, "the last owner");
    assert_eq!(code(world.change(cleo, log, Change::Send(message("still here?"))).await), Code::Forbidden);
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_changes() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let log = world.group(ada, &[]).await;
    let (answers, mut answered) = mpsc::unbounded_channel();
    for n in 0..100 {
        let answers = answers.clone();
        let change = Change::Send(message(&n.to_string()));
        world.conversations.change(ada, log, ClientId::new(), change, soon(), move |result| {
            answers.send((n, result)).unwrap();
        });
    }
    for n in 0..100 {
        let (which, result) = answered.recv().await.unwrap();
        let Ok(Push::Sent(sent)) = result else { panic!("{result:?}") };
        assert_eq!((which, sent.seq, sent.message_no), (n, n + 2, n + 1));
    }
}

#[tokio::test]
async fn creating_says_which_conversation_it_is_and_where_it_ends() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let create = group(&[ben]);
    let made = world.create(ada, create.clone()).await.unwrap();
    assert_eq!((made.seq, made.existed, made.title.as_deref()), (1, false, Some("Reef knots")));
    let again = world.create(ada, create).await.unwrap();
    assert_eq!((&again.log_id, again.existed), (&made.log_id, true));

    let direct = |user| Create { kind: ConversationKind::Direct, title: None, ..group(&[user]) };
    let made = world.create(ada, direct(ben)).await.unwrap();
    assert!(!made.existed);
    world.say(ben, LogId::from_wire(&made.log_id).unwrap(), "hi").await;
    let found = world.create(ben, direct(ada)).await.unwrap();
    assert_eq!((found.log_id, found.existed, found.seq), (made.log_id, true, 2));
    assert_eq!(code(world.create(ada, direct(ada)).await), Code::Invalid);
}

#[tokio::test]
async fn muting_is_kept_in_the_users_own_log() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let log = world.group(ada, &[]).await;
    for (muted, seq) in [(true, 2), (false, 3)] {
        let (done, outcome) = tokio::sync::oneshot::channel();
        world.conversations.mute(ada, log, ClientId::new(), muted, soon(), move |result| drop(done.send(result)));
        let Ok(Push::Stored(stored)) = outcome.await.unwrap() else { panic!("not stored") };
        assert_eq!((stored.log_id, stored.seq), (ada.log().to_wire(), seq));
        let list = world.conversations.list(ada, 10, None, soon()).await.unwrap();
        assert_eq!(list.items[0].muted, muted);
    }
}
