//! Lists, page by page.

use bowline::conversations::HeadsPlace;
use bowline_protocol::command::{Change, Create};
use bowline_protocol::wire::{self, ConversationKind, Role, entry::Content};
use bowline_protocol::{Code, LogId, UserId};

use crate::fixture::{World, code, cursor, group, soon};

fn ids(heads: &[wire::Head]) -> Vec<LogId> {
    heads.iter().map(|head| LogId::from_wire(&head.log_id).unwrap()).collect()
}

/// Where the next page goes on.
fn last(heads: &[wire::Head]) -> Option<(i64, LogId)> {
    heads.last().map(|head| (head.last_at_ms, LogId::from_wire(&head.log_id).unwrap()))
}

fn body(head: &wire::Head) -> Option<&str> {
    match head.last_message.as_ref()?.content.as_ref()? {
        Content::Message(message) => message.body.as_deref(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_head_shows_a_conversation_as_its_member_sees_it() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[]).await;
    let head = async |user: UserId| world.conversations.list(user, 1, None, soon()).await.unwrap().items.remove(0);
    assert_eq!(body(&head(ada).await), None, "nothing was said");
    world.say(ada, log, "before ben").await;
    world.add(ada, log, ben).await;
    assert_eq!(body(&head(ada).await), Some("before ben"));
    assert_eq!(body(&head(ben).await), None, "it was said before he came");

    let said = world.say(ada, log, "hello").await;
    let edited = world.changed(ada, log, Change::Edit { target_seq: said, version: said, body: "hallo".into() }).await;
    let of_ben = head(ben).await;
    assert_eq!(body(&of_ben), Some("hallo"));
    let entry = of_ben.last_message.clone().unwrap();
    assert_eq!((entry.seq, entry.version, entry.message_no), (said, edited, 2));
    let expected = wire::Head {
        log_id: log.to_wire(),
        kind: ConversationKind::Group.into(),
        title: Some("Reef knots".into()),
        role: Role::Member.into(),
        last_seq: 5,
        first_seq: 1,
        read_seq: 3,
        unread: 1,
        last_at_ms: of_ben.last_at_ms,
        last_message: of_ben.last_message.clone(),
        muted: false,
        peer_id: None,
    };
    assert_eq!(of_ben, expected);
    assert_eq!(head(ada).await.role, i32::from(Role::Owner));
    world.leave(ben, log).await;
    world.say(ada, log, "without ben").await;
    assert!(world.conversations.list(ben, 1, None, soon()).await.unwrap().items.is_empty());
    world.add(ada, log, ben).await;
    assert_eq!(body(&head(ben).await), None, "it was said while he was away");

    let direct = Create { kind: ConversationKind::Direct, title: None, ..group(&[ben]) };
    world.create(ada, direct).await.unwrap();
    assert_eq!(head(ada).await.peer_id, Some(ben.to_wire()));
    assert_eq!(head(ben).await.peer_id, Some(ada.to_wire()));
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_conversations_move_to_the_front() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let mut logs = Vec::new();
    for _ in 0..7 {
        logs.push(world.group(ada, &[]).await);
    }
    // Three of the same moment are told apart by their ids.
    let same: Vec<_> = logs[2..5].iter().map(|log| log.0).collect();
    world.sql("UPDATE heads SET last_at = '2030-01-01' WHERE log_id = ANY ($1)", &[&same]).await;
    let list = async |limit, after| world.conversations.list(ada, limit, after, soon()).await.unwrap();
    let whole = ids(&list(100, None).await.items);
    assert_eq!(whole.len(), 7);

    let first = list(2, None).await;
    assert_eq!((ids(&first.items), first.more), (whole[..2].to_vec(), true));
    // The last of this page and one of a later page become active.
    world
        .sql("UPDATE heads SET last_at = '2031-01-01' WHERE log_id = ANY ($1)", &[&vec![whole[1].0, whole[5].0]])
        .await;
    let second = list(2, last(&first.items)).await;
    assert_eq!((ids(&second.items), second.more), (whole[2..4].to_vec(), true));
    let third = list(2, last(&second.items)).await;
    assert_eq!((ids(&third.items), third.more), (vec![whole[4], whole[6]], false));
    assert!(list(2, last(&third.items)).await.items.is_empty());
}

#[tokio::test]
async fn heads_come_a_hundred_at_a_time_under_one_position() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let fill = "WITH made AS (SELECT gen_random_uuid() AS id, n FROM generate_series(1, 205) n),
                     c AS (INSERT INTO conversations (id, kind, creator_id) SELECT id, 0, $1 FROM made),
                     h AS (INSERT INTO heads (log_id, last_at) SELECT id, now() - n * interval '1 minute' FROM made)
                INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq) SELECT id, $1, 1, n FROM made";
    world.sql(fill, &[&ada.0]).await;
    let mut place = Some(HeadsPlace::first(7));
    let (mut seen, mut pages) = (Vec::new(), Vec::new());
    while let Some(at) = place {
        let page = world.conversations.heads(ada, at, soon()).await.unwrap();
        pages.push(page.items.len());
        assert!(page.next.as_ref().is_none_or(|next| next.as_of_seq == 7));
        seen.extend(page.items);
        place = page.next;
    }
    assert_eq!(pages, [100, 100, 5]);
    let mut distinct = ids(&seen);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 205);
    assert!(seen.is_sorted_by(|a, b| a.last_at_ms >= b.last_at_ms), "newest activity first");
}

#[tokio::test]
async fn members_are_paged_for_members_alone() {
    let world = World::start().await;
    let mut users = world.users::<7>().await;
    users.sort_unstable();
    let [ada, others @ ..] = users;
    let log = world.group(ada, &others[..4]).await;
    world.changed(ada, log, Change::SetRole { user: others[0], role: Role::Admin }).await;
    world.leave(others[1], log).await;
    world.add(ada, log, others[4]).await;
    let members = async |user, limit, after| world.conversations.members(user, log, limit, after, soon()).await;
    let first = members(ada, 3, None).await.unwrap();
    let member =
        |user: UserId, role: Role, joined_seq| wire::Member { user_id: user.to_wire(), role: role.into(), joined_seq };
    let (owner, admin) = (member(ada, Role::Owner, 1), member(others[0], Role::Admin, 1));
    assert_eq!((first.items, first.more), (vec![owner, admin, member(others[2], Role::Member, 1)], true));
    let second = members(ada, 3, Some(others[2])).await.unwrap();
    let rest = vec![member(others[3], Role::Member, 1), member(others[4], Role::Member, 4)];
    assert_eq!((second.items, second.more), (rest, false));
    assert!(
        members(ada, 3, Some(others[4])).await.unwrap().items.is_empty(),
        "behind the last one, and still a member"
    );
    for (name, user) in [("a stranger", others[5]), ("one who left", others[1])] {
        assert_eq!(code(members(user, 3, None).await), Code::NotFound, "{name}");
    }
    let unread = world.attach(others[4], None, vec![cursor(log, 0)]).await.unwrap();
    assert_eq!(unread.logs[0].unread, 0);
}
