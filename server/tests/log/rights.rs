use bowline::log::{Action, Stored};
use bowline_protocol::wire::{self, ConversationKind, Role};
use bowline_protocol::{Code, LogId, SessionId, UserId};
use bowline_testkit::TestDatabase;

use crate::fixture::*;

/// A group with one of each role, where the member has said something (seq 5).
struct Place {
    database: TestDatabase,
    node: Node,
    log: LogId,
    owner: UserId,
    admin: UserId,
    member: UserId,
    stranger: UserId,
}

impl Place {
    async fn make() -> Self {
        let database = TestDatabase::create().await;
        let node = Node::start(&database);
        let [owner, admin, member, stranger] = users(&database).await;
        let log = group(&node, owner, &[admin, member]).await;
        let place = Self { database, node, log, owner, admin, member, stranger };
        place.ok(owner, Action::SetRole { user: admin, role: Role::Admin }).await;
        place.ok(owner, said("first")).await;
        place.ok(admin, said("second")).await;
        place.ok(member, said("third")).await;
        place
    }

    async fn run(&self, sender: UserId, action: Action) -> Outcome {
        self.node.run(command(self.log, sender, action)).await
    }

    async fn ok(&self, sender: UserId, action: Action) -> Stored {
        self.run(sender, action).await.unwrap()
    }

    async fn check(&self, what: &str, sender: UserId, action: Action, expected: Result<(), Code>) {
        let outcome = self.run(sender, action).await.map(|_| ()).map_err(|failure| failure.code);
        assert_eq!(outcome, expected, "{what}");
    }
}

fn said(body: &str) -> Action {
    Action::Message(wire::Message { body: Some(body.to_owned()), ..Default::default() })
}

fn edit(target_seq: u64, version: u64) -> Action {
    Action::Edit { target_seq, version, body: "edited".to_owned() }
}

fn react(target_seq: u64) -> Action {
    Action::React { target_seq, emoji: "🪢".to_owned() }
}

const FORBIDDEN: Result<(), Code> = Err(Code::Forbidden);
const NOT_FOUND: Result<(), Code> = Err(Code::NotFound);

#[tokio::test]
async fn who_may_do_what_in_a_group() {
    let place = Place::make().await;
    let Place { owner, admin, member, stranger, .. } = place;
    let add = || Action::AddMembers(vec![stranger]);
    let remove = Action::RemoveMember;
    let role = |user, role| Action::SetRole { user, role };
    for (what, sender, action, expected) in [
        ("a stranger sends", stranger, said("x"), NOT_FOUND),
        ("a stranger reacts", stranger, react(5), NOT_FOUND),
        ("a stranger adds himself", stranger, add(), NOT_FOUND),
        ("a stranger leaves", stranger, Action::Leave, NOT_FOUND),
        ("a member adds", member, add(), FORBIDDEN),
        ("a member removes", member, remove(admin), FORBIDDEN),
        ("a member renames", member, Action::Rename("x".into()), FORBIDDEN),
        ("a member sets a role", member, role(member, Role::Admin), FORBIDDEN),
        ("an admin sets a role", admin, role(member, Role::Admin), FORBIDDEN),
        ("an admin removes the owner", admin, remove(owner), FORBIDDEN),
        ("an admin removes who is not there", admin, remove(stranger), NOT_FOUND),
        ("an owner gives a role to who is not there", owner, role(stranger, Role::Admin), NOT_FOUND),
        ("the last owner leaves", owner, Action::Leave, FORBIDDEN),
        ("the last owner steps down", owner, role(owner, Role::Member), FORBIDDEN),
        ("an admin adds who is there", admin, Action::AddMembers(vec![member]), Err(Code::Conflict)),
        ("an admin renames", admin, Action::Rename("Bends".into()), Ok(())),
        ("an admin adds", admin, add(), Ok(())),
        ("an admin removes a member", admin, remove(stranger), Ok(())),
        ("an owner makes another", owner, role(member, Role::Owner), Ok(())),
        ("one of two owners steps down", owner, role(owner, Role::Admin), Ok(())),
        ("an admin does not remove an admin", owner, remove(admin), FORBIDDEN),
        ("an admin leaves", owner, Action::Leave, Ok(())),
        ("an owner removes an admin", member, remove(admin), Ok(())),
        ("the last one there leaves", member, Action::Leave, Ok(())),
        ("nobody is left to send", member, said("x"), FORBIDDEN),
    ] {
        place.check(what, sender, action, expected).await;
    }
    check_dense(&place.database).await;
}

#[tokio::test]
async fn who_may_change_a_message() {
    let place = Place::make().await;
    let Place { owner, admin, member, .. } = place;
    let gone = Err(Code::TargetGone);
    for (what, sender, action, expected) in [
        ("edit another's", owner, edit(5, 5), FORBIDDEN),
        ("edit one's own", member, edit(5, 5), Ok(())),
        ("edit what was edited", member, edit(5, 5), Err(Code::Conflict)),
        ("react", admin, react(5), Ok(())),
        ("a reaction is no version", member, edit(5, 6), Ok(())),
        ("a member deletes another's", member, Action::Delete { target_seq: 4 }, FORBIDDEN),
        ("an admin deletes another's", admin, Action::Delete { target_seq: 5 }, Ok(())),
        ("edit what was deleted", member, edit(5, 9), gone),
        ("delete what was deleted", admin, Action::Delete { target_seq: 5 }, gone),
        ("react to what was deleted", member, react(5), gone),
        ("edit what is no message", owner, edit(2, 2), NOT_FOUND),
        ("react to what is not there", owner, react(99), NOT_FOUND),
        ("take a reaction back", admin, Action::Unreact { target_seq: 4, emoji: "🪢".into() }, Ok(())),
    ] {
        place.check(what, sender, action, expected).await;
    }
    let conflict = place.run(owner, edit(3, 99)).await.unwrap_err();
    assert_eq!((conflict.code, conflict.version), (Code::Conflict, Some(3)), "a conflict carries the current version");
    assert_eq!(conflict.field.as_deref(), Some("version"));

    let client = place.database.connect().await;
    client
        .batch_execute("UPDATE entries SET created_at = created_at - interval '25 hours' WHERE seq = 4")
        .await
        .unwrap();
    place.check("edit after a day", admin, edit(4, 4), Err(Code::TooLate)).await;
    place.check("delete after a day", admin, Action::Delete { target_seq: 4 }, Ok(())).await;
}

#[tokio::test]
async fn nobody_reacts_to_what_was_said_before_he_came_unless_he_sees_it() {
    let place = Place::make().await;
    place.ok(place.owner, Action::AddMembers(vec![place.stranger])).await;
    place.check("hidden history", place.stranger, react(5), NOT_FOUND).await;
    place.database.connect().await.batch_execute("UPDATE conversations SET history_visible = true").await.unwrap();
    place.check("visible history", place.stranger, react(5), Ok(())).await;
}

#[tokio::test]
async fn a_direct_conversation_is_its_two_people_for_good() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, b, c] = users(&database).await;
    let made = node.run(create(a, ConversationKind::Direct, &[b])).await.unwrap();
    let log = made.conversation.unwrap().0;
    for (sender, action, expected) in [
        (b, said("hello"), Ok(2)),
        (a, Action::AddMembers(vec![c]), Err(Code::Forbidden)),
        (a, Action::RemoveMember(b), Err(Code::Forbidden)),
        (a, Action::Leave, Err(Code::Forbidden)),
        (a, Action::Rename("x".into()), Err(Code::Forbidden)),
        (a, Action::SetRole { user: b, role: Role::Owner }, Err(Code::Forbidden)),
        (a, Action::Delete { target_seq: 2 }, Err(Code::Forbidden)),
        (b, Action::Delete { target_seq: 2 }, Ok(3)),
    ] {
        let outcome = node.run(command(log, sender, action.clone())).await;
        assert_eq!(outcome.map(|stored| stored.seq).map_err(|failure| failure.code), expected, "{action:?}");
    }
    for members in [vec![], vec![a], vec![b, c]] {
        let failure = node.run(create(a, ConversationKind::Direct, &members)).await.unwrap_err();
        assert_eq!(failure.code, Code::Invalid, "{members:?}");
    }
}

#[tokio::test]
async fn a_user_log_is_its_users_alone() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, b] = users(&database).await;
    let session = SessionId::new();
    let client = database.connect().await;
    client
        .execute(
            "INSERT INTO sessions (id, user_id, refresh_hash, expires_at) VALUES ($1, $2, '', now() + interval '1 day')",
            &[&session.0, &a.0],
        )
        .await
        .unwrap();
    let log = group(&node, a, &[]).await;
    let mute = Action::Mute { conversation: log, muted: true };
    let revoke = |session| Action::RevokeSession(Some(session));
    for (what, log, sender, action, expected) in [
        ("a message", a.log(), a, said("x"), NOT_FOUND),
        ("another's session", a.log(), b, revoke(session), NOT_FOUND),
        ("another's session in one's own log", b.log(), b, revoke(session), NOT_FOUND),
        ("mute where one is not", b.log(), b, mute.clone(), NOT_FOUND),
        ("create in another's log", a.log(), b, create(b, ConversationKind::Group, &[]).action, NOT_FOUND),
        ("mute", a.log(), a, mute, Ok(())),
        ("a session", a.log(), a, revoke(session), Ok(())),
        ("all sessions", a.log(), a, Action::RevokeSession(None), Ok(())),
    ] {
        let outcome = node.run(command(log, sender, action)).await.map(|_| ()).map_err(|failure| failure.code);
        assert_eq!(outcome, expected, "{what}");
    }
    let row = client
        .query_one(
            "SELECT s.revoked_at IS NOT NULL, u.sessions_revoked_before IS NOT NULL, m.muted
             FROM sessions s JOIN users u ON u.id = s.user_id JOIN membership m ON m.user_id = u.id",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (true, true, true));
}

#[tokio::test]
async fn people_who_are_named_for_the_first_time_get_their_log() {
    let database = TestDatabase::create().await;
    let node = Node::start(&database);
    let [a, stranger] = users(&database).await;
    let (unknown, forged) = (UserId::new(), UserId::new());
    let log = group(&node, a, &[unknown]).await;
    let refused = node.run(command(log, stranger, Action::AddMembers(vec![forged]))).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    let thousand: Vec<_> = (0..1_000).map(|_| UserId::new()).collect();
    node.run(command(log, a, Action::AddMembers(thousand.clone()))).await.unwrap();
    let failure = node.run(command(log, a, Action::AddMembers([thousand.clone(), vec![forged]].concat()))).await;
    assert_eq!(failure.unwrap_err().limit, Some(1_000));

    assert_eq!(node.whole(unknown.log()).await.len(), 1);
    assert_eq!(node.whole(thousand[999].log()).await.len(), 1);
    let count = |sql| {
        let database = database.clone();
        async move { database.connect().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) }
    };
    assert_eq!(count("SELECT count(*) FROM users").await, 1_003, "a stranger makes nobody");
    assert_eq!(count("SELECT count(*) FROM membership WHERE left_seq IS NULL").await, 1_002);
    assert_eq!(count("SELECT count(*) FROM read_positions WHERE seq = 2").await, 1_000);
    check_dense(&database).await;
}
