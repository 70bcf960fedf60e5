//! Messages as they are now, around a place.

use bowline_protocol::command::{Change, Create, Place};
use bowline_protocol::limits::Limits;
use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Code, LogId, Seq, UserId};

use crate::fixture::{World, code, group, soon};

/// What a page shows of its messages, and the range that it covers.
type Shown = (Vec<Seq>, (Seq, Seq));

fn shown(page: &wire::Messages) -> Shown {
    (page.items.iter().map(|item| item.entry.as_ref().unwrap().seq).collect(), (page.after_seq, page.to_seq))
}

fn message(item: &wire::FoldedMessage) -> &wire::Message {
    match item.entry.as_ref().unwrap().content.as_ref().unwrap() {
        Content::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

impl World {
    async fn page(&self, user: UserId, log: LogId, place: Place, limit: u64) -> wire::Messages {
        self.conversations.history(user, log, place, limit, soon()).await.unwrap()
    }

    async fn shown(&self, user: UserId, log: LogId, place: Place, limit: u64) -> Shown {
        shown(&self.page(user, log, place, limit).await)
    }
}

/// Messages at 2, 4, 6 … 20; renamings at the odd seqs between them.
async fn even_messages(world: &World, user: UserId) -> LogId {
    let log = world.group(user, &[]).await;
    for seq in 2..=20 {
        if seq % 2 == 0 {
            world.say(user, log, &format!("at {seq}")).await;
        } else {
            world.changed(user, log, Change::Rename { title: format!("at {seq}") }).await;
        }
    }
    log
}

#[tokio::test]
async fn a_page_stands_around_its_place_and_says_how_far_it_reaches() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let log = even_messages(&world, ada).await;
    #[rustfmt::skip]
    let cases = [
        (Place::Newest,      3,  vec![16, 18, 20],        (15, 20)),
        (Place::Newest,      50, (1..=10).map(|n| n * 2).collect(), (0, 20)),
        (Place::Before(16),  2,  vec![12, 14],            (11, 15)),
        (Place::Before(15),  2,  vec![12, 14],            (11, 14)),
        (Place::Before(4),   2,  vec![2],                 (0, 3)),
        (Place::Before(2),   2,  vec![],                  (0, 1)),
        (Place::Before(0),   2,  vec![],                  (0, 0)),
        (Place::Before(99),  2,  vec![18, 20],            (17, 20)),
        (Place::After(0),    2,  vec![2, 4],              (0, 4)),
        (Place::After(15),   2,  vec![16, 18],            (15, 18)),
        (Place::After(17),   9,  vec![18, 20],            (17, 20)),
        (Place::After(20),   9,  vec![],                  (20, 20)),
        (Place::After(99),   9,  vec![],                  (20, 20)),
        (Place::Around(10),  4,  vec![8, 10, 12, 14],     (7, 14)),
        (Place::Around(11),  3,  vec![8, 10, 12],         (7, 12)),
        (Place::Around(2),   4,  vec![2, 4, 6],           (0, 6)),
        (Place::Around(20),  4,  vec![18, 20],            (17, 20)),
        (Place::Around(10),  1,  vec![10],                (9, 10)),
    ];
    for (place, limit, seqs, range) in cases {
        assert_eq!(world.shown(ada, log, place, limit).await, (seqs, range), "{place:?}, {limit}");
    }
    let page = world.page(ada, log, Place::Newest, 1).await;
    assert_eq!((page.log_id, page.as_of_seq), (log.to_wire(), 20));
    assert_eq!(message(&page.items[0]).body.as_deref(), Some("at 20"));
}

#[tokio::test]
async fn a_page_ends_where_the_rows_that_one_call_reads_end() {
    let world = World::start_with(Limits { history_entries: 6, ..Limits::default() }).await;
    let [ada] = world.users().await;
    let log = even_messages(&world, ada).await;
    assert_eq!(world.shown(ada, log, Place::Newest, 5).await, (vec![16, 18, 20], (14, 20)));
    assert_eq!(world.shown(ada, log, Place::After(2), 5).await, (vec![4, 6, 8], (2, 8)));
    assert_eq!(world.shown(ada, log, Place::Around(10), 6).await, (vec![8, 10, 12], (7, 13)));
    // Page after page, everything comes once.
    let (mut before, mut seen) = (21, Vec::new());
    while before > 1 {
        let (seqs, (after_seq, to_seq)) = world.shown(ada, log, Place::Before(before), 5).await;
        assert_eq!(to_seq, before - 1);
        seen.splice(0..0, seqs);
        before = after_seq + 1;
    }
    assert_eq!(seen, (1..=10).map(|n| n * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_are_as_they_are_now() {
    let world = World::start().await;
    let [ada, ben] = world.users().await;
    let log = world.group(ada, &[ben]).await;
    let [kept, edited, deleted] =
        [world.say(ada, log, "kept").await, world.say(ben, log, "edited").await, world.say(ada, log, "gone").await];
    let edit = Change::Edit { target_seq: edited, version: edited, body: "better".into() };
    let edit_seq = world.changed(ben, log, edit).await;
    let delete_seq = world.changed(ada, log, Change::Delete { target_seq: deleted }).await;
    for (user, emoji, on) in [
        (ada, "⚓", true),
        (ben, "⚓", true),
        (ben, "🪢", true),
        (ada, "🪢", true),
        (ben, "🪢", false),
        (ada, "⛵", true),
        (ada, "⛵", false),
    ] {
        let (target_seq, emoji) = (kept, emoji.to_owned());
        let change = if on { Change::React { target_seq, emoji } } else { Change::Unreact { target_seq, emoji } };
        world.changed(user, log, change).await;
    }
    let page = world.page(ben, log, Place::Newest, 10).await;
    let facts: Vec<_> = page
        .items
        .iter()
        .map(|item| {
            let entry = item.entry.as_ref().unwrap();
            (entry.seq, entry.version, message(item).body.as_deref(), message(item).deleted)
        })
        .collect();
    let expected = [
        (kept, kept, Some("kept"), false),
        (edited, edit_seq, Some("better"), false),
        (deleted, delete_seq, None, true),
    ];
    assert_eq!(facts, expected);
    let count = |emoji: &str, count, mine| wire::ReactionCount { emoji: emoji.into(), count, mine };
    assert_eq!(page.items[0].reactions, [count("⚓", 2, true), count("🪢", 1, false)]);
    assert!(page.items[1..].iter().all(|item| item.reactions.is_empty()));
}

#[tokio::test]
async fn reactions_and_texts_beyond_a_pages_bounds_shorten_the_page() {
    let world = World::start_with(Limits { history_entries: 6, ..Limits::default() }).await;
    let users = world.users::<8>().await;
    let ada = users[0];
    let log = world.group(ada, &users[1..]).await;
    let [first, second, third] =
        [world.say(ada, log, "1").await, world.say(ada, log, "2").await, world.say(ada, log, "3").await];
    for (target_seq, reactions) in [(first, 2), (second, 3), (third, 4)] {
        for user in &users[..reactions] {
            world.changed(*user, log, Change::React { target_seq, emoji: "⚓".into() }).await;
        }
    }
    let counts = |page: &wire::Messages| page.items.iter().map(|item| item.reactions[0].count).collect::<Vec<_>>();
    let newest = world.page(ada, log, Place::Before(third + 1), 3).await;
    assert_eq!((shown(&newest), counts(&newest)), ((vec![third], (third - 1, third)), vec![4]), "4 + 3 are above 6");
    let oldest = world.page(ada, log, Place::After(0), 3).await;
    assert_eq!((shown(&oldest), counts(&oldest)), ((vec![first, second], (0, second)), vec![2, 3]));
    for user in &users[4..] {
        world.changed(*user, log, Change::React { target_seq: third, emoji: "⚓".into() }).await;
    }
    let many = world.page(ada, log, Place::Before(third + 1), 3).await;
    assert_eq!((shown(&many).0, counts(&many)), (vec![third], vec![6]), "one alone shows the newest");

    let world = World::start().await;
    let [ada] = world.users().await;
    let log = world.group(ada, &[]).await;
    let body = "x".repeat(100 * 1024);
    for _ in 0..5 {
        world.say(ada, log, &body).await;
    }
    assert_eq!(world.shown(ada, log, Place::Newest, 5).await, (vec![5, 6], (4, 6)));
    assert_eq!(world.shown(ada, log, Place::Before(5), 5).await, (vec![3, 4], (2, 4)));
    let page = world.page(ada, log, Place::Around(4), 4).await;
    assert_eq!(shown(&page), (vec![4, 5], (3, 5)));
    assert!(page.items.iter().all(|item| message(item).body.as_deref() == Some(&body)));
}

#[tokio::test]
async fn nobody_is_shown_what_was_said_while_he_was_away() {
    let world = World::start().await;
    let [ada, ben, cleo] = world.users().await;
    let scene = async |history_visible| {
        let made = world.create(ada, Create { history_visible, ..group(&[]) }).await.unwrap();
        let log = LogId::from_wire(&made.log_id).unwrap();
        world.say(ada, log, "before").await; // 2
        world.add(ada, log, ben).await; // 3
        world.say(ada, log, "with ben").await; // 4
        world.leave(ben, log).await; // 5
        world.say(ada, log, "without ben").await; // 6
        let edit = Change::Edit { target_seq: 4, version: 4, body: "not for ben".into() };
        world.changed(ada, log, edit).await; // 7
        world.changed(ada, log, Change::React { target_seq: 4, emoji: "⚓".into() }).await; // 8
        log
    };
    let hidden = scene(false).await;
    let page = world.page(ben, hidden, Place::Newest, 10).await;
    assert_eq!((shown(&page), page.as_of_seq), ((vec![4], (0, 5)), 5));
    assert_eq!((message(&page.items[0]).body.as_deref(), &page.items[0].reactions[..]), (None, &[][..]));
    assert_eq!(world.shown(ben, hidden, Place::After(0), 10).await, (vec![4], (0, 5)));
    assert_eq!(world.shown(ben, hidden, Place::Around(6), 10).await, (vec![4], (0, 5)));
    assert_eq!(code(world.conversations.history(cleo, hidden, Place::Newest, 1, soon()).await), Code::NotFound);
    assert_eq!(code(world.conversations.history(ben, LogId::new(), Place::Newest, 1, soon()).await), Code::NotFound);
    world.add(ada, hidden, ben).await; // 9
    world.say(ada, hidden, "ben again").await; // 10
    let page = world.page(ben, hidden, Place::Newest, 10).await;
    assert_eq!(shown(&page), (vec![4, 10], (0, 10)));
    assert_eq!(message(&page.items[0]).body.as_deref(), Some("not for ben"), "a member sees messages as they are");
    assert_eq!(page.items[0].reactions.len(), 1);
    assert_eq!(world.shown(ben, hidden, Place::Before(9), 1).await, (vec![4], (3, 8)), "past what is not his");
    assert_eq!(world.shown(ben, hidden, Place::After(4), 1).await, (vec![10], (4, 10)));

    let visible = scene(true).await;
    assert_eq!(world.shown(ben, visible, Place::Newest, 10).await, (vec![2, 4], (0, 5)));
    world.add(ada, visible, ben).await;
    assert_eq!(world.shown(ben, visible, Place::Newest, 10).await, (vec![2, 4, 6], (0, 9)));
}

#[tokio::test]
async fn a_date_is_found_wherever_it_lies() {
    let world = World::start().await;
    let [ada] = world.users().await;
    let log = even_messages(&world, ada).await;
    // Ten seconds apart, two at a time.
    let spread = "UPDATE entries SET created_at = to_timestamp((seq / 2) * 10) WHERE log_id = $1";
    world.sql(spread, &[&log.0]).await;
    #[rustfmt::skip]
    let cases = [
        ("the first of two at that moment", 50_000, vec![10, 12], (9, 12)),
        ("between two moments",             45_000, vec![10, 12], (9, 12)),
        ("before everything",               -1,     vec![2],      (0, 2)),
        ("after everything",                1_000_000, vec![20],  (19, 20)),
        ("as early as can be said",         i64::MIN, vec![2],    (0, 2)),
        ("as late as can be said",          i64::MAX, vec![20],   (19, 20)),
    ];
    for (name, at_ms, seqs, range) in cases {
        assert_eq!(world.shown(ada, log, Place::AroundTime { at_ms }, 2).await, (seqs, range), "{name}");
    }
    world.sql("UPDATE heads SET first_seq = 11 WHERE log_id = $1", &[&log.0]).await;
    world.sql("DELETE FROM entries WHERE log_id = $1 AND seq < 11", &[&log.0]).await;
    assert_eq!(world.shown(ada, log, Place::AroundTime { at_ms: 0 }, 2).await, (vec![12], (0, 12)), "trimmed");
    assert_eq!(world.shown(ada, log, Place::Before(15), 9).await, (vec![12, 14], (0, 14)), "nothing older is kept");
}
