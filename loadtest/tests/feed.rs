//! The scenario of the feed, against a real server on PostgreSQL alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_testkit::{Server, TestDatabase};
use serde_json::Value;
use tokio::process::Command;

const SECRET: &str = "a secret of at least thirty-two bytes";
/// Far longer than a run takes: the bound is for a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server on a database of its own.
async fn server() -> Server {
    let database = TestDatabase::create().await;
    let program: PathBuf = Path::new(env!("CARGO_BIN_EXE_bowline-loadtest")).with_file_name("bowline");
    assert!(program.is_file(), "cargo build --package bowline comes first");
    let settings = [("BOWLINE_ACCOUNTS_TOKENS_SECRET", SECRET)];
    Server::start(program.to_str().expect("a path of text"), database.url(), &settings).await
}

/// The exit code, and the result as JSON.
async fn run(server: &Server, arguments: &str, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-loadtest"));
    command.arg("feed").args(arguments.split_whitespace()).args(more);
    if !arguments.contains("--users") {
        command.args(["--users", "40"]);
    }
    command.args(["--transcript", "data/irc-ubuntu.jsonl.gz", "--posts-each", "3"]);
    command.args(["--url", &server.url(""), "--token-secret", SECRET, "--issuer", "bowline"]);
    command.args(["--output", "json", "--timeout", "60s"]).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("the tool runs");
    eprintln!("{arguments}\n{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn count(result: &Value, pointer: &str) -> u64 {
    result.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} of {result:#}"))
}

#[tokio::test]
async fn pages_come_whole_over_both_ways_and_seeding_again_changes_nothing() {
    let server = server().await;
    let mut people = Vec::new();
    for how in ["", "--http", "--cold --no-seed"] {
        let (_, result) = run(&server, &format!("{how} --rate 30 --duration 1s --limit 5"), &[]).await;
        for wrong in ["/empty", "/empty_of_strangers", "/repeated", "/unanswered", "/not_asked"] {
            assert_eq!(count(&result, wrong), 0, "{how}: {wrong} of {result:#}");
        }
        assert_eq!((count(&result, "/asked"), count(&result, "/pages")), (30, 30), "{how}: {result:#}");
        people.push(result["seeded"]["people"].clone());
        let seeded = result["seeded"]["took_s"].is_number();
        assert_eq!(seeded, how.is_empty(), "{how}: what is there is not seeded again");
    }
    assert_eq!(people, [40, 40, 40]);
}

#[tokio::test]
async fn a_larger_population_grows_out_of_a_smaller_one() {
    let server = server().await;
    for users in [20, 60] {
        let (_, result) = run(&server, &format!("--users {users} --rate 20 --duration 500ms"), &[]).await;
        assert!(result["seeded"]["took_s"].is_number(), "{users}: {result:#}");
        assert_eq!((count(&result, "/seeded/people"), count(&result, "/pages")), (users, 10), "{result:#}");
    }
}

#[tokio::test]
async fn who_goes_deeper_sees_no_post_twice_while_others_do_things_and_subscribers_hear_of_them() {
    let server = server().await;
    let load = "--rate 40 --duration 3s --limit 3 --readers 6 --deeper 0.7 --engage 20 --subscribers 3";
    let (_, result) = run(&server, load, &["--at", "1=exit 3"]).await;
    assert_eq!((count(&result, "/pages") + count(&result, "/cursor_expired"), count(&result, "/repeated")), (120, 0));
    assert!(count(&result, "/further/count") > 30, "{result:#}");
    assert!(count(&result, "/engaged/likes") > 0 && count(&result, "/engaged/posts") > 0, "{result:#}");
    assert_eq!((count(&result, "/live/due"), count(&result, "/live/posts")), (9, 3), "{result:#}");
    assert_eq!((count(&result, "/live/missing"), count(&result, "/live/repeated")), (0, 0), "{result:#}");
    assert_eq!(count(&result, "/live/pushed") + count(&result, "/live/by_page"), 9, "{result:#}");
    assert_eq!(count(&result, "/commands/0/exit_code"), 3);
    assert_eq!(count(&result, "/phases/0/asked") + count(&result, "/phases/1/asked"), 120);
    assert!(count(&result, "/trace/looks") > 3 && result["trace"]["cache"]["made"].is_number(), "{result:#}");
}

#[tokio::test]
async fn a_burst_for_one_user_makes_his_ranking_once() {
    let server = server().await;
    let (_, result) = run(&server, "--burst 30 --same", &[]).await;
    assert_eq!((count(&result, "/pages"), &result["burst"]["rebuilds"]), (30, &Value::from(1.0)), "{result:#}");
    let (_, result) = run(&server, "--burst 30 --no-seed", &[]).await;
    assert_eq!((count(&result, "/pages"), count(&result, "/empty")), (30, 0), "{result:#}");
}

#[tokio::test]
async fn pages_that_do_not_come_fail_the_run() {
    // Nobody was seeded: there is no post to show.
    let bare = server().await;
    let (code, result) = run(&bare, "--rate 20 --duration 1s --no-seed", &[]).await;
    assert_eq!(code, Some(1), "{result:#}");
    assert!(count(&result, "/empty") > 0 && count(&result, "/empty_of_strangers") > 0, "{result:#}");
    assert!(result["verdict"].as_str().is_some_and(|verdict| verdict.contains("empty")), "{result:#}");
}
