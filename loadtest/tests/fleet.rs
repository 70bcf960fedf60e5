//! The scenarios that hold many sockets, against a real server: what was acked is delivered exactly, whether one process
//! holds the sockets or several do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_testkit::{Server, TestDatabase};
use serde_json::Value;
use tokio::process::Command;

const SECRET: &str = "a secret of at least thirty-two bytes";
/// Far longer than a scenario takes: the bound is for a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);

async fn server() -> Server {
    server_with(&[]).await
}

async fn server_with(settings: &[(&str, &str)]) -> Server {
    let database = TestDatabase::create().await;
    let program = built("bowline");
    assert!(program.is_file(), "cargo build --package bowline comes first");
    let settings = [&[("BOWLINE_ACCOUNTS_TOKENS_SECRET", SECRET)], settings].concat();
    Server::start(program.to_str().expect("a path of text"), database.url(), &settings).await
}

/// Another program of the workspace, built beside the one under test.
fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_bowline-loadtest")).with_file_name(name)
}

/// What a scenario came to.
struct Ran {
    code: Option<i32>,
    result: Value,
    said: String,
}

async fn run(url: &str, arguments: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-loadtest"));
    command.args(arguments.split_whitespace()).args(["--url", url, "--token-secret", SECRET, "--issuer", "bowline"]);
    command.args(["--output", "json"]).kill_on_drop(true);
    if !arguments.contains("--timeout") {
        command.args(["--timeout", "60s"]);
    }
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("the tool runs");
    let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{arguments}\n{said}");
    Ran { code: output.status.code(), result, said }
}

/// The scenario is good, and came to these figures.
async fn check(server: &Server, arguments: &str, figures: &[(&str, u64)]) -> Value {
    let Ran { code, result, .. } = run(&server.url(""), arguments).await;
    assert_eq!((code, &result["ok"]), (Some(0), &Value::Bool(true)), "{arguments}: {result:#}");
    for (name, value) in figures {
        assert_eq!(result[name].as_u64(), Some(*value), "{arguments}: {name} of {result:#}");
    }
    result
}

#[tokio::test]
async fn fanout_delivers_each_message_to_each_reader() {
    let server = server().await;
    for how in [
        "--conversations 3",
        "--conversations 3 --workers 2",
        "--conversations 3 --codec json",
        "--topics 3",
        "--topics 3 --workers 2",
        "--topics 3 --codec json",
    ] {
        let fanout = format!("fanout {how} --readers 10 --rate 40 --duration 1s --beside 2 --beside-rate 20");
        let figures = [("acked", 40 + 20), ("deliveries", 40 * 10 + 20 * 2), ("deliveries_due", 440), ("lost", 0)];
        let result = check(&server, &fanout, &figures).await;
        assert_eq!(result["beside"]["count"].as_u64(), Some(40), "{result:#}");
        assert_eq!(result["send_to_deliver"]["count"].as_u64(), Some(400), "{result:#}");
    }
}

#[tokio::test]
async fn after_a_storm_everyone_has_everything_that_was_missed() {
    let server = server().await;
    for how in ["", "--workers 2"] {
        let storm = format!("storm --connections 60 --follow 3 --conversations 12 --missed 7 {how}");
        check(&server, &storm, &[("acked", 84), ("deliveries", 60 * 3 * 7), ("sockets_lost", 0)]).await;
    }
}

#[tokio::test]
async fn the_slow_catch_up_whole() {
    let server = server().await;
    for how in ["", "--workers 2 --rcvbuf 2048"] {
        let slow = format!(
            "slow --connections 40 --follow 2 --conversations 8 --rate 100 --bytes 4096 --one-of 4 --around 1s --duration 2s {how}"
        );
        let result = check(&server, &slow, &[("slow", 10), ("acked", 400), ("deliveries", 400 * 10)]).await;
        let late = result["slow_deliver"]["max_ms"].as_f64().expect("a time");
        assert!(late > 1_000.0, "they did not read for 2 s, but nothing came late to them: {result:#}");
    }
}

#[tokio::test]
async fn a_number_of_messages_ends_it_where_that_comes_first() {
    let server = server().await;
    for (scenario, acked) in [
        ("fanout --topics 2 --readers 3 --rate 40 --duration 1s -n 10", 10),
        ("fanout --topics 2 --readers 3 --rate 40 --duration 1s --messages 1000", 40),
        ("idle -c 6 --follow 2 --conversations 4 --rate 40 --duration 1h -n 10", 10),
        ("sends --conversations 2 --rate 50 --duration 1h -n 10", 10),
        ("sends --conversations 2 --rate max --duration 1h -n 301", 301),
        ("baseline --duration 1h -n 20 --timeout 50s", 20),
        ("chat --transcript data/irc-ubuntu.jsonl.gz -n 30", 30),
    ] {
        let Ran { result, said, .. } = run(&server.url(""), scenario).await;
        let all = if scenario.starts_with("chat") { &result["lines_acked"] } else { &result["acked"] };
        assert_eq!(all.as_u64(), Some(acked), "{scenario}: {said} {result:#}");
    }
    let others = ["storm", "slow", "soak --pid 1", "stress", "bench --pid 1"];
    for scenario in others {
        let Ran { code, said, .. } = run(&server.url(""), &format!("{scenario} -n 10")).await;
        assert_eq!(code, Some(2), "{scenario}");
        assert!(said.contains("-n means nothing here: "), "{scenario}: {said}");
    }
}

#[tokio::test]
async fn who_does_not_come_up_is_counted_with_the_reason() {
    let full = server_with(&[("BOWLINE_HTTP_MAX_SOCKETS", "5")]).await;
    // Takes connections, and says nothing on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("its address"));
    let fanout = |more: &str| format!("fanout --topics 1 --publishers 1 --readers 7 --duration 1s {more}");
    for (url, more, expected) in [
        // One place is the publisher's.
        (full.url(""), "--timeout 3s", "3 of 7 sockets are not there; attempts that failed: "),
        (full.url(""), "--timeout 3s", " × upgrade refused: http/1.1 503 service unavailable"),
        (silent, "--timeout 3s --connect-timeout 300ms", " × no session within 300ms"),
    ] {
        let Ran { code, said, .. } = run(&url, &fanout(more)).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}

#[tokio::test]
async fn without_a_server_it_could_not_run() {
    let Ran { code, .. } = run("http://127.0.0.1:9", "fanout --conversations 1 --readers 1 --duration 1s").await;
    assert_eq!(code, Some(2));
}
