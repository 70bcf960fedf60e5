//! Everybody comes back at once, each having missed something in several conversations.

use bowline_protocol::Codec;
use bowline_testkit::Server;
use serde_json::{Value, json};

use crate::client::{Client, send};
use crate::person::Person;
use crate::world::{get, server_with, until};

const USERS: usize = 768;
const CONVERSATIONS: usize = 48;
/// Conversations of one user.
const FOLLOWED: usize = 5;
/// Entries missed in each of them.
const MISSED: u64 = 20;
/// Users who can share a statement.
const BATCH: usize = 256;

/// The change feed looks once a second, storm or none: here never, so that what is counted is the storm's.
const QUIET: [(&str, &str); 1] = [("BOWLINE_LOG_CHANGE_INTERVAL_MS", "60000")];

/// A conversation, and where its members stood when they were cut.
struct Conversation {
    log: String,
    stood: u64,
}

async fn statements(node: &Server) -> u64 {
    let (_, metrics) = get(node.url("/metrics")).await;
    let count = metrics.lines().find_map(|line| line.strip_prefix("bowline_database_statements_total "));
    count.unwrap().parse().unwrap()
}

/// The conversations of a user, by number.
fn of(user: usize) -> impl Iterator<Item = usize> {
    (0..FOLLOWED).map(move |k| (user + k * CONVERSATIONS / FOLLOWED) % CONVERSATIONS)
}

/// Says all of it, some at a time.
async fn say(ada: &mut Client, log: &str, messages: u64) {
    for chunk in (0..messages).collect::<Vec<_>>().chunks(20) {
        let posted = ada.post_all(chunk.iter().map(|n| send(log, &format!("{n}")))).await;
        for id in posted {
            ada.reply(id).await;
        }
    }
}

/// Ada's conversations with everybody, and what everybody missed in them.
async fn past(ada: &mut Client, people: &[Person]) -> Vec<Conversation> {
    let mut members = vec![Vec::new(); CONVERSATIONS];
    for (user, person) in people.iter().enumerate() {
        of(user).for_each(|n| members[n].push(person.user.clone()));
    }
    let mut conversations = Vec::new();
    for (n, user_ids) in members.into_iter().enumerate() {
        let log = ada.create(json!({ "kind": "group", "title": "Regatta", "user_ids": user_ids })).await;
        // What was missed in the first one lies in two pages of the stored log.
        let before = if n == 0 { 119 } else { 0 };
        say(ada, &log, before).await;
        say(ada, &log, MISSED).await;
        conversations.push(Conversation { log, stood: 1 + before });
    }
    conversations
}

/// Sends each one's command before any answer is read; then waits for all of them.
async fn all_at_once(clients: &mut [Client], command: impl Fn(usize) -> Value) {
    let commands: Vec<Value> = (0..clients.len()).map(command).collect();
    let mut posted = Vec::new();
    for (client, command) in clients.iter_mut().zip(commands) {
        posted.push(client.post(command).await);
    }
    for (client, id) in clients.iter_mut().zip(posted) {
        let reply = client.reply(id).await;
        assert!(reply.get("error").is_none(), "{reply}");
        if let Some(connected) = reply.get("connected") {
            client.connected = connected.clone();
        }
    }
}

/// A socket of each, before anything is said on it.
async fn sockets(node: &Server, people: &[Person]) -> Vec<Client> {
    let mut clients = Vec::new();
    for person in people {
        let mut client = Client::open(node.address(), Codec::Proto).await;
        client.person = person.clone();
        clients.push(client);
    }
    clients
}

/// All come for the first time, without a cursor; the statements of it.
async fn first_time(node: &Server, people: &[Person], conversations: &[Conversation]) -> u64 {
    let mut clients = sockets(node, people).await;
    let before = statements(node).await;
    all_at_once(&mut clients, |user| json!({ "connect": { "access_token": people[user].token() } })).await;
    all_at_once(&mut clients, |_| json!({ "resume": {} })).await;
    for (user, client) in clients.iter_mut().enumerate() {
        let heads = client.push("heads").await;
        let listed = heads["items"].as_array().into_iter().flatten();
        let mut listed: Vec<_> = listed.map(|head| head["log_id"].as_str().unwrap().to_owned()).collect();
        let mut expected: Vec<_> = of(user).map(|n| conversations[n].log.clone()).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "the conversations of {user}");
    }
    statements(node).await - before
}

/// All come back; the statements of it.
async fn storm(node: &Server, people: &[Person], conversations: &[Conversation]) -> u64 {
    let mut clients = sockets(node, people).await;
    let before = statements(node).await;
    let joined = FOLLOWED as u64;
    all_at_once(&mut clients, |user| {
        let own = json!({ "log_id": people[user].user, "seq": joined, "epoch": 1 });
        json!({ "connect": { "access_token": people[user].token(), "user_cursor": own } })
    })
    .await;
    let epoch = clients[0].connected["epoch"].clone();
    for (user, client) in clients.iter_mut().enumerate() {
        client.stand_at(&people[user].user, joined);
        of(user).for_each(|n| client.stand_at(&conversations[n].log, conversations[n].stood));
    }
    all_at_once(&mut clients, |user| {
        let cursor = |n: usize| {
            let Conversation { log, stood } = &conversations[n];
            json!({ "log_id": log, "seq": stood, "epoch": epoch })
        };
        json!({ "resume": { "cursors": of(user).map(cursor).collect::<Vec<_>>() } })
    })
    .await;
    for (user, client) in clients.iter_mut().enumerate() {
        for n in of(user) {
            let Conversation { log, stood } = &conversations[n];
            client.push_where("caught_up", |push| push["log_id"] == *log).await;
            assert_eq!(client.seqs(log), (stood + 1..=stood + MISSED).collect::<Vec<_>>(), "what {user} missed");
        }
    }
    statements(node).await - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_resumes_costs_a_read_a_conversation_and_three_statements_for_256_users() {
    let node = server_with(&QUIET).await;
    let people: Vec<Person> = (0..USERS).map(|_| Person::new()).collect();
    let mut ada = Person::new().join(&node).await;
    let conversations = past(&mut ada, &people).await;
    let of_users = 3 * USERS.div_ceil(BATCH) as u64;

    let without_cursors = first_time(&node, &people, &conversations).await;
    assert!(
        without_cursors <= of_users + USERS.div_ceil(BATCH) as u64,
        "{without_cursors} statements with one of heads"
    );

    // Ada is there, so what they missed is in memory.
    let with_tails = storm(&node, &people, &conversations).await;
    assert!(with_tails <= of_users, "{with_tails} statements, nothing of which was to be read");

    // Nobody is: each conversation is read once, for all who come.
    drop(ada);
    until("nobody is connected", async || get(node.url("/metrics")).await.1.contains("\nbowline_sockets 0\n")).await;
    let from_pages = storm(&node, &people, &conversations).await;
    println!("statements: {without_cursors} without cursors, {with_tails} out of tails, {from_pages} out of pages");
    assert!(from_pages <= CONVERSATIONS as u64 + of_users, "{from_pages} statements");
    assert!(from_pages > CONVERSATIONS as u64, "what was in no page can't have come from memory: {from_pages}");
}
