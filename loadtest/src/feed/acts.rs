//! What people do, over HTTP: each change under an id of its own, tried again while the server asks for that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bowline_client::protocol::{ClientId, UserId, wire};
use serde_json::{Value, json};
use uuid::Uuid;

use super::people::Who;
use crate::http::{Http, Refused, Request};

/// The servers, one of which is asked for each user. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acts(Vec<Arc<Http>>);

pub(super) enum Act<'a> {
    Profile { name: &'a str, bio: &'a str },
    Post(&'a str),
    Follow(UserId),
    Like(Uuid),
    Comment(Uuid, &'a str),
    Share(Uuid),
}

/// Attempts at one change; the server says how long to wait in between.
const ATTEMPTS: u32 = 100;
/// Where it does not say.
const PAUSE: Duration = Duration::from_millis(50);

impl Acts {
    pub(super) fn new(servers: Vec<Arc<Http>>) -> Self {
        Self(servers)
    }

    /// Once: the outcome, whatever it is.
    pub(super) async fn once(
        &self,
        who: &Who,
        id: ClientId,
        act: &Act<'_>,
    ) -> anyhow::Result<Result<wire::Stored, Refused>> {
        let (method, path, mut body) = act.request();
        body["client_id"] = Value::from(id.to_string());
        let request = Request { method, path: &path, token: &who.token, body: Some(body) };
        Ok(self.server(who).ask(&request).await?.read())
    }

    /// Until it is stored; a server that is full or was away for a moment is asked again.
    pub(super) async fn stored(&self, who: &Who, id: ClientId, act: &Act<'_>) -> anyhow::Result<wire::Stored> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let refused = match self.once(who, id, act).await? {
                Ok(stored) => return Ok(stored),
                Err(refused) => refused,
            };
            let again = ["rate_limited", "overloaded", "unavailable", "outcome_unknown", "deadline_exceeded"];
            if !again.contains(&&*refused.name) {
                bail!("{} {}: {}", act.request().0, act.request().1, refused.name);
            }
            let pause = refused.retry_after_ms.map_or(PAUSE, Duration::from_millis);
            tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>())).await;
            last = refused.name;
        }
        bail!("{last}, {ATTEMPTS} times")
    }

    /// What somebody shows of himself; none: nobody has seen him yet.
    pub(super) async fn profile(&self, who: &Who) -> anyhow::Result<Option<wire::Profile>> {
        let path = format!("/v1/users/{}", who.user);
        let request = Request { method: "GET", path: &path, token: &who.token, body: None };
        match self.server(who).ask(&request).await?.read() {
            Ok(profile) => Ok(Some(profile)),
            Err(refused) if refused.name == "not_found" => Ok(None),
            Err(refused) => Err(anyhow::anyhow!(refused.name)).context("reading a profile"),
        }
    }

    fn server(&self, who: &Who) -> &Http {
        &self.0[(who.user.0.as_u128() % self.0.len() as u128) as usize]
    }
}

impl Act<'_> {
    fn request(&self) -> (&'static str, String, Value) {
        match self {
            Act::Profile { name, bio } => ("PATCH", "/v1/profile".into(), json!({"display_name": name, "bio": bio})),
            Act::Post(body) => ("POST", "/v1/posts".into(), json!({"body": body})),
            Act::Follow(user) => ("POST", format!("/v1/users/{user}/follow"), json!({})),
            Act::Like(post) => ("POST", format!("/v1/posts/{post}/like"), json!({})),
            Act::Comment(post, body) => ("POST", format!("/v1/posts/{post}/comments"), json!({"body": body})),
            Act::Share(post) => ("POST", format!("/v1/posts/{post}/share"), json!({})),
        }
    }
}
