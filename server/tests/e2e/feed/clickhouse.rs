//! A node with a ClickHouse, which is well, does not answer, is gone, fails, and comes back.

use bowline_testkit::{ClickHouse, Fault, FaultProxy, Server, TestDatabase};
use serde_json::{Value, json};

use super::{ANEW, ROOMY, id, posts, sorted};
use crate::client::Client;
use crate::person::Person;
use crate::world::{metric, node, until};

/// Opens after two calls that failed, and looks again soon.
const QUICK: [(&str, &str); 5] = [
    ("BOWLINE_FEED_BREAKER_CALLS", "2"),
    ("BOWLINE_FEED_BREAKER_OPEN_MS", "100"),
    ("BOWLINE_FEED_BREAKER_OPEN_MAX_MS", "200"),
    ("BOWLINE_FEED_BREAKER_PROBES", "1"),
    ("BOWLINE_EXPORT_INTERVAL_MS", "50"),
];

struct World {
    node: Server,
    clickhouse: ClickHouse,
    proxy: FaultProxy,
}

impl World {
    async fn start() -> Self {
        let (clickhouse, database) = tokio::join!(ClickHouse::create(), TestDatabase::create());
        let proxy = FaultProxy::start(&clickhouse.url()).await;
        let settings = [&ROOMY[..], &ANEW, &QUICK, &[("CLICKHOUSE_URL", proxy.url())]].concat();
        let node = node(database.url(), &settings).await;
        Self { node, clickhouse, proxy }
    }

    /// Waits until ClickHouse has counted so many deeds; the tables that the sources read are filled with them.
    async fn has_counted(&self, deeds: usize) {
        until("the schema is there and all is counted", async || {
            let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'events'";
            let counted = "SELECT count() FROM events WHERE kind != 'view'";
            self.clickhouse.query(tables).await == "1" && self.clickhouse.query(counted).await == deeds.to_string()
        })
        .await;
    }

    async fn opened(&self) -> u64 {
        metric(&self.node, "breaker_opened_total").await
    }

    async fn all_closed(&self) -> bool {
        metric(&self.node, "breaker_state").await == 0
    }
}

impl Client {
    async fn gives(&mut self, command: &str, post: &str) {
        self.act(command, json!({ "post_id": post })).await;
    }
}

/// Each post of a page with its place and why it is there.
fn shown(page: &Value) -> Vec<(String, u64, Value)> {
    let items = page["items"].as_array().into_iter().flatten();
    items.map(|item| (id(item), item["place"].as_u64().unwrap(), item["reasons"].clone())).collect()
}

/// The scores are worked out by hand from the weights: 0.30·F + 0.40·E + 0.30·A, of one who is not followed three quarters,
/// of an author's second post 0.625; F is 1, since all of it is a moment old.
#[tokio::test]
async fn a_page_has_what_all_three_sources_give_in_the_order_of_its_scores() {
    let world = World::start().await;
    let join = async || Person::new().join(&world.node).await;
    let (mut ada, mut ben, mut cleo, mut dan) = (join().await, join().await, join().await, join().await);
    ben.follows(&ada).await;
    let followed = ada.write("followed").await;
    let (engaged, beside) = (cleo.write("engaged with").await, cleo.write("beside it").await);
    let (liked, stranger) = (dan.write("liked by many").await, join().await.write("of a stranger").await);
    for command in ["post_like", "post_share"] {
        ben.gives(command, &engaged).await;
    }
    ben.act("comment_create", json!({ "post_id": engaged, "body": "Which harbour?" })).await;
    for _ in 0..12 {
        join().await.gives("post_like", &liked).await;
    }
    world.has_counted(5 + 3 + 12).await;

    let page = ben.page(10, None).await;
    assert_eq!(page.get("degraded"), None, "{page}");
    let expected = [
        (engaged, 1, json!(["trending", "affinity"])), // 0.75·(0.30 + 0.169 + 0.158) = 0.470
        (liked, 2, json!(["trending"])),               // 0.75·(0.30 + 0.222) = 0.392
        (followed, 3, json!(["followee", "trending"])), // 0.30
        (stranger, 4, json!(["trending"])),            // 0.75·0.30 = 0.225
        (beside, 5, json!(["trending", "affinity"])),  // 0.625·0.75·(0.30 + 0.158) = 0.215
    ];
    assert_eq!(shown(&page), expected);
}

/// Pages are whole and say what they lack, the breaker opens and lets nothing through, and closes once ClickHouse answers.
#[tokio::test]
async fn whatever_becomes_of_clickhouse_no_page_is_empty_and_the_breaker_follows() {
    let world = World::start().await;
    let (mut ada, mut ben) = (Person::new().join(&world.node).await, Person::new().join(&world.node).await);
    ben.follows(&ada).await;
    let mut written = Vec::new();
    for n in 0..3 {
        written.push(ada.write(&n.to_string()).await);
    }
    world.has_counted(3).await;
    let whole = sorted(&written);
    let mut look = async || {
        let page = ben.page(10, None).await;
        assert_eq!(sorted(&posts(&page)), whole, "{page}");
        page["degraded"].clone()
    };
    assert_eq!(look().await, Value::Null);
    // What is trending is the same for all, and found anew every five seconds: until then it is not missing.
    let lacks_the_readers_own = |degraded: &Value| {
        [json!(["followee", "affinity"]), json!(["followee", "trending", "affinity"])].contains(degraded)
    };
    for fault in [Fault::Hang, Fault::Reset, Fault::Error, Fault::CutAtAnswer] {
        let opened = world.opened().await;
        world.proxy.set(fault);
        until("the breaker opens", async || {
            assert!(lacks_the_readers_own(&look().await), "{fault:?}");
            world.opened().await > opened
        })
        .await;
        let refused = metric(&world.node, "breaker_refused_total").await;
        until("it lets nothing through", async || {
            assert!(lacks_the_readers_own(&look().await), "{fault:?}");
            metric(&world.node, "breaker_refused_total").await > refused
        })
        .await;
        world.proxy.set(Fault::None);
        until("it closes", async || look().await == Value::Null && world.all_closed().await).await;
    }
}
