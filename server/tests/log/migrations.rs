use bowline::deadline::Deadline;
use bowline::storage::migrate;
use bowline_testkit::TestDatabase;

use crate::fixture::*;

#[tokio::test]
async fn every_migration_has_its_way_back_with_data_in_place() {
    let database = TestDatabase::empty().await;
    let url = database.url().to_owned().into();
    let numbers = migrate::up(&url, migrate::FILES).await.unwrap();
    assert_eq!(numbers.len() * 2, migrate::FILES.len());
    for kept in (0..numbers.len()).rev() {
        let down_to = if kept == 0 { 0 } else { numbers[kept - 1] };
        let node = Node::start(&database);
        let [a, b] = users(&database).await;
        let log = group(&node, a, &[b]).await;
        node.run(text(log, a, "before")).await.unwrap();
        node.run(command(log, a, bowline::log::Action::RemoveMember(b))).await.unwrap();
        let before = node.whole(log).await;
        assert!(node.log.close(Deadline::after(LONG)).await);

        let back: Vec<_> = numbers[kept..].iter().rev().copied().collect();
        assert_eq!(migrate::down(&url, migrate::FILES, down_to).await.unwrap(), back);
        assert_eq!(migrate::up(&url, migrate::FILES).await.unwrap().len(), back.len());
        let node = Node::start(&database);
        if let Ok(range) = node.log.read(log, 0, 9, Deadline::after(LONG)).await {
            assert_eq!(range.entries, before, "down to {down_to} and up again");
        } else {
            assert!(down_to < 2, "the log itself was taken back");
        }
    }
    migrate::down(&url, migrate::FILES, 0).await.unwrap();
    let left = database
        .connect()
        .await
        .query(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE '\\_sqlx%'
             UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
             UNION ALL SELECT setconfig::text FROM pg_db_role_setting
                       WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
        )
        .await
        .unwrap();
    assert!(left.is_empty(), "left behind: {left:?}");
}
