//! What people do, on a socket of theirs or over HTTP: each change under an id of its own, tried again while the server asks for
//! that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{ClientId, PostId, UserId, wire};
use serde_json::{Value, json};
use uuid::Uuid;

use super::line::Line;
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
        for _ in 0..ATTEMPTS {
            match self.once(who, id, act).await? {
                Ok(stored) => return Ok(stored),
                Err(refused) => pause(&refused, act).await?,
            }
        }
        bail!("{}: refused {ATTEMPTS} times", act.name())
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

/// As [`Acts::stored`], on a socket of whoever does it.
pub(super) async fn stored_on(line: &Line, id: ClientId, act: &Act<'_>) -> anyhow::Result<wire::Stored> {
    for _ in 0..ATTEMPTS {
        match line.ask(act.ask(id)).await {
            Ok((Push::Stored(stored), _)) => return Ok(stored),
            Ok(_) => bail!("{}: another reply", act.name()),
            Err(refused) => pause(&refused, act).await?,
        }
    }
    bail!("{}: refused {ATTEMPTS} times", act.name())
}

/// Before it is tried again. What would be refused again is an error.
async fn pause(refused: &Refused, act: &Act<'_>) -> anyhow::Result<()> {
    let again = ["rate_limited", "overloaded", "unavailable", "outcome_unknown", "deadline_exceeded"];
    ensure!(again.contains(&&*refused.name), "{}: {}", act.name(), refused.name);
    let pause = refused.retry_after_ms.map_or(PAUSE, Duration::from_millis);
    tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>())).await;
    Ok(())
}

impl Act<'_> {
    fn name(&self) -> &'static str {
        match self {
            Act::Profile { .. } => "profile_set",
            Act::Post(_) => "post_create",
            Act::Follow(_) => "follow",
            Act::Like(_) => "post_like",
            Act::Comment(..) => "comment_create",
            Act::Share(_) => "post_share",
        }
    }

    fn ask(&self, id: ClientId) -> Ask {
        let client_id = id.to_wire();
        let id_of = |post: &Uuid| PostId(*post).to_wire();
        match self {
            Act::Profile { name, bio } => {
                let text = |text: &str| Some(text.to_owned());
                Ask::ProfileSet(wire::ProfileSet {
                    client_id,
                    display_name: text(name),
                    bio: text(bio),
                    avatar_url: None,
                })
            }
            Act::Post(body) => {
                Ask::PostCreate(wire::PostCreate { client_id, body: (*body).to_owned(), ..Default::default() })
            }
            Act::Follow(user) => Ask::Follow(wire::UserChange { client_id, user_id: user.to_wire() }),
            Act::Like(post) => Ask::PostLike(wire::PostLike { client_id, post_id: id_of(post) }),
            Act::Comment(post, body) => {
                let (post_id, body) = (id_of(post), (*body).to_owned());
                Ask::CommentCreate(wire::CommentCreate { client_id, post_id, body })
            }
            Act::Share(post) => Ask::PostShare(wire::PostShare { client_id, post_id: id_of(post) }),
        }
    }

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
