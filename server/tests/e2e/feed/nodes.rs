//! Two nodes over one PostgreSQL and one Redis.

use bowline_testkit::{Redis, Server, TestDatabase};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{ROOMY, get_page, id, next_of, posts, sorted};
use crate::client::Client;
use crate::person::Person;
use crate::world::{metric, node, until};

const CALLERS: usize = 1_000;
const MADE: &str = "cache_events_total{cache=\"feed\",event=\"made\"}";

async fn start(redis: &Redis) -> [Server; 2] {
    let database = TestDatabase::create().await;
    let url = redis.url();
    let speaking = [("BOWLINE_HTTP_MAX_SPEAKING", "2000"), ("BOWLINE_HTTP_SPEAKING_SHARE_PERCENT", "100")];
    let settings = [&ROOMY[..], &speaking, &[("REDIS_URL", url.as_str())]].concat();
    let (a, b) = tokio::join!(node(database.url(), &settings), node(database.url(), &settings));
    [a, b]
}

/// Rankings that both have made.
async fn made(nodes: &[Server; 2]) -> u64 {
    metric(&nodes[0], MADE).await + metric(&nodes[1], MADE).await
}

/// All at once for one reader, over HTTP, half of them at each node.
fn ask(nodes: &[Server; 2], reader: &Person) -> JoinSet<(u16, Value)> {
    let (http, mut asking) = (reqwest::Client::new(), JoinSet::new());
    for caller in 0..CALLERS {
        let (http, token) = (http.clone(), reader.token());
        let url = nodes[caller % 2].url("/v1/feed?limit=100");
        asking.spawn(async move {
            let answer = http.get(url).bearer_auth(token).send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        });
    }
    asking
}

/// A reader of somebody who wrote so much.
async fn reader(node: &Server, posts: usize) -> (Client, Vec<String>) {
    let (mut ada, mut ben) = (Person::new().join(node).await, Person::new().join(node).await);
    ben.follows(&ada).await;
    let mut written = Vec::new();
    for n in 0..posts {
        written.push(ada.write(&n.to_string()).await);
    }
    written.sort();
    (ben, written)
}

#[tokio::test]
async fn for_a_thousand_callers_one_ranking_is_made_and_its_cursor_is_good_at_either_node() {
    let redis = Redis::start().await;
    let nodes = start(&redis).await;
    let (ben, written) = reader(&nodes[0], 10).await;
    let pages = ask(&nodes, &ben.person).join_all().await;
    assert_eq!((pages.len(), made(&nodes).await), (CALLERS, 1));
    let ranking = posts(&pages[0].1);
    assert_eq!(sorted(&ranking), written);
    for (status, page) in &pages {
        assert_eq!((*status, posts(page)), (200, ranking.clone()));
    }

    let http = reqwest::Client::new();
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    for node in nodes.iter().cycle() {
        let (status, page) = get_page(&http, node, &ben.person, &query).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(posts(&page));
        let Some(next) = next_of(&page) else { break };
        query = format!("limit=3&cursor={next}");
    }
    assert_eq!(seen, ranking, "no repeat, no hole, from node to node");
    assert_eq!(made(&nodes).await, 1);
}

/// What nobody follows is in a feed too, so a page has at least what was written for its reader.
fn check((status, page): &(u16, Value), written: &[String]) {
    let posts = posts(page);
    assert!(*status == 200 && written.iter().all(|post| posts.contains(post)), "{status}: {page}");
}

#[tokio::test]
async fn redis_is_killed_while_a_thousand_wait_and_pages_go_on() {
    let mut redis = Redis::start().await;
    let nodes = start(&redis).await;
    let (mut ben, written) = reader(&nodes[0], 10).await;
    let first = ben.page(4, None).await;

    let (cleo, hers) = reader(&nodes[0], 5).await;
    let before = made(&nodes).await;
    let asking = ask(&nodes, &cleo.person);
    redis.kill().await;
    asking.join_all().await.iter().for_each(|page| check(page, &hers));
    let made_now = made(&nodes).await - before;
    assert!((1..=2).contains(&made_now), "one a node at the most: {made_now}");

    let mut seen = posts(&first);
    seen.extend(ben.rest(4, next_of(&first)).await.iter().map(id));
    assert_eq!(sorted(&seen), written, "the node that made a ranking still has it");
    let (dan, his) = reader(&nodes[1], 3).await;
    check(&get_page(&reqwest::Client::new(), &nodes[1], &dan.person, "limit=100").await, &his);

    redis.start_again().await;
    until("both nodes have it again", async || {
        metric(&nodes[0], "redis_up").await + metric(&nodes[1], "redis_up").await == 2
    })
    .await;
    let (eve, hers) = reader(&nodes[0], 2).await;
    let before = made(&nodes).await;
    ask(&nodes, &eve.person).join_all().await.iter().for_each(|page| check(page, &hers));
    assert_eq!(made(&nodes).await - before, 1, "the nodes share again");
}
