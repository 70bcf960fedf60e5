//! How far users have read.

use bowline::conversations::Receipt;
use bowline_protocol::{LogId, Seq, UserId};

use crate::fixture::{World, soon};

async fn position(world: &World, user: UserId, log: LogId) -> Option<(Seq, u64)> {
    let client = world.database.connect().await;
    let sql = "SELECT seq, message_no FROM read_positions WHERE user_id = $1 AND conversation_id = $2";
    let row = client.query_opt(sql, &[&user.0, &log.0]).await.unwrap();
    row.map(|row| (row.get::<_, i64>(0) as Seq, row.get::<_, i64>(1) as u64))
}

#[tokio::test]
async fn the_latest_wins_and_only_what_moved_is_told() {
    let world = World::start().await;
    let [ada, ben, cleo] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    for n in 0..5 {
        world.say(ada, log, &n.to_string()).await;
    }
    world.receipts().await;
    assert_eq!(position(&world, ada, log).await, Some((6, 5)), "a message moves its sender's own position");

    let receipt = |seq, message_no| Receipt { log, user: ben, seq, message_no, to_all: true };
    for seq in [3, 5, 4] {
        world.conversations.mark_read(ben, log, seq);
    }
    assert_eq!(world.receipts().await, [receipt(5, 4)]);
    assert_eq!(position(&world, ben, log).await, Some((5, 4)));
    world.conversations.mark_read(ben, log, 2);
    assert_eq!(world.receipts().await, [], "never backwards");
    world.conversations.mark_read(ben, log, 7);
    assert_eq!(world.receipts().await, [], "nothing is there yet");
    world.conversations.mark_read(cleo, log, 6);
    assert_eq!(world.receipts().await, [], "not a member");
    assert_eq!(position(&world, cleo, log).await, None);
    world.conversations.mark_read(ben, log, 6);
    assert_eq!(world.receipts().await, [receipt(6, 5)]);
    world.leave(ben, log).await;
    world.sql("DELETE FROM read_positions", &[]).await;
    world.conversations.mark_read(ben, log, 6);
    assert_eq!(world.receipts().await, [], "not a member any more");
}

#[tokio::test]
async fn receipts_are_for_all_in_conversations_of_up_to_thirty_two() {
    let world = World::start().await;
    let others = world.users::<32>().await;
    let [ada] = world.users().await;
    for (members, to_all) in [(31, true), (32, false)] {
        let log = world.group(ada, &others[..members]).await;
        let seq = world.say(ada, log, "hello").await;
        world.conversations.mark_read(others[0], log, seq);
        let expected = Receipt { log, user: others[0], seq, message_no: 1, to_all };
        assert_eq!(world.receipts().await, [expected], "{members} and their owner");
    }
}

#[tokio::test]
async fn positions_are_written_without_being_asked_for() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    let seq = world.say(ada, log, "hello").await;
    world.conversations.mark_read(ben, log, seq);
    let until = soon();
    while position(&world, ben, log).await != Some((seq, 1)) {
        assert!(!until.passed(), "the position is never written");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_tried_again_and_newer_positions_stay() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    for n in 0..3 {
        world.say(ada, log, &n.to_string()).await;
    }
    world.receipts().await;
    world.sql("ALTER TABLE read_positions RENAME TO away", &[]).await;
    world.conversations.mark_read(ben, log, 3);
    assert_eq!(world.receipts().await, []);
    world.conversations.mark_read(ben, log, 4);
    world.sql("ALTER TABLE away RENAME TO read_positions", &[]).await;
    assert_eq!(world.receipts().await, [Receipt { log, user: ben, seq: 4, message_no: 3, to_all: true }]);
}
