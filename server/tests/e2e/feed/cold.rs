//! A thousand readers come at once, and nothing is cached for any of them.

use bowline_testkit::TestDatabase;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{ROOMY, get_page, posts};
use crate::person::Person;
use crate::world::{metric, node, until};

const READERS: usize = 1_000;
const PERMITS: usize = 5;

/// Whom a reader follows can't be read for a while, so that whoever makes a ranking stays at it. No more of them than have a
/// permit are in the database, and the others have a page meanwhile.
#[tokio::test]
async fn a_few_make_a_ranking_and_nobody_who_follows_somebody_has_an_empty_page() {
    let database = TestDatabase::create().await;
    let permits = PERMITS.to_string();
    let settings = [
        ("BOWLINE_FEED_FALLBACK_PERMITS", permits.as_str()),
        // No longer than it takes to see that there is no place.
        ("BOWLINE_FEED_FALLBACK_WAIT_MS", "50"),
        ("BOWLINE_FEED_BUDGET_CANDIDATES_MS", "6500"),
        ("BOWLINE_FEED_BUDGET_FALLBACK_MS", "20"),
        ("BOWLINE_FEED_BUDGET_CACHE_MS", "20"),
        ("BOWLINE_HTTP_MAX_SPEAKING", "2000"),
        ("BOWLINE_HTTP_SPEAKING_SHARE_PERCENT", "100"),
    ];
    let node = std::sync::Arc::new(node(database.url(), &[&ROOMY[..], &settings].concat()).await);
    let mut ada = Person::new().join(&node).await;
    for n in 0..3 {
        ada.write(&n.to_string()).await;
    }
    let readers: Vec<Person> = (0..READERS).map(|_| Person::new()).collect();
    let ids: Vec<Uuid> = readers.iter().map(|reader| reader.user.parse().unwrap()).collect();
    let author: Uuid = ada.person.user.parse().unwrap();
    let (watching, holding) = (database.connect().await, database.connect().await);
    let follow = "INSERT INTO follows SELECT follower, $2, now() FROM unnest($1::uuid[]) AS f (follower)";
    watching.execute(follow, &[&ids, &author]).await.unwrap();
    holding.batch_execute("BEGIN; LOCK TABLE follows IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let (http, mut asking) = (reqwest::Client::new(), JoinSet::new());
    for reader in readers {
        let (http, node) = (http.clone(), node.clone());
        asking.spawn(async move { get_page(&http, &node, &reader, "limit=10").await });
    }
    let inside = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                      AND query LIKE '%feed_%' AND wait_event_type = 'Lock'";
    let (mut answered, mut most) = (Vec::new(), 0);
    until("all are answered who have no permit", async || {
        answered.extend(std::iter::from_fn(|| asking.try_join_next()).map(Result::unwrap));
        let there: i64 = watching.query_one(inside, &[]).await.unwrap().get(0);
        most = most.max(there);
        assert!(metric(&node, "feed_fallback_inside").await <= PERMITS as u64);
        answered.len() >= READERS - PERMITS
    })
    .await;
    assert_eq!(most, PERMITS as i64, "all permits, and no more");
    assert!(metric(&node, "feed_fallback_refused_total").await > 0);
    holding.batch_execute("ROLLBACK").await.unwrap();
    answered.extend(asking.join_all().await);
    assert_eq!(answered.len(), READERS);
    for (status, page) in &answered {
        assert_eq!((*status, posts(page).len()), (200, 3), "{page}");
    }
}
