//! Accounts and sessions over HTTP, on a real PostgreSQL.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "api_support/fixture.rs"]
mod fixture;

use fixture::{Answer, PASSWORD, Server, roomy};
use futures_util::future::join_all;
use serde_json::{Value, json};

impl Server {
    async fn register(&self, username: &str) -> Answer {
        self.post("/v1/accounts", &json!({"username": username, "password": PASSWORD})).await
    }

    async fn log_in(&self, username: &str, password: &str) -> Answer {
        self.post("/v1/sessions", &json!({"username": username, "password": password})).await
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.post("/v1/sessions/refresh", &json!({"refresh_token": token})).await
    }

    async fn sql(&self, sql: &str) {
        self.database.connect().await.batch_execute(sql).await.unwrap();
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, name: &str, field: Option<&str>) {
    assert_eq!((answer.status, answer.error()), (status, (name, field)), "{}", answer.body);
    for leak in ["SELECT", "INSERT", "constraint", "password_hash", "127.0.0.1"] {
        assert!(!answer.body.to_string().contains(leak), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_life_of_an_account() {
    let server = Server::start().await;
    let new = json!({"username": "Ada.L", "password": PASSWORD, "client_name": "phone", "later": {"unknown": true}});
    let ada = server.post("/v1/accounts", &new).await;
    assert_eq!(ada.status, 201, "{}", ada.body);
    assert_eq!((ada.text("username"), ada.text("display_name")), ("ada.l".to_owned(), "Ada.L".to_owned()));
    assert_eq!(ada.body["expires_in_s"], 900);
    let token = ada.text("access_token");

    let laptop = server.log_in("ADA.L", PASSWORD).await;
    assert_eq!((laptop.status, laptop.text("user_id")), (200, ada.text("user_id")));
    assert_ne!(laptop.text("session_id"), ada.text("session_id"));

    let named = json!({"username": "bob", "password": PASSWORD, "display_name": "Bob 🐚"});
    let bob = server.post("/v1/accounts", &named).await;
    let found = server.get("/v1/accounts/BOB", &token).await;
    let expected = json!({"user_id": bob.body["user_id"], "username": "bob", "display_name": "Bob 🐚"});
    assert_eq!((found.status, &found.body), (200, &expected));
    refused(&server.get("/v1/accounts/nobody", &token).await, 404, "not_found", None);

    let listed = server.get("/v1/sessions", &token).await;
    let sessions = listed.body["sessions"].as_array().unwrap().clone();
    let shown: Vec<_> = sessions.iter().map(|s| (&s["session_id"], &s["client_name"], &s["current"])).collect();
    let (phone, other) = (&ada.body["session_id"], &laptop.body["session_id"]);
    assert_eq!(shown, [(other, &json!(""), &json!(false)), (phone, &json!("phone"), &json!(true))]);

    let next = server.refresh(&ada.text("refresh_token")).await;
    assert_eq!((next.status, next.text("session_id")), (200, ada.text("session_id")));
    let gone = server.delete(&format!("/v1/sessions/{}", laptop.text("session_id")), &token).await;
    assert_eq!(gone.status, 204);
    refused(&server.get("/v1/sessions", &laptop.text("access_token")).await, 401, "revoked", None);
    refused(&server.refresh(&laptop.text("refresh_token")).await, 401, "revoked", None);
    assert_eq!(server.get("/v1/accounts/bob", &token).await.status, 200, "the other session goes on");
}

#[tokio::test]
async fn a_wrong_password_and_a_name_that_nobody_has_look_the_same() {
    let server = Server::start().await;
    assert_eq!(server.register("ada").await.status, 201);
    let mut answers = Vec::new();
    for (username, password) in [
        ("ada", "wrong horse battery"),
        ("nobody", PASSWORD),
        ("ada", "short"),
        ("no such name", PASSWORD),
        ("ada", &PASSWORD.to_uppercase()),
    ] {
        let answer = server.log_in(username, password).await;
        refused(&answer, 401, "bad_credentials", None);
        answers.push(answer.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_name_is_taken_in_any_case() {
    let server = Server::start().await;
    assert_eq!(server.register("Ada").await.status, 201);
    refused(&server.register("ADA").await, 409, "name_taken", Some("username"));
    let at_once = join_all((0..8).map(|_| server.register("bob"))).await;
    assert_eq!(at_once.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in at_once.iter().filter(|answer| answer.status != 201) {
        refused(answer, 409, "name_taken", Some("username"));
    }
}

#[tokio::test]
async fn every_bad_input_is_refused_by_field_and_limit() {
    let server = Server::start().await;
    let check = async |path: &str, body: Value, name: &str, field: Option<&str>, limit: Option<u64>| {
        let answer = server.post(path, &body).await;
        let status = if name == "too_large" { 413 } else { 400 };
        refused(&answer, status, name, field);
        assert_eq!(answer.body["error"]["limit"].as_u64(), limit, "{}", answer.body);
        assert!(answer.body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", answer.body);
    };
    let account = |change: Value| {
        let mut body = json!({"username": "ada", "password": PASSWORD});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (change, name, field, limit) in [
        (json!({"username": "ab"}), "invalid", "username", Some(3)),
        (json!({"username": "x".repeat(33)}), "too_large", "username", Some(32)),
        (json!({"username": "a b c"}), "invalid", "username", None),
        (json!({"username": "a\u{0}b"}), "invalid", "username", None),
        (json!({"username": 7}), "invalid", "username", None),
        (json!({"username": null}), "invalid", "username", None),
        (json!({"password": "1234567"}), "invalid", "password", Some(8)),
        (json!({"password": "p".repeat(257)}), "too_large", "password", Some(256)),
        (json!({"password": ["a"]}), "invalid", "password", None),
        (json!({"display_name": ""}), "invalid", "display_name", None),
        (json!({"display_name": "x".repeat(129)}), "too_large", "display_name", Some(128)),
        (json!({"display_name": "a\u{0}b"}), "invalid", "display_name", None),
        (json!({"client_name": "x".repeat(129)}), "too_large", "client_name", Some(128)),
        (json!({"client_name": {}}), "invalid", "client_name", None),
    ] {
        check("/v1/accounts", account(change), name, Some(field), limit).await;
    }
    check("/v1/accounts", json!({"username": "ada"}), "invalid", Some("password"), None).await;
    check("/v1/accounts", json!([]), "invalid", None, None).await;
    check("/v1/sessions", json!({"username": "ada", "password": 1}), "invalid", Some("password"), None).await;
    check("/v1/sessions/refresh", json!({"refresh_token": 1}), "invalid", Some("refresh_token"), None).await;
    refused(&server.refresh("nonsense").await, 401, "unauthenticated", None);
    assert_eq!(server.register("ada").await.status, 201, "nothing of this was stored");
}

#[tokio::test]
async fn what_http_itself_refuses_is_refused_in_the_same_form() {
    let server = Server::start().await;
    let url = |path: &str| server.url(path);
    let json = "application/json";
    refused(&server.send(|http| http.get(url("/v2/nothing"))).await, 404, "not_found", None);
    let answer = server.send(|http| http.put(url("/v1/sessions"))).await;
    refused(&answer, 405, "unknown_command", None);
    assert!(answer.headers["allow"].to_str().unwrap().contains("POST"));
    let answer = server.send(|http| http.post(url("/v1/sessions")).body("{}")).await;
    refused(&answer, 415, "invalid", Some("content-type"));
    let sent =
        |body: String| server.send(|http| http.post(url("/v1/sessions")).header("content-type", json).body(body));
    refused(&sent("{".to_owned()).await, 400, "malformed", None);
    refused(&sent(String::new()).await, 400, "malformed", None);
    let padded = format!("{{\"username\":\"{}\"}}", "x".repeat(64 * 1024));
    let answer = sent(padded).await;
    refused(&answer, 413, "too_large", Some("body"));
    assert_eq!(answer.body["error"]["limit"], 64 * 1024);
    let answer = server.delete("/v1/sessions/nonsense", &server.register("ada").await.text("access_token")).await;
    refused(&answer, 400, "invalid", Some("session_id"));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_the_session() {
    let server = Server::start().await;
    let first = server.register("ada").await;
    let second = server.refresh(&first.text("refresh_token")).await;
    let third = server.refresh(&second.text("refresh_token")).await;
    assert_eq!((second.status, third.status), (200, 200));
    refused(&server.refresh(&first.text("refresh_token")).await, 401, "revoked", None);
    refused(&server.refresh(&third.text("refresh_token")).await, 401, "revoked", None);
    refused(&server.get("/v1/sessions", &third.text("access_token")).await, 401, "revoked", None);
    assert_eq!(server.log_in("ada", PASSWORD).await.status, 200, "the account goes on");
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_answered_again_for_a_while() {
    let server = Server::start().await;
    let first = server.register("ada").await;
    let at_once = join_all((0..8).map(|_| server.refresh_of(&first))).await;
    let second = at_once[0].text("refresh_token");
    assert!(at_once.iter().all(|answer| answer.text("refresh_token") == second), "all the same next token");
    assert_eq!(server.refresh_of(&first).await.text("refresh_token"), second);
    server.sql("UPDATE sessions SET rotated_at = now() - interval '61 seconds'").await;
    refused(&server.refresh_of(&first).await, 401, "revoked", None);
    refused(&server.refresh(&second).await, 401, "revoked", None);
}

impl Server {
    async fn refresh_of(&self, answer: &Answer) -> Answer {
        self.refresh(&answer.text("refresh_token")).await
    }
}

#[tokio::test]
async fn the_id_of_a_session_is_not_enough_to_end_it() {
    let server = Server::start().await;
    let ada = server.register("ada").await;
    let eve = server.register("eve").await;
    let path = format!("/v1/sessions/{}", ada.text("session_id"));
    refused(&server.delete(&path, &eve.text("access_token")).await, 404, "not_found", None);
    // A token of the right form, with the session's id, which its user alone was never given.
    let id = uuid::Uuid::parse_str(&ada.text("session_id")).unwrap();
    let bytes = [id.as_bytes().as_slice(), &[7; 48]].concat();
    let forged = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);
    refused(&server.refresh(&format!("bowline_rt_{forged}")).await, 401, "unauthenticated", None);
    assert_eq!(server.refresh_of(&ada).await.status, 200);
}

#[tokio::test]
async fn a_session_that_was_not_used_for_long_is_over() {
    let server = Server::start().await;
    let ada = server.register("ada").await;
    server.sql("UPDATE sessions SET expires_at = now()").await;
    refused(&server.refresh_of(&ada).await, 401, "unauthenticated", None);
}

#[tokio::test]
async fn logging_out_everywhere_ends_every_session_and_no_later_one() {
    let server = Server::start().await;
    let phone = server.register("ada").await;
    let laptop = server.log_in("ada", PASSWORD).await;
    let bob = server.register("bob").await;
    assert_eq!(server.delete("/v1/sessions", &phone.text("access_token")).await.status, 204);
    for ended in [&phone, &laptop] {
        refused(&server.refresh_of(ended).await, 401, "revoked", None);
        refused(&server.get("/v1/sessions", &ended.text("access_token")).await, 401, "revoked", None);
    }
    assert_eq!(server.refresh_of(&bob).await.status, 200);
    let later = server.log_in("ada", PASSWORD).await;
    assert_eq!(server.get("/v1/sessions", &later.text("access_token")).await.status, 200);
}

#[tokio::test]
async fn who_somebody_is_comes_from_the_token_alone() {
    let server = Server::start().await;
    let ada = server.register("ada").await;
    let body = json!({"username": "eve", "password": PASSWORD, "user_id": ada.body["user_id"]});
    let eve = server.post("/v1/accounts", &body).await;
    assert_ne!(eve.body["user_id"], ada.body["user_id"]);
    let again = json!({"username": "eve", "password": PASSWORD, "user_id": ada.body["user_id"]});
    assert_eq!(server.post("/v1/sessions", &again).await.body["user_id"], eve.body["user_id"]);
    for (value, what) in [(None, "no header"), (Some("Basic YTpi"), "another scheme"), (Some("Bearer x"), "no JWT")] {
        let answer = server
            .send(|http| {
                let request = http.get(server.url("/v1/sessions"));
                value.into_iter().fold(request, |request, value| request.header("authorization", value))
            })
            .await;
        assert_eq!((answer.status, answer.error().0), (401, "unauthenticated"), "{what}");
        assert!(answer.headers.contains_key("www-authenticate"), "{what}");
    }
}

#[tokio::test]
async fn a_hundred_registrations_at_once_are_stored_or_refused_and_none_is_lost() {
    let (mut accounts, api) = roomy();
    accounts.passwords.queue = 16;
    let server = Server::with(accounts, api).await;
    let names: Vec<String> = (0..100).map(|n| format!("user-{n}")).collect();
    let answers = join_all(names.iter().map(|name| server.register(name))).await;
    let stored = answers.iter().filter(|answer| answer.status == 201).count();
    assert!((16..100).contains(&stored), "{stored} stored");
    for (name, answer) in names.iter().zip(&answers) {
        if answer.status != 201 {
            refused(answer, 503, "overloaded", None);
            assert!(
                answer.body["error"]["retry_after_ms"].as_u64().unwrap() > 0
                    && answer.headers.contains_key("retry-after")
            );
            assert_eq!(server.register(name).await.status, 201, "{name}: nothing was stored of it");
        }
    }
    let rows = server.database.connect().await.query("SELECT id FROM users JOIN heads ON log_id = id", &[]).await;
    assert_eq!(rows.unwrap().len(), 100, "each with the head of its log");
}

#[tokio::test]
async fn guessing_is_slowed_by_name_and_by_address() {
    let (accounts, mut api) = roomy();
    api.logins_per_name = bowline::limits::Rate { burst: 3, interval_ms: 60_000 };
    api.logins_per_address = bowline::limits::Rate { burst: 5, interval_ms: 60_000 };
    let server = Server::with(accounts, api).await;
    for _ in 0..3 {
        refused(&server.log_in("ada", "wrong horse battery").await, 401, "bad_credentials", None);
    }
    let answer = server.log_in("Ada", PASSWORD).await;
    refused(&answer, 429, "rate_limited", None);
    let wait_ms = answer.body["error"]["retry_after_ms"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&wait_ms) && answer.headers["retry-after"] == "60", "{wait_ms}");
    refused(&server.log_in("bob", PASSWORD).await, 401, "bad_credentials", None);
    refused(&server.log_in("eve", PASSWORD).await, 429, "rate_limited", None);
}

#[tokio::test]
async fn registration_can_be_closed() {
    let (mut accounts, api) = roomy();
    accounts.registration = false;
    let server = Server::with(accounts, api).await;
    refused(&server.register("ada").await, 403, "forbidden", None);
}

#[tokio::test]
async fn a_login_moves_the_hash_to_the_parameters_in_force() {
    let server = Server::start().await;
    server.register("ada").await;
    let client = server.database.connect().await;
    let hash = async || -> String { client.query_one("SELECT password_hash FROM users", &[]).await.unwrap().get(0) };
    let before = hash().await;
    let outdated = "$argon2id$v=19$m=20480,t=2,p=1$c29tZSBzYWx0IQ$";
    // The password's hash under other parameters.
    let params = argon2::Params::new(20_480, 2, 1, Some(32)).unwrap();
    let mut out = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(PASSWORD.as_bytes(), b"some salt!", &mut out)
        .unwrap();
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD_NO_PAD, out);
    server.sql(&format!("UPDATE users SET password_hash = '{outdated}{encoded}'")).await;
    assert_eq!(server.log_in("ada", "wrong horse battery").await.status, 401);
    assert!(hash().await.starts_with(outdated), "a wrong password changes nothing");
    assert_eq!(server.log_in("ada", PASSWORD).await.status, 200);
    assert!(hash().await.starts_with(before.rsplitn(3, '$').last().unwrap()));
    assert_eq!(server.log_in("ada", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn health_tells_a_living_process_from_a_ready_one_and_metrics_count() {
    let server = Server::start().await;
    let get = async |path: &str| server.send(|http| http.get(server.url(path))).await;
    assert_eq!(get("/healthz").await.status, 200);
    let ready = get("/readyz").await;
    assert_eq!((ready.status, ready.body), (200, json!({"database": true, "draining": false})));
    server.register("ada").await;
    get("/v1/accounts/some-name").await;
    get("/nothing/some-name").await;
    let metrics = get("/metrics").await;
    let text = metrics.body.as_str().unwrap();
    for line in [
        "bowline_http_requests_total{route=\"/v1/accounts\",status=\"201\"} 1",
        "bowline_http_requests_total{route=\"/v1/accounts/{username}\",status=\"401\"} 1",
        "bowline_http_requests_total{route=\"none\",status=\"404\"} 1",
        "bowline_accounts_hash_queue 0",
        "bowline_accounts_hash_seconds_count 1",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    assert!(!text.contains("some-name"));
    server.api.drain();
    let ready = get("/readyz").await;
    assert_eq!((ready.status, ready.body), (503, json!({"database": true, "draining": true})));
    assert_eq!(get("/healthz").await.status, 200);
}
