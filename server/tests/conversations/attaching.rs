//! What a session follows and from where.

use bowline::conversations::{AttachedLog, Attachment};
use bowline::tail::Span;
use bowline_protocol::command::{Create, Cursor};
use bowline_protocol::limits::Limits;
use bowline_protocol::{Code, LogId, Seq, SessionId, UserId};

use crate::fixture::{World, code, cursor, group, identity, named, now_ms, soon};

fn of(attachment: &Attachment, log: LogId) -> &AttachedLog {
    attachment.logs.iter().find(|attached| attached.log == log).unwrap_or_else(|| panic!("{log} is not attached"))
}

fn span(visible_from: Seq, left_seq: Option<Seq>) -> Span {
    Span { visible_from, left_seq }
}

/// Where a cursor stands after a restore, in a log that had five entries before it and has eight now.
#[tokio::test]
async fn a_cursor_is_taken_as_far_as_it_can_be_trusted() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[]).await;
    for _ in 2..=5 {
        world.say(ada, log, "before the restore").await;
    }
    // Five entries in ada's own log as well: `joined`, and ben in four others of hers.
    for _ in 2..=5 {
        world.group(ada, &[]).await;
    }
    world.bump_epoch().await;
    for _ in 6..=8 {
        world.say(ada, log, "after it").await;
        world.group(ada, &[]).await;
    }
    assert_eq!((world.head(log).await, world.head(ada.log()).await), (8, 8));

    #[rustfmt::skip]
    let cases = [
        // (seq, epoch) -> after_seq, first_unsure_seq
        ("right",                         (3, 2),  3, None),
        ("at the head",                   (8, 2),  8, None),
        ("before everything",             (0, 2),  0, None),
        ("above the head",                (20, 2), 8, Some(9)),
        ("before the histories part",     (3, 1),  3, Some(6)),
        ("where they part",               (5, 1),  5, Some(6)),
        ("behind it",                     (7, 1),  7, Some(6)),
        ("far behind it",                 (90, 1), 8, Some(6)),
        ("of no epoch",                   (3, 0),  3, Some(1)),
        ("of an epoch that is not yet",   (3, 9),  3, Some(1)),
    ];
    for (name, (seq, epoch), after_seq, first_unsure_seq) in cases {
        let named = Cursor { log, seq, epoch };
        let own = Cursor { log: ada.log(), seq, epoch };
        let attachment = world.attach(ada, Some(own), vec![named]).await.unwrap();
        let expected = (after_seq, first_unsure_seq.map(|seq| (seq, 2)), 8, true);
        for found in [of(&attachment, log), attachment.user_replay.as_ref().unwrap()] {
            assert_eq!((found.after_seq, found.reset, found.as_of_seq, found.named), expected, "{name}");
        }
        assert_eq!(attachment.user_as_of_seq, 8);
    }

    // A log that was lost and is there again has another history from its first entry on.
    let later = world.group(ben, &[ada]).await;
    let attachment = world.attach(ada, None, vec![cursor(later, 1)]).await.unwrap();
    assert_eq!(of(&attachment, later).reset, Some((1, 2)));
}

#[tokio::test]
async fn a_conversation_without_a_name_starts_at_its_head_or_at_a_joining_not_yet_known() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let old = world.group(ada, &[ben]).await;
    world.say(ada, old, "one").await;
    let known = world.head(ben.log()).await;
    let new = world.group(ada, &[]).await;
    world.say(ada, new, "two").await;
    let joined = world.add(ada, new, ben).await;
    world.say(ada, new, "three").await;

    let starts = async |user_cursor: Option<Cursor>| {
        let attachment = world.attach(ben, user_cursor, Vec::new()).await.unwrap();
        assert_eq!(attachment.user_replay.is_some(), user_cursor.is_some_and(|c| c.log == ben.log()));
        assert_eq!(attachment.logs.iter().map(|log| log.log).collect::<Vec<_>>(), [new, old], "newest activity first");
        assert!(attachment.logs.iter().all(|log| !log.named));
        (of(&attachment, old).after_seq, of(&attachment, new).after_seq)
    };
    let own = |seq| Some(cursor(ben.log(), seq));
    assert_eq!(starts(own(known)).await, (2, joined - 1), "joined since");
    assert_eq!(starts(own(known + 1)).await, (2, 4), "joined before");
    assert_eq!(starts(own(0)).await, (0, joined - 1), "from the first entry on");
    assert_eq!(starts(None).await, (2, 4), "heads come instead");
    assert_eq!(starts(Some(cursor(ada.log(), known))).await, (2, 4), "the log of somebody else");
    // One that can't be trusted back to before the joining.
    let unsure = Some(Cursor { log: ben.log(), seq: known + 1, epoch: 0 });
    assert_eq!(starts(unsure).await, (0, joined - 1), "of no epoch");
}

#[tokio::test]
async fn stays_are_spans_and_the_visible_past_is_one_span_from_the_beginning() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    for history_visible in [false, true] {
        let made = world.create(ada, Create { history_visible, ..group(&[]) }).await.unwrap();
        let log = LogId::from_wire(&made.log_id).unwrap();
        let check = async |name: &str, named: bool, stays: &[Span], visible: &[Span]| {
            let cursors = if named { vec![cursor(log, 0)] } else { Vec::new() };
            let attachment = world.attach(ben, None, cursors).await.unwrap();
            let found = attachment.logs.iter().find(|attached| attached.log == log).map(|attached| &attached.spans[..]);
            let expected = if history_visible { visible } else { stays };
            assert_eq!(found.unwrap_or_default(), expected, "{name}, history visible: {history_visible}");
            assert_eq!(attachment.unknown, if named && expected.is_empty() { vec![log] } else { vec![] }, "{name}");
        };
        check("a stranger", true, &[], &[]).await;
        assert_eq!(world.add(ada, log, ben).await, 2);
        check("a member", false, &[span(2, None)], &[span(0, None)]).await;
        world.say(ada, log, "hello").await;
        assert_eq!(world.leave(ben, log).await, 4);
        check("gone, unnamed", false, &[], &[]).await;
        check("gone, named", true, &[span(2, Some(4))], &[span(0, Some(4))]).await;
        world.say(ada, log, "not for ben, unless the history is").await;
        assert_eq!(world.add(ada, log, ben).await, 6);
        check("back", false, &[span(2, Some(4)), span(6, None)], &[span(0, None)]).await;
    }
}

#[tokio::test]
async fn unread_counts_messages_from_the_last_one_read_to_the_last_one_for_him() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[]).await;
    world.say(ada, log, "before ben").await;
    world.add(ada, log, ben).await;
    let unread = async || {
        let attachment = world.attach(ben, None, vec![cursor(log, 0)]).await.unwrap();
        let attached = of(&attachment, log);
        (attached.read_seq, attached.unread)
    };
    assert_eq!(unread().await, (3, 0), "joining reads");
    let read = world.say(ada, log, "first").await;
    world.changed(ada, log, bowline_protocol::command::Change::Rename { title: "no message".into() }).await;
    world.say(ada, log, "second").await;
    assert_eq!(unread().await, (3, 2));
    world.conversations.mark_read(ben, log, read);
    world.receipts().await;
    assert_eq!(unread().await, (read, 1));
    world.sql("DELETE FROM read_positions", &[]).await;
    assert_eq!(unread().await, (0, 2), "nothing known of him: since joining");
    world.leave(ben, log).await;
    world.say(ada, log, "after ben").await;
    assert_eq!(unread().await, (0, 2), "what came after him is not his to read");
}

#[tokio::test]
async fn what_is_named_and_not_there_is_said_and_ones_own_log_is_no_conversation() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[]).await;
    let foreign = world.group(ben, &[]).await;
    let nowhere = LogId::new();
    let named = [log, foreign, nowhere, ada.log(), ben.log(), log];
    let named = named.iter().enumerate().map(|(seq, log)| cursor(*log, seq as Seq)).collect();
    let attachment = world.attach(ada, None, named).await.unwrap();
    let mut unknown = vec![foreign, nowhere, ben.log()];
    unknown.sort_unstable();
    assert_eq!(attachment.unknown, unknown);
    assert_eq!(attachment.logs.len(), 1);
    assert_eq!(of(&attachment, log).after_seq, 1, "named twice: the last one, which is above the head");
    assert!(attachment.user_replay.is_none());
}

#[tokio::test]
async fn only_so_many_are_followed_the_named_and_the_newest_of_the_others() {
    let world = World::start_with(Limits { conversations: 3, ..Limits::default() }).await;
    let [ada] = world.users().await;
    let mut logs = Vec::new();
    for _ in 0..5 {
        logs.push(world.group(ada, &[]).await);
    }
    let attachment = world.attach(ada, None, vec![cursor(logs[0], 0)]).await.unwrap();
    let followed: Vec<_> = attachment.logs.iter().map(|log| log.log).collect();
    assert_eq!(followed, [logs[4], logs[3], logs[0]]);
}

#[tokio::test]
async fn one_log_is_attached_for_its_members_alone() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    world.group(ada, &[ben]).await;
    world.say(ada, log, "hello").await;
    let one = async |user: UserId, log, after_seq| {
        world.conversations.attach_one(user, log, after_seq, soon()).await.unwrap()
    };
    let attached = one(ben, log, 1).await.unwrap();
    assert_eq!((attached.log, attached.after_seq, attached.as_of_seq, attached.named), (log, 1, 2, false));
    assert_eq!(attached.spans, [span(1, None)]);
    assert_eq!(one(ben, log, 99).await.unwrap().after_seq, 2, "never above the head");
    let own = one(ben, ben.log(), 1).await.unwrap();
    assert_eq!((own.log, own.after_seq, own.as_of_seq), (ben.log(), 1, 2));
    assert!(one(ben, ada.log(), 0).await.is_none());
    assert!(one(ben, LogId::new(), 0).await.is_none());
    world.leave(ben, log).await;
    assert_eq!(one(ben, log, 0).await.unwrap().spans, [span(1, Some(3))], "one who left has what was for him");
}

#[tokio::test]
async fn a_session_that_was_ended_attaches_nothing() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let ours = SessionId::new();
    let other = SessionId::new();
    for session in [ours, other] {
        let sql = "INSERT INTO sessions (id, user_id, refresh_hash, family_hash, expires_at)
                   VALUES ($1, $2, '', '', now() + interval '1 day')";
        world.sql(sql, &[&session.0, &ada.0]).await;
    }
    let attach = async |user: UserId, session, issued_at_ms| {
        let identity = bowline::accounts::Identity { session, issued_at_ms, ..identity(user) };
        world.conversations.attach(&identity, None, named(&[]), soon()).await.map(|_| ())
    };
    let before = now_ms() - 60_000;
    let external = SessionId::new();
    attach(ada, ours, before).await.unwrap();
    attach(ada, external, before).await.unwrap();
    assert_eq!(code(attach(ben, ours, now_ms()).await), Code::Revoked, "the session of somebody else");

    world.revoke(ada, Some(ours)).await;
    assert_eq!(code(attach(ada, ours, now_ms()).await), Code::Revoked);
    attach(ada, other, before).await.unwrap();
    attach(ada, external, before).await.unwrap();

    world.revoke(ada, None).await;
    assert_eq!(code(attach(ada, other, now_ms()).await), Code::Revoked);
    assert_eq!(code(attach(ada, external, before).await), Code::Revoked, "a token from before");
    attach(ada, external, now_ms() + 60_000).await.unwrap();
    assert_eq!(code(attach(UserId::new(), external, now_ms()).await), Code::Revoked, "no such user");
    attach(ben, SessionId::new(), before).await.unwrap();
}
