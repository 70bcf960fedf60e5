//! Posts and people over HTTP: the same operations as on a socket, with the same limits and refusals.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "api_support/fixture.rs"]
mod fixture;

use bowline_protocol::limits::Limits;
use fixture::{Answer, PASSWORD, Server};
use serde_json::{Value, json};

/// Somebody with an account.
struct Person {
    user: String,
    token: String,
}

impl Server {
    async fn person(&self, name: &str) -> Person {
        let answer = self.post("/v1/accounts", &json!({"username": name, "password": PASSWORD})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        Person { user: answer.text("user_id"), token: answer.text("access_token") }
    }

    async fn call(&self, person: &Person, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let method = method.parse().unwrap();
        self.send(|http| {
            let request = http.request(method, self.url(path)).bearer_auth(&person.token);
            body.into_iter().fold(request, |request, body| request.json(body))
        })
        .await
    }

    /// What a call that succeeds is answered.
    async fn ok(&self, person: &Person, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(person, method, path, body).await;
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    async fn posted(&self, person: &Person, body: &str) -> String {
        let post = json!({"client_id": new_id(), "body": body});
        self.ok(person, "POST", "/v1/posts", Some(&post)).await["made_id"].as_str().unwrap().to_owned()
    }
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn with_id(path: &str) -> String {
    format!("{path}?client_id={}", new_id())
}

#[track_caller]
fn refused(answer: &Answer, status: u16, name: &str, field: Option<&str>) {
    assert_eq!((answer.status, answer.error()), (status, (name, field)), "{}", answer.body);
    for leak in ["SELECT", "INSERT", "constraint", "posts_pkey", "127.0.0.1"] {
        assert!(!answer.body.to_string().contains(leak), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_life_of_a_post() {
    let server = Server::start().await;
    let (ada, ben) = (server.person("ada").await, server.person("ben").await);
    let attachment = json!({"url": "https://files.example.org/1.jpg", "media_type": "image/jpeg", "size": 7});
    let draft = json!({
        "client_id": new_id(), "body": "Wind is up ⛵", "attachments": [attachment], "attrs": {"place": "harbour"},
        "later": {"unknown": true}, "author_id": ben.user,
    });
    let made = server.call(&ada, "POST", "/v1/posts", Some(&draft)).await;
    assert_eq!((made.status, &made.body["repeat"], &made.body["log_id"]), (201, &json!(false), &json!(ada.user)));
    let again = server.call(&ada, "POST", "/v1/posts", Some(&draft)).await;
    assert_eq!((again.status, &again.body["repeat"]), (201, &json!(true)));
    assert_eq!(again.body["made_id"], made.body["made_id"]);

    let post = format!("/v1/posts/{}", made.text("made_id"));
    for (method, path, body) in [
        ("POST", with_id(&format!("{post}/like")), None),
        ("POST", with_id(&format!("{post}/like")), None),
        ("POST", with_id(&format!("{post}/share")), None),
        ("POST", format!("{post}/comments"), Some(json!({"client_id": new_id(), "body": "Which harbour?"}))),
    ] {
        server.ok(&ben, method, &path, body.as_ref()).await;
    }
    let shown = server.ok(&ben, "GET", &post, None).await;
    let expected = json!({
        "post_id": made.body["made_id"],
        "author": {"user_id": ada.user, "display_name": "ada", "avatar_url": ""},
        "body": "Wind is up ⛵", "attachments": [attachment], "attrs": {"place": "harbour"},
        "created_at_ms": made.body["created_at_ms"], "likes": 1, "comments": 1, "shares": 1, "liked": true,
    });
    assert_eq!(shown, expected);
    let comments = server.ok(&ada, "GET", &format!("{post}/comments?limit=5"), None).await;
    assert_eq!(comments["items"][0]["body"], "Which harbour?");
    assert_eq!(comments["items"][0]["author"]["display_name"], "ben");
    server.ok(&ben, "DELETE", &with_id(&format!("{post}/like")), None).await;
    assert_eq!(server.ok(&ben, "GET", &post, None).await["likes"], 0);

    refused(&server.call(&ben, "DELETE", &with_id(&post), None).await, 403, "forbidden", None);
    server.ok(&ada, "DELETE", &with_id(&post), None).await;
    refused(&server.call(&ben, "GET", &post, None).await, 410, "target_gone", Some("post_id"));
    let list = server.ok(&ben, "GET", &format!("/v1/users/{}/posts", ada.user), None).await;
    assert_eq!(list, json!({"more": false}));
}

#[tokio::test]
async fn people_and_their_lists() {
    let server = Server::start().await;
    let (ada, ben) = (server.person("ada").await, server.person("ben").await);
    let user = format!("/v1/users/{}", ada.user);
    let change = json!({"client_id": new_id(), "bio": "Sails.", "avatar_url": "https://files.example.org/ada.png"});
    server.ok(&ada, "PATCH", "/v1/profile", Some(&change)).await;
    server.posted(&ada, "one").await;
    server.ok(&ben, "POST", &with_id(&format!("{user}/follow")), None).await;
    server.ok(&ben, "POST", &with_id(&format!("{user}/mute")), None).await;
    let profile = server.ok(&ben, "GET", &user, None).await;
    let expected = json!({
        "person": {"user_id": ada.user, "display_name": "ada", "avatar_url": "https://files.example.org/ada.png"},
        "bio": "Sails.", "followers": 1, "followees": 0, "posts": 1,
        "followed": true, "follows_you": false, "blocked": false, "muted": true,
    });
    assert_eq!(profile, expected);
    let followers = server.ok(&ada, "GET", &format!("{user}/followers"), None).await;
    assert_eq!(followers["items"][0]["person"]["user_id"], ben.user);
    let bens = format!("/v1/users/{}", ben.user);
    let followees = server.ok(&ada, "GET", &format!("{bens}/followees"), None).await;
    assert_eq!(followees["items"][0]["person"]["display_name"], "ada");
    assert_eq!(server.ok(&ben, "GET", &format!("{bens}/muted"), None).await["items"].as_array().unwrap().len(), 1);
    refused(&server.call(&ada, "GET", &format!("{bens}/blocked"), None).await, 403, "forbidden", Some("user_id"));

    server.ok(&ben, "DELETE", &with_id(&format!("{user}/mute")), None).await;
    server.ok(&ben, "DELETE", &with_id(&format!("{user}/follow")), None).await;
    assert_eq!(server.ok(&ben, "GET", &user, None).await["followers"], 0);
    server.ok(&ada, "POST", &with_id(&format!("{bens}/block")), None).await;
    refused(&server.call(&ben, "GET", &user, None).await, 404, "not_found", Some("user_id"));
    refused(&server.call(&ben, "POST", &with_id(&format!("{user}/follow")), None).await, 403, "forbidden", None);
    assert_eq!(server.ok(&ada, "GET", &format!("{user}/blocked"), None).await["items"].as_array().unwrap().len(), 1);
    server.ok(&ada, "DELETE", &with_id(&format!("{bens}/block")), None).await;
    server.ok(&ben, "POST", &with_id(&format!("{user}/follow")), None).await;
}

#[tokio::test]
async fn a_list_is_paged_by_the_place_of_its_last_item() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let mut written = Vec::new();
    for n in 0..11 {
        written.push(server.posted(&ada, &n.to_string()).await);
    }
    let (mut seen, mut place) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/users/{}/posts?limit=4{place}", ada.user);
        let page = server.ok(&ada, "GET", &path, None).await;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|post| post["post_id"].as_str().unwrap().to_owned()));
        let last = items.last().unwrap();
        place = format!("&after_at_ms={}&after_post_id={}", last["created_at_ms"], last["post_id"].as_str().unwrap());
        if page["more"] == false {
            break;
        }
    }
    written.reverse();
    assert_eq!(seen, written);
}

#[tokio::test]
async fn every_bad_input_is_refused_by_field_and_limit() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let post = format!("/v1/posts/{}", server.posted(&ada, "x").await);
    let user = format!("/v1/users/{}", ada.user);
    let limits = Limits::default();
    let id = new_id();
    let long = "x".repeat(limits.body_bytes as usize + 1);
    let check = async |method: &str, path: &str, body: Option<Value>, name: &str, field: &str, limit: Option<u64>| {
        let answer = server.call(&ada, method, path, body.as_ref()).await;
        let status = if name == "too_large" { 413 } else { 400 };
        refused(&answer, status, name, Some(field));
        assert_eq!(answer.body["error"]["limit"].as_u64(), limit, "{method} {path}: {}", answer.body);
    };
    for (body, name, field, limit) in [
        (json!({"client_id": id}), "invalid", "body", None),
        (json!({"client_id": id, "body": " \n"}), "invalid", "body", None),
        (json!({"client_id": id, "body": 7}), "invalid", "body", None),
        (json!({"client_id": id, "body": "a\u{0}"}), "invalid", "body", None),
        (json!({"client_id": id, "body": long}), "too_large", "body", Some(limits.body_bytes)),
        (json!({"body": "x"}), "invalid", "client_id", None),
        (json!({"client_id": "nonsense", "body": "x"}), "invalid", "client_id", None),
        (json!({"client_id": id, "body": "x", "attrs": []}), "invalid", "attrs", None),
        (json!({"client_id": id, "attachments": [{"url": ""}]}), "invalid", "attachments[0].url", None),
    ] {
        check("POST", "/v1/posts", Some(body), name, field, limit).await;
    }
    for (body, name, field, limit) in [
        (json!({"client_id": id}), "invalid", "display_name", None),
        (json!({"client_id": id, "display_name": " "}), "invalid", "display_name", None),
        (json!({"client_id": id, "display_name": "x".repeat(129)}), "too_large", "display_name", Some(128)),
        (json!({"client_id": id, "avatar_url": "a\nb"}), "invalid", "avatar_url", None),
        (json!({"client_id": id, "bio": "x".repeat(1025)}), "too_large", "bio", Some(1024)),
    ] {
        check("PATCH", "/v1/profile", Some(body), name, field, limit).await;
    }
    for (method, path, name, field, limit) in [
        ("GET", "/v1/posts/nonsense".to_owned(), "invalid", "post_id", None),
        ("DELETE", post.clone(), "invalid", "client_id", None),
        ("POST", format!("{post}/like"), "invalid", "client_id", None),
        ("POST", format!("{post}/share?client_id=7"), "invalid", "client_id", None),
        ("GET", format!("{post}/comments?limit=101"), "too_large", "limit", Some(100)),
        ("GET", format!("{user}/posts?limit=many"), "invalid", "limit", None),
        ("GET", format!("{user}/posts?limit=-1"), "invalid", "limit", None),
        ("GET", format!("{user}/posts?after_at_ms=5"), "invalid", "after_at_ms", None),
        ("GET", format!("{user}/posts?after_at_ms=5&after_post_id=x"), "invalid", "after_post_id", None),
        ("GET", format!("{user}/followers?after_at_ms=noon&after_user_id={id}"), "invalid", "after_at_ms", None),
        ("GET", "/v1/users/nobody".to_owned(), "invalid", "user_id", None),
        ("GET", "/v1/feed?limit=101".to_owned(), "too_large", "limit", Some(100)),
        ("GET", "/v1/feed?limit=9007199254740991".to_owned(), "too_large", "limit", Some(100)),
        ("GET", "/v1/feed?limit=-1".to_owned(), "invalid", "limit", None),
        ("GET", "/v1/feed?limit=many".to_owned(), "invalid", "limit", None),
        ("GET", "/v1/feed?limit=1.5".to_owned(), "invalid", "limit", None),
        ("GET", "/v1/feed?cursor=nonsense".to_owned(), "invalid", "cursor", None),
        ("GET", format!("/v1/feed?cursor={}", "A".repeat(256)), "invalid", "cursor", None),
        ("GET", format!("/v1/feed?cursor={}", "A".repeat(257)), "too_large", "cursor", Some(256)),
        ("POST", with_id(&format!("{user}/follow")), "invalid", "user_id", None),
    ] {
        check(method, &path, None, name, field, limit).await;
    }
    let nobody = server.send(|http| http.get(server.url(&post))).await;
    refused(&nobody, 401, "unauthenticated", None);
    let missing = format!("/v1/posts/{id}");
    refused(&server.call(&ada, "GET", &missing, None).await, 404, "not_found", Some("post_id"));
    refused(
        &server.call(&ada, "POST", &with_id(&format!("{missing}/like")), None).await,
        404,
        "not_found",
        Some("post_id"),
    );
    refused(&server.call(&ada, "PUT", &post, None).await, 405, "unknown_command", None);
    let far = format!("{user}/posts?after_at_ms=9007199254740991&after_post_id={id}");
    assert_eq!(
        server.ok(&ada, "GET", &far, None).await["items"].as_array().unwrap().len(),
        1,
        "nothing else was stored"
    );
}

#[tokio::test]
async fn a_page_of_a_feed_is_fifty_posts_unless_another_number_is_asked_for() {
    let server = Server::start().await;
    let (ada, ben) = (server.person("ada").await, server.person("ben").await);
    for n in 0..51 {
        server.posted(&ada, &n.to_string()).await;
    }
    for (query, items, more) in [
        ("", 50, true),
        ("?limit=0", 50, true),
        ("?limit=1", 1, true),
        ("?limit=51", 51, false),
        ("?limit=100", 51, false),
    ] {
        let page = server.ok(&ben, "GET", &format!("/v1/feed{query}"), None).await;
        assert_eq!((page["items"].as_array().unwrap().len(), page["next"].is_string()), (items, more), "{query}");
    }
    let nobody = server.send(|http| http.get(server.url("/v1/feed"))).await;
    refused(&nobody, 401, "unauthenticated", None);
}

#[tokio::test]
async fn a_client_id_used_for_something_else_is_refused() {
    let server = Server::start().await;
    let (ada, ben) = (server.person("ada").await, server.person("ben").await);
    let id = new_id();
    let first = json!({"client_id": id, "body": "one"});
    server.ok(&ada, "POST", "/v1/posts", Some(&first)).await;
    let second = json!({"client_id": id, "body": "two"});
    refused(&server.call(&ada, "POST", "/v1/posts", Some(&second)).await, 409, "id_reused", Some("client_id"));
    let follow = format!("/v1/users/{}/follow?client_id={id}", ben.user);
    refused(&server.call(&ada, "POST", &follow, None).await, 409, "id_reused", Some("client_id"));
    server.ok(&ben, "POST", "/v1/posts", Some(&first)).await;
}
