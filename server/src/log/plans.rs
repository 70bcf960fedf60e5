//! How PostgreSQL runs the hot statements on a million rows, before and after it has gathered statistics.
#![cfg(test)]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use bowline_testkit::TestDatabase;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::store;

const MILLION: &str = include_str!("../../tests/log/million.sql");

/// What a client does when it attaches: its conversations, their heads, and what it has not read.
const UNREAD: &str = "SELECT m.conversation_id, h.last_seq, h.last_message_no - r.message_no
    FROM membership m JOIN heads h ON h.log_id = m.conversation_id
    JOIN read_positions r ON r.user_id = m.user_id AND r.conversation_id = m.conversation_id
    WHERE m.user_id = $1 AND m.left_seq IS NULL";

/// $1 log, $2 sender, $3 client_id.
const APPEND: &str =
    "SELECT outcome, seq FROM append(1, ARRAY[$1::uuid], '{1}', ARRAY[$2::uuid], '{0}', ARRAY[$3::uuid], '{7}',
    '{16}', '{NULL}', '{NULL}', '{x}', '{NULL}')";

/// $1 log, $2 sender: of the message at seq 1, as it was sent.
const EDIT: &str =
    "SELECT outcome, seq FROM append(1, ARRAY[$1::uuid], '{1}', ARRAY[$2::uuid], '{0}', ARRAY[gen_random_uuid()],
    '{7}', '{17}', '{1}', '{1}', '{x}', '{NULL}')";

/// $1 log of the conversation and those of the new members, $2 sender, $3 the new members.
const ADD: &str =
    "SELECT outcome, seq FROM append(1, $1, '{1}', ARRAY[$2::uuid], '{0}', ARRAY[gen_random_uuid()], '{7}',
    '{23}', '{NULL}', '{NULL}', '{NULL}', ARRAY[jsonb_build_object('members', $3::uuid[])]) WHERE outcome = 0";

/// What is run, its parameters, how many rows it returns, the indexes that it uses, and the most pages that it reads.
type Check<'a> = (&'a str, &'a str, &'a [&'a (dyn ToSql + Sync)], u64, &'a [&'a str], u64);

/// Runs statements and sees the plan of each, those inside of functions too.
struct Explained {
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
}

/// What the plans of one statement do.
#[derive(Debug, Default)]
struct Found {
    indexes: BTreeSet<String>,
    /// Scans of whole tables, and sorts of what comes from one.
    wrong: Vec<String>,
    /// Pages of tables and indexes, the catalogue's not counted.
    buffers: u64,
}

impl Explained {
    async fn connect(database: &TestDatabase) -> Self {
        let (client, mut connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let seen = notices.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    seen.lock().unwrap().push(notice.message().to_owned());
                }
            }
        });
        client
            .batch_execute(
                "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
                 SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; SET auto_explain.log_timing = off;
                 SET auto_explain.log_format = json; SET client_min_messages = log; SET statement_timeout = 0; BEGIN",
            )
            .await
            .unwrap();
        Self { client, notices }
    }

    async fn run(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> (u64, Found) {
        self.notices.lock().unwrap().clear();
        self.client.batch_execute("SAVEPOINT before").await.unwrap();
        let rows = self.client.query(sql, parameters).await.unwrap().len() as u64;
        // The plan of the statement itself is told when its portal goes.
        self.client.batch_execute("SELECT 1; ROLLBACK TO before").await.unwrap();
        let mut found = Found::default();
        let plans = std::mem::take(&mut *self.notices.lock().unwrap());
        for plan in plans.iter().filter_map(|text| text.split_once("plan:")) {
            let plan: Value = serde_json::from_str(plan.1).unwrap();
            found.walk(&plan["Plan"]);
        }
        (rows, found)
    }
}

impl Found {
    /// Whether a table is read below.
    fn walk(&mut self, plan: &Value) -> bool {
        let node = plan["Node Type"].as_str().unwrap();
        if let Some(index) = plan["Index Name"].as_str() {
            self.indexes.insert(index.to_owned());
        }
        let mut reads_table = plan["Relation Name"].is_string();
        let mut own_buffers = buffers(plan);
        for below in plan["Plans"].as_array().into_iter().flatten() {
            // A CTE counts for whoever runs it first, which need not be the node above it.
            own_buffers = own_buffers.saturating_sub(buffers(below));
            let is_subplan = below["Parent Relationship"] == "SubPlan" || below["Parent Relationship"] == "InitPlan";
            reads_table |= self.walk(below) && !is_subplan;
        }
        if reads_table || plan["Index Name"].is_string() {
            self.buffers += own_buffers;
        }
        if node == "Seq Scan" || (node.contains("Sort") && reads_table) {
            self.wrong.push(plan.to_string());
        }
        reads_table
    }
}

fn buffers(plan: &Value) -> u64 {
    plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
}

#[tokio::test]
async fn hot_statements_use_their_index_and_read_no_more_than_they_return() {
    let database = TestDatabase::shared("million", MILLION).await;
    let explained = Explained::connect(&database).await;
    let id = |name: &str| {
        let client = &explained.client;
        let sql = format!("SELECT md5('{name}')::uuid");
        async move { client.query_one(&sql, &[]).await.unwrap().get::<_, uuid::Uuid>(0) }
    };
    let (log, user, client_id) = (id("log7").await, id("user35").await, id("client7").await);
    let (after, to, pages) = (880_i64, 1_008_i64, vec![0_i64, 3, 7]);
    let (xmax, xip) = (1_000_005_i64, vec![4_000_i64, 4_500, 7_000]);
    for analysed in [false, true] {
        if analysed {
            // Within the transaction: for the next run the table is as it was.
            explained.client.batch_execute("ANALYZE entries, heads, membership, read_positions").await.unwrap();
        }
        // A page of rows that came among those of a thousand other logs is a block a row.
        let checks: [Check; 8] = [
            ("a range", store::RANGE, &[&log, &after, &to], 128, &["entries_pkey", "heads_pkey"], 260),
            ("pages", store::PAGES, &[&log, &pages], 127 + 128 + 115, &["entries_pkey", "heads_pkey"], 900),
            ("changes", store::CHANGES, &[&xmax, &xip], 1_000, &["entries_txid", "epochs_pkey"], 400),
            ("a cursor's epoch", store::FIRST_UNSURE, &[&log, &0_i64], 1, &["epoch_heads_pkey", "epochs_pkey"], 20),
            ("unread", UNREAD, &[&user], 1, &["heads_pkey", "membership_user", "read_positions_pkey"], 20),
            (
                "a repeat",
                APPEND,
                &[&log, &user, &client_id],
                1,
                &["entries_client_id", "entries_pkey", "epochs_pkey", "heads_pkey", "membership_user"],
                60,
            ),
            (
                "a send",
                APPEND,
                &[&log, &user, &uuid::Uuid::new_v4()],
                1,
                &["entries_client_id", "entries_pkey", "epochs_pkey", "heads_pkey", "membership_user"],
                80,
            ),
            (
                "an edit",
                EDIT,
                &[&log, &user],
                1,
                &[
                    "conversations_pkey",
                    "entries_client_id",
                    "entries_pkey",
                    "epochs_pkey",
                    "heads_pkey",
                    "membership_user",
                ],
                120,
            ),
        ];
        for (what, sql, parameters, rows, indexes, most_buffers) in checks {
            let (returned, found) = explained.run(sql, parameters).await;
            let what = format!("{what}, analysed: {analysed}: {found:#?}");
            assert_eq!(returned, rows, "{what}");
            assert!(found.wrong.is_empty(), "{what}");
            assert!(found.buffers <= most_buffers, "{what}");
            assert!(found.indexes.iter().map(String::as_str).eq(indexes.iter().copied()), "{what}");
        }
    }
}

#[tokio::test]
async fn plans_made_while_the_table_was_empty_hold_when_it_has_grown() {
    let database = TestDatabase::create().await;
    database.connect().await.batch_execute("VACUUM entries").await.unwrap();
    let explained = Explained::connect(&database).await;
    let client = &explained.client;
    let (log, user) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    client.execute("INSERT INTO heads (log_id) VALUES ($1)", &[&log]).await.unwrap();
    let member = "INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq) VALUES ($1, $2, 1, 1)";
    client.execute(member, &[&log, &user]).await.unwrap();
    // A session keeps its plans: these are made here, for what a send does and for what an edit does.
    explained.run(APPEND, &[&log, &user, &uuid::Uuid::new_v4()]).await;
    explained.run(EDIT, &[&log, &user]).await;

    let grow = "INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, kind, sender_kind, body)
                SELECT $1, n, n, n, 1, clock_timestamp(), $2, gen_random_uuid(), 16, 0, 'x' FROM generate_series(1, 20000) n";
    client.execute(grow, &[&log, &user]).await.unwrap();
    client.execute("UPDATE heads SET last_seq = 20000, last_message_no = 20000", &[]).await.unwrap();
    for (what, found) in [
        ("a send", explained.run(APPEND, &[&log, &user, &uuid::Uuid::new_v4()]).await.1),
        ("an edit", explained.run(EDIT, &[&log, &user]).await.1),
    ] {
        assert!(found.buffers <= 60 && found.wrong.is_empty(), "{what}: {found:#?}");
    }
}

#[tokio::test]
async fn adding_members_reads_their_heads_and_nobody_elses() {
    const NEW: usize = 50;
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "INSERT INTO heads (log_id) SELECT md5('user' || n)::uuid FROM generate_series(1, 20000) n;
             INSERT INTO heads (log_id, last_seq) VALUES (md5('talk')::uuid, 1);
             INSERT INTO conversations (id, kind, creator_id) VALUES (md5('talk')::uuid, 0, md5('owner')::uuid);
             INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq, role)
             VALUES (md5('talk')::uuid, md5('owner')::uuid, 1, 1, 2)",
        )
        .await
        .unwrap();
    let ids =
        "SELECT md5('talk')::uuid, md5('owner')::uuid, array_agg(md5('user' || n)::uuid) FROM generate_series(1, 50) n";
    let row = client.query_one(ids, &[]).await.unwrap();
    let (talk, owner, new): (uuid::Uuid, uuid::Uuid, Vec<uuid::Uuid>) = (row.get(0), row.get(1), row.get(2));
    let logs: Vec<uuid::Uuid> = std::iter::once(talk).chain(new.iter().copied()).collect();
    let explained = Explained::connect(&database).await;
    for state in ["never analysed", "analysed"] {
        let (rows, found) = explained.run(ADD, &[&logs, &owner, &new]).await;
        assert_eq!(rows as usize, 1 + NEW, "{state}: the adding, and a `joined` for each");
        // All heads are some 150 pages and 20,000 rows; a person costs a handful of probes and inserts.
        assert!(found.buffers <= 40 * NEW as u64, "{state}: {found:#?}");
        client.batch_execute("ANALYZE").await.unwrap();
    }
}
