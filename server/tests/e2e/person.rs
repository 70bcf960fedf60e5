//! Who connects, and with which token.

use std::time::{SystemTime, UNIX_EPOCH};

use bowline_protocol::Codec;
use bowline_testkit::Server;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;

/// Signs the tokens of all nodes.
pub(crate) const SECRET: &str = "the secret of the servers in these tests";

/// A user with one session. The server meets him when he connects, or when another one names him.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) user: String,
    pub(crate) session: String,
}

impl Person {
    pub(crate) fn new() -> Self {
        Self { user: Uuid::now_v7().to_string(), session: Uuid::now_v7().to_string() }
    }

    /// The same user at another device.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { session: Uuid::now_v7().to_string(), ..self.clone() }
    }

    pub(crate) fn token(&self) -> String {
        signed(&self.claims(), SECRET)
    }

    /// What a good token says.
    pub(crate) fn claims(&self) -> Value {
        let (iss, aud) = ("bowline", "bowline");
        json!({ "iss": iss, "aud": aud, "sub": self.user, "sid": self.session, "iat": now_s(), "exp": now_s() + 900 })
    }

    /// Connects and follows everything from its head on, as a client without history does.
    pub(crate) async fn join(&self, node: &Server) -> Client {
        self.join_with(node, Codec::Json).await
    }

    pub(crate) async fn join_with(&self, node: &Server, codec: Codec) -> Client {
        let mut client = self.connect(node, codec, json!({})).await;
        client.follow_from_heads().await;
        client
    }

    /// The same on a connection that lags as soon as the test stops reading.
    pub(crate) async fn join_narrow(&self, node: &Server) -> Client {
        let mut client = self.introduce(Client::open_narrow(node.address()).await, json!({})).await;
        client.follow_from_heads().await;
        client
    }

    /// Comes back with what a client remembers: where it stood in its own log, and in others.
    pub(crate) async fn resume(&self, node: &Server, before: &Client) -> Client {
        let own = before.cursor(&self.user);
        let mut client = self.connect(node, Codec::Json, json!({ "user_cursor": own })).await;
        let named: Vec<Value> = before.logs().filter(|log| *log != self.user).map(|log| before.cursor(log)).collect();
        client.take_over(before);
        client.ok(json!({ "resume": { "cursors": named } })).await;
        client
    }

    /// Connects only; `with` are more fields of the frame.
    pub(crate) async fn connect(&self, node: &Server, codec: Codec, with: Value) -> Client {
        self.introduce(Client::open(node.address(), codec).await, with).await
    }

    async fn introduce(&self, mut client: Client, with: Value) -> Client {
        let mut fields = json!({ "access_token": self.token(), "client": { "name": "e2e", "version": "1" } });
        fields.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        client.connected = client.ok(json!({ "connect": fields })).await;
        assert_eq!(client.connected["user_id"], *self.user);
        client.person = self.clone();
        client
    }
}

pub(crate) fn signed(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
