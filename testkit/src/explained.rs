//! How PostgreSQL runs a statement: the plans, those inside of functions too, as `auto_explain` tells them.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::TestDatabase;

/// Runs statements and sees the plan of each, those inside of functions too.
pub struct Explained {
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
}

/// What the plans of one statement do.
#[derive(Debug, Default)]
pub struct Found {
    pub indexes: BTreeSet<String>,
    /// Scans of whole tables, and sorts of what comes from one.
    pub wrong: Vec<String>,
    /// Pages of tables and indexes, the catalogue's not counted.
    pub buffers: u64,
}

impl Explained {
    /// All that is done on this connection is one transaction, which is taken back when it ends.
    pub async fn connect(database: &TestDatabase) -> Self {
        let (client, mut connection) =
            tokio_postgres::connect(database.url(), NoTls).await.expect("a statement that is explained");
        let notices = Arc::new(Mutex::new(Vec::new()));
        let seen = notices.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    seen.lock().expect("the notices").push(notice.message().to_owned());
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
            .expect("a session that explains");
        Self { client, notices }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How many rows it returns, and how. What it writes is taken back.
    pub async fn run(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> (u64, Found) {
        self.notices.lock().expect("the notices").clear();
        self.client.batch_execute("SAVEPOINT before").await.expect("a statement that is explained");
        let rows = self.client.query(sql, parameters).await.expect("a statement that is explained").len() as u64;
        // The plan of the statement itself is told when its portal goes.
        self.client.batch_execute("SELECT 1; ROLLBACK TO before").await.expect("a statement that is explained");
        let mut found = Found::default();
        let plans = std::mem::take(&mut *self.notices.lock().expect("the notices"));
        for plan in plans.iter().filter_map(|text| text.split_once("plan:")) {
            let plan: Value = serde_json::from_str(plan.1).expect("a plan");
            found.walk(&plan["Plan"]);
        }
        (rows, found)
    }
}

impl Found {
    /// Whether a table is read below.
    fn walk(&mut self, plan: &Value) -> bool {
        let node = plan["Node Type"].as_str().expect("a node type");
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
    plan["Shared Hit Blocks"].as_u64().unwrap_or_default() + plan["Shared Read Blocks"].as_u64().unwrap_or_default()
}
