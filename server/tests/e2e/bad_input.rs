//! What a client gets wrong: each is told what and why, and nobody else feels it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bowline_protocol::Codec;
use bowline_testkit::Server;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::client::{Client, change, ids, new_id, send};
use crate::person::{Person, SECRET, now_s, signed};
use crate::world::{pair, server, server_with};

/// Two people who chat while others misbehave, and lose nothing by it.
struct Bystanders {
    ada: Client,
    ben: Client,
    log: String,
    said: Vec<String>,
}

impl Bystanders {
    async fn meet(node: &Server) -> Self {
        let (ada, ben, log) = pair(node).await;
        Self { ada, ben, log, said: Vec::new() }
    }

    /// One more message from each reaches the other.
    async fn go_on(&mut self) {
        for speaker in [true, false] {
            let body = format!("{} all well", self.said.len());
            let (speaker, listener) =
                if speaker { (&mut self.ada, &mut self.ben) } else { (&mut self.ben, &mut self.ada) };
            let seq = speaker.say(&self.log, &body).await;
            listener.reaches(&self.log, seq).await;
            self.said.push(body);
        }
        for client in [&mut self.ada, &mut self.ben] {
            client.settle().await;
            assert_eq!(client.bodies(&self.log), self.said);
        }
    }
}

/// Sends a line as it is; the error that comes back.
async fn refusal(client: &mut Client, line: &str) -> Value {
    client.message(Message::text(line.to_owned())).await;
    let id = serde_json::from_str::<Value>(line).ok().and_then(|frame| frame["id"].as_u64()).unwrap_or(0);
    let reply = if id > 0 { client.reply(id).await["error"].clone() } else { client.push("error").await };
    assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply}");
    reply
}

fn assert_refused(error: &Value, name: &str, field: &str, limit: Option<u64>, what: &str) {
    let field = Some(field).filter(|field| !field.is_empty());
    assert_eq!((error["name"].as_str(), error["field"].as_str()), (Some(name), field), "{what}: {error}");
    assert_eq!(error["limit"].as_u64(), limit, "{what}: {error}");
}

#[tokio::test]
async fn a_frame_that_is_wrong_gets_an_error_that_names_field_and_limit_and_nothing_else_happens() {
    let node = server().await;
    let mut others = Bystanders::meet(&node).await;
    let mut eve = Person::new().join(&node).await;
    let log = eve.group(&[]).await;
    let (log, id, user) = (log.as_str(), new_id(), new_id());
    let ids = format!(r#""log_id":"{log}","client_id":"{id}""#);
    let send = |rest: &str| format!(r#"{{"id":70,"send":{{{ids},{rest}}}}}"#);
    let long = |bytes: usize| "x".repeat(bytes);
    let line = |command: Value| {
        let mut command = command;
        command["id"] = 70.into();
        command.to_string()
    };
    let cases: Vec<(String, &str, &str, Option<u64>)> = vec![
        // Not JSON, or not a frame.
        (r#"{"id":70,"send":"#.into(), "malformed", "send", None),
        ("ahoy".into(), "malformed", "", None),
        (r#"{"id":70,"ping":{}} and more"#.into(), "malformed", "", None),
        (r#"["ping"]"#.into(), "invalid", "", None),
        ("7".into(), "invalid", "", None),
        (format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)), "invalid", "", None),
        // No command of ours.
        (r#"{"id":70}"#.into(), "unknown_command", "", None),
        (r#"{"id":70,"fly":{"to":"the moon"}}"#.into(), "unknown_command", "fly", None),
        (r#"{"id":70,"entries":{}}"#.into(), "unknown_command", "entries", None),
        (r#"{"id":70,"ping":{},"send":{}}"#.into(), "invalid", "", None),
        // Ids of frames.
        (r#"{"id":0,"ping":{}}"#.into(), "invalid", "id", None),
        (r#"{"ping":{}}"#.into(), "invalid", "id", None),
        (r#"{"id":-1,"ping":{}}"#.into(), "invalid", "id", None),
        (r#"{"id":1.5,"ping":{}}"#.into(), "invalid", "id", None),
        (r#"{"id":"7","ping":{}}"#.into(), "invalid", "id", None),
        // Types.
        (send(r#""body":7"#), "invalid", "send.body", None),
        (send(r#""body":null"#), "invalid", "send.body", None),
        (send(r#""body":"","mentions":"all""#), "invalid", "send.mentions", None),
        (send(r#""body":"","mentions":["all"]"#), "invalid", "send.mentions", None),
        (send(r#""body":"","reply_to_seq":-1"#), "invalid", "send.reply_to_seq", None),
        (send(r#""body":"","reply_to_seq":9007199254740992"#), "invalid", "send.reply_to_seq", None),
        (send(r#""body":"","attrs":"text""#), "invalid", "send.attrs", None),
        (send(r#""body":"","attachments":[{"url":""}]"#), "invalid", "send.attachments[0].url", None),
        (r#"{"id":70,"send":"ahoy"}"#.into(), "invalid", "send", None),
        (r#"{"id":70,"send":{"body":"x"}}"#.into(), "invalid", "send.log_id", None),
        (line(json!({ "send": { "log_id": "here", "client_id": id } })), "invalid", "send.log_id", None),
        (line(json!({ "send": { "log_id": log, "client_id": "1" } })), "invalid", "send.client_id", None),
        (line(change("react", log, json!({ "target_seq": 1, "emoji": "" }))), "invalid", "react.emoji", None),
        (line(change("delete", log, json!({}))), "invalid", "delete.target_seq", None),
        (
            line(change("conversation_set_role", log, json!({ "user_id": user, "role": "king" }))),
            "invalid",
            "conversation_set_role.role",
            None,
        ),
        (line(json!({ "mark_read": { "log_id": log, "seq": 9_000 } })), "invalid", "mark_read.seq", Some(1)),
        // U+0000, which no text may hold.
        (send(r#""body":"a\u0000b""#), "invalid", "send.body", None),
        (send(r#""body":"","attrs":{"a":["\u0000"]}"#), "invalid", "send.attrs", None),
        (send(r#""body":"","attrs":{"\u0000":1}"#), "invalid", "send.attrs", None),
        (line(change("edit", log, json!({ "target_seq": 1, "body": "\0" }))), "invalid", "edit.body", None),
        (line(change("react", log, json!({ "target_seq": 1, "emoji": "\0" }))), "invalid", "react.emoji", None),
        (
            line(change("conversation_rename", log, json!({ "title": "\0" }))),
            "invalid",
            "conversation_rename.title",
            None,
        ),
        (
            line(json!({ "conversation_create": { "client_id": id, "kind": "group", "title": "a\0" } })),
            "invalid",
            "conversation_create.title",
            None,
        ),
        // Limits.
        (send(&format!(r#""body":"{}""#, long(16_385))), "too_large", "send.body", Some(16_384)),
        (
            line(change("edit", log, json!({ "target_seq": 1, "body": long(16_385) }))),
            "too_large",
            "edit.body",
            Some(16_384),
        ),
        (send(&format!(r#""body":"","attrs":{{"a":"{}"}}"#, long(4_096))), "too_large", "send.attrs", Some(4_096)),
        (
            line(change("conversation_rename", log, json!({ "title": long(257) }))),
            "too_large",
            "conversation_rename.title",
            Some(256),
        ),
        (
            line(change("react", log, json!({ "target_seq": 1, "emoji": long(65) }))),
            "too_large",
            "react.emoji",
            Some(64),
        ),
        (line(json!({ "history": { "log_id": log, "limit": 1_025 } })), "too_large", "history.limit", Some(1_024)),
        (line(json!({ "conversation_list": { "limit": 101 } })), "too_large", "conversation_list.limit", Some(100)),
        (
            line(change("conversation_add", log, json!({ "user_ids": vec![user.as_str(); 1_001] }))),
            "too_large",
            "conversation_add.user_ids",
            Some(1_000),
        ),
        // Not at this time.
        (line(json!({ "connect": { "access_token": eve.person.token() } })), "out_of_order", "", None),
        (line(json!({ "resume": {} })), "out_of_order", "", None),
    ];
    let mut wrong = Vec::new();
    for (line, name, field, limit) in cases {
        let error = refusal(&mut eve, &line).await;
        let told = (error["name"].as_str(), error["field"].as_str(), error["limit"].as_u64());
        if told != (Some(name), Some(field).filter(|field| !field.is_empty()), limit) {
            wrong.push(format!("{:.200}: {error}, not {name} {field} {limit:?}", line));
        }
        eve.settle().await;
        others.go_on().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let last = eve.say(log, "still here").await;
    eve.reaches(log, last).await;
    assert_eq!((last, eve.seqs(log)), (2, vec![1, 2]), "nothing of it was stored");
}

#[tokio::test]
async fn one_bad_line_of_a_message_spoils_no_other() {
    let node = server().await;
    let mut eve = Person::new().join(&node).await;
    eve.message(Message::text("{\"id\":80,\"ping\":{}}\n{\"id\":81,\n\n{\"id\":82,\"ping\":{}}")).await;
    assert!(eve.reply(80).await.get("pong").is_some());
    assert!(eve.reply(82).await.get("pong").is_some());
    assert_eq!(eve.push("error").await["name"], "malformed");
}

#[tokio::test]
async fn framing_that_is_broken_closes_that_connection_alone() {
    let node = server().await;
    let mut others = Bystanders::meet(&node).await;
    let text = |payload: Vec<u8>| Message::Frame(Frame::message(payload, OpCode::Data(Data::Text), true));
    let before_connect = [
        ("a text that is not UTF-8", text(vec![b'"', 0xc3, 0x28, b'"']), 1007),
        ("more than 4 KiB before connect", Message::text("x".repeat(4_097)), 1009),
        ("binary where JSON was agreed", Message::binary(vec![0; 4]), 4201),
    ];
    for (what, message, code) in before_connect {
        let mut eve = Client::open(node.address(), Codec::Json).await;
        eve.message(message).await;
        assert_eq!(eve.closed().await, code, "{what}");
        others.go_on().await;
    }
    let connected = [
        ("a text that is not UTF-8", text(vec![0xff]), 1007),
        ("a surrogate in UTF-8", text(vec![0xed, 0xa0, 0x80]), 1007),
        ("more than a frame may have", Message::text("x".repeat(65_537)), 1009),
        ("binary where JSON was agreed", Message::binary(vec![0; 4]), 4201),
    ];
    for (what, message, code) in connected {
        let mut eve = Person::new().join(&node).await;
        eve.message(message).await;
        assert_eq!(eve.closed().await, code, "{what}");
        others.go_on().await;
    }
    // The announced limit itself may be used: 65,536 bytes are read, and refused for what they say.
    let mut eve = Person::new().join(&node).await;
    assert_eq!(eve.connected["limits"]["frame_bytes"], 65_536);
    eve.message(Message::text("x".repeat(65_536))).await;
    assert_eq!(eve.push("error").await["name"], "malformed");
    eve.settle().await;

    let mut proto = Person::new().join_with(&node, Codec::Proto).await;
    proto.message(Message::binary(vec![0xff; 16])).await;
    assert_eq!(proto.push("error").await["name"], "malformed");
    proto.settle().await;
    proto.message(Message::text("{}")).await;
    assert_eq!(proto.closed().await, 4201, "text where protobuf was agreed");
    others.go_on().await;
}

#[tokio::test]
async fn nothing_goes_before_connect() {
    let node = server().await;
    let (_ada, _ben, log) = pair(&node).await;
    for command in [json!({ "ping": {} }), json!({ "resume": {} }), send(&log, "x"), json!({ "session_list": {} })] {
        let mut eve = Client::open(node.address(), Codec::Json).await;
        assert_eq!(eve.refused(command.clone()).await["name"], "out_of_order", "{command}");
        let connect = json!({ "connect": { "access_token": Person::new().token() } });
        eve.ok(connect).await;
    }
}

#[tokio::test]
async fn commands_sent_right_behind_connect_wait_for_it() {
    let node = server().await;
    let (ada, _, log) = pair(&node).await;
    let mut again = Client::open(node.address(), Codec::Json).await;
    let connect = json!({ "connect": { "access_token": ada.person.token() } });
    let posted = again.post_all([connect, json!({ "resume": {} }), send(&log, "at once")]).await;
    assert!(again.reply(posted[0]).await.get("connected").is_some());
    assert!(again.reply(posted[1]).await.get("resumed").is_some());
    assert!(again.reply(posted[2]).await.get("sent").is_some());
}

#[tokio::test]
async fn a_token_that_is_no_good_closes_with_what_to_do() {
    let node = server().await;
    let ada = Person::new();
    let with = |key: &str, value: Value| {
        let mut claims = ada.claims();
        claims[key] = value;
        claims
    };
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (header, body) = (|alg: &str| encode(&json!({ "alg": alg, "typ": "JWT" })), encode(&ada.claims()));
    let good = ada.token();
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let others_body = encode(&with("sub", json!(new_id())));
    let cases = [
        ("expired", signed(&with("exp", json!(now_s() - 60)), SECRET), "token_expired", 4101),
        ("forged", signed(&ada.claims(), "the secret of somebody else altogether"), "unauthenticated", 4100),
        ("alg none", format!("{}.{body}.", header("none")), "unauthenticated", 4100),
        ("alg none, signed", format!("{}.{body}.{signature}", header("none")), "unauthenticated", 4100),
        ("another algorithm", format!("{}.{body}.{signature}", header("HS512")), "unauthenticated", 4100),
        ("another user's claims", format!("{}.{others_body}.{signature}", header("HS256")), "unauthenticated", 4100),
        ("cut off", signed_part.to_owned(), "unauthenticated", 4100),
        ("another audience", signed(&with("aud", json!("elsewhere")), SECRET), "unauthenticated", 4100),
        ("another issuer", signed(&with("iss", json!("elsewhere")), SECRET), "unauthenticated", 4100),
        ("not valid yet", signed(&with("nbf", json!(now_s() + 600)), SECRET), "unauthenticated", 4100),
        ("no token", String::new(), "unauthenticated", 4100),
        ("nonsense", "nonsense".to_owned(), "unauthenticated", 4100),
    ];
    for (what, token, name, close) in cases {
        let mut client = Client::open(node.address(), Codec::Json).await;
        let error = client.refused(json!({ "connect": { "access_token": token } })).await;
        assert_eq!(error["name"], name, "{what}: {error}");
        assert_eq!(client.closed().await, close, "{what}");
    }
    ada.join(&node).await;
}

#[tokio::test]
async fn a_token_that_ends_while_connected_is_told_and_then_closes_unless_refreshed() {
    let node = server_with(&[("BOWLINE_WIRE_HEARTBEAT_MS", "3000")]).await;
    let token = |person: &Person, seconds: u64| {
        let mut claims = person.claims();
        claims["exp"] = (now_s() + seconds).into();
        signed(&claims, SECRET)
    };
    let (ada, ben) = (Person::new(), Person::new());
    let mut connected = Vec::new();
    for person in [&ada, &ben] {
        let mut client = person.connect(&node, Codec::Json, json!({ "access_token": token(person, 2) })).await;
        client.ok(json!({ "resume": {} })).await;
        client.push("token_expiring").await;
        connected.push(client);
    }
    let [mut ada_there, mut ben_there] = connected.try_into().ok().unwrap();
    let other = ada_there.refused(json!({ "refresh": { "access_token": ben.token() } })).await;
    assert_refused(&other, "invalid", "refresh.access_token", None, "the token of another");
    let refreshed = ada_there.ok(json!({ "refresh": { "access_token": ada.token() } })).await;
    assert!(refreshed["token_expires_at_ms"].as_u64().unwrap() > (now_s() + 600) * 1_000);
    assert_eq!(ben_there.closed().await, 4101);
    ada_there.settle().await;
}

#[tokio::test]
async fn a_revoked_session_neither_connects_nor_refreshes() {
    let node = server().await;
    let ada = Person::new();
    let (mut here, phone) = (ada.join(&node).await, ada.elsewhere());
    drop(phone.join(&node).await);
    here.ok(json!({ "session_revoke": { "client_id": new_id(), "session_id": phone.session } })).await;
    let mut client = Client::open(node.address(), Codec::Json).await;
    let error = client.refused(json!({ "connect": { "access_token": phone.token() } })).await;
    assert_eq!((&error["name"], client.closed().await), (&json!("revoked"), 4200));
    // A session that is well, shown the token of the one that is not.
    let error = here.refused(json!({ "refresh": { "access_token": phone.token() } })).await;
    assert_eq!(error["name"], "revoked");
}

#[tokio::test]
async fn a_conversation_of_others_is_as_good_as_none() {
    let node = server().await;
    let (mut ada, mut ben, theirs) = pair(&node).await;
    let seq = ada.say(&theirs, "between us").await;
    let mut eve = Person::new().join(&node).await;
    let nowhere = new_id();
    let eves = eve.person.user.clone();
    let commands = |log: &str| {
        vec![
            send(log, "let me in"),
            change("edit", log, json!({ "target_seq": seq, "version": seq, "body": "changed" })),
            change("delete", log, json!({ "target_seq": seq })),
            change("react", log, json!({ "target_seq": seq, "emoji": "👍" })),
            change("unreact", log, json!({ "target_seq": seq, "emoji": "👍" })),
            change("conversation_rename", log, json!({ "title": "mine" })),
            change("conversation_add", log, json!({ "user_ids": [eves] })),
            change("conversation_remove", log, json!({ "user_id": ids(&[&ada])[0] })),
            change("conversation_leave", log, json!({})),
            change("conversation_set_role", log, json!({ "user_id": eves, "role": "owner" })),
            change("conversation_mute", log, json!({ "muted": true })),
            json!({ "conversation_open": { "log_id": log, "after_seq": 0 } }),
            json!({ "conversation_members": { "log_id": log } }),
            json!({ "history": { "log_id": log } }),
            json!({ "mark_read": { "log_id": log, "seq": 1 } }),
            json!({ "typing": { "log_id": log } }),
        ]
    };
    // Ada's own log is a log like others, and nobody's but hers.
    let hers = ada.person.user.clone();
    for log in [&theirs, &hers] {
        for (command, same) in commands(log).into_iter().zip(commands(&nowhere)) {
            let (error, unknown) = (eve.refused(command.clone()).await, eve.refused(same).await);
            assert_eq!(error["name"], "not_found", "{command}: {error}");
            assert_eq!(error, unknown, "it does not tell whether there is such a conversation: {command}");
        }
    }
    let mut eve = eve.person.clone().connect(&node, Codec::Json, json!({})).await;
    let named = [&theirs, &hers, &nowhere].map(|log| json!({ "log_id": log, "seq": 0, "epoch": 1 }));
    eve.ok(json!({ "resume": { "cursors": named } })).await;
    let mut unknown = Vec::new();
    for _ in 0..3 {
        unknown.push(eve.push("not_found").await["log_id"].as_str().unwrap().to_owned());
    }
    unknown.sort();
    let mut expected = vec![theirs.clone(), hers.clone(), nowhere];
    expected.sort();
    assert_eq!(unknown, expected);
    assert_eq!(eve.push("heads").await["items"], Value::Null, "eve is in no conversation");

    let seq = ada.say(&theirs, "still between us").await;
    ben.reaches(&theirs, seq).await;
    eve.settle().await;
    assert_eq!(ben.bodies(&theirs), ["between us", "still between us"]);
    assert_eq!(eve.items(&theirs), [] as [Value; 0]);
    assert_eq!((eve.waiting("typing"), ada.waiting("typing"), ben.waiting("typing")), (0, 0, 0));
}

#[tokio::test]
async fn who_somebody_is_comes_from_the_token_alone() {
    let node = server().await;
    let (mut ada, mut ben, log) = pair(&node).await;
    let bens = ben.person.user.clone();
    let smuggled = json!({
        "body": "I am Ben", "user_id": bens, "sender_id": bens, "sender": bens, "sender_kind": "system",
        "seq": 999, "created_at_ms": 1, "message_no": 77, "deleted": true
    });
    let mut command = change("send", &log, smuggled);
    command["user_id"] = json!(bens);
    let stored = ada.ok(command).await;
    assert_eq!(stored["seq"], 2);
    ben.reaches(&log, 2).await;
    let item = ben.item(&log, 2).clone();
    assert_eq!(item["sender_id"], *ada.person.user);
    assert_eq!((&item["sender_kind"], &item["message_no"]), (&json!("user"), &json!(1)));
    assert_eq!(item["message"], json!({ "body": "I am Ben", "deleted": false }));

    let mut typing = json!({ "typing": { "log_id": log } });
    typing["typing"]["user_id"] = json!(bens);
    ada.ok(typing).await;
    assert_eq!(ben.push("typing").await["user_id"], *ada.person.user);

    let connect = json!({ "user_id": bens, "session_id": ben.person.session });
    let eve = Person::new();
    let again = eve.connect(&node, Codec::Json, connect).await;
    assert_eq!((&again.connected["user_id"], &again.connected["session_id"]), (&json!(eve.user), &json!(eve.session)));
}

#[tokio::test]
async fn a_flood_of_bad_frames_is_answered_frame_by_frame_and_others_chat_on() {
    let node = server().await;
    let mut others = Bystanders::meet(&node).await;
    let mut eve = Person::new().join(&node).await;
    let flood = (1_000..2_000).map(|id| format!("{{\"id\":{id},\"send\":{{\"body\":7}}}}"));
    for line in flood {
        eve.message(Message::text(line)).await;
    }
    others.go_on().await;
    for id in 1_000..2_000 {
        assert_eq!(eve.reply(id).await["error"]["field"], "send.body");
    }
    others.go_on().await;
}
