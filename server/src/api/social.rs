//! Posts, people and feeds over HTTP. A request becomes the command of the contract that a socket would send: its fields come from
//! the body, the query and the path, and its limits, names and answers are the same.

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use bowline_protocol::command::Command;
use bowline_protocol::wire::server_frame::Kind as Push;
use bowline_protocol::{Code, Codec, Failure, UserId};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Api;
use super::body::Body;
use super::client::Bearer;
use super::refusal::Refusal;
use crate::deadline::Deadline;
use crate::log::Stored;

/// Parameters of a path are called as the fields that they become.
pub(super) fn routes() -> Router<Api> {
    let list = |kind: &'static str| get(move |asked: Asked| asked.with("kind", kind).run("people_list"));
    let mute = |muted: bool| move |asked: Asked| asked.with("muted", muted).run("user_mute");
    Router::new()
        .route("/v1/posts", post(|asked: Asked| asked.run("post_create")))
        .route(
            "/v1/posts/{post_id}",
            get(|asked: Asked| asked.run("post_get")).delete(|asked: Asked| asked.run("post_delete")),
        )
        .route(
            "/v1/posts/{post_id}/like",
            post(|asked: Asked| asked.run("post_like")).delete(|asked: Asked| asked.run("post_unlike")),
        )
        .route("/v1/posts/{post_id}/share", post(|asked: Asked| asked.run("post_share")))
        .route(
            "/v1/posts/{post_id}/comments",
            get(|asked: Asked| asked.run("comment_list")).post(|asked: Asked| asked.run("comment_create")),
        )
        .route("/v1/users/{user_id}", get(|asked: Asked| asked.run("profile_get")))
        .route("/v1/users/{user_id}/posts", get(|asked: Asked| asked.run("post_list")))
        .route("/v1/users/{user_id}/followers", list("followers"))
        .route("/v1/users/{user_id}/followees", list("followees"))
        .route("/v1/users/{user_id}/blocked", list("blocked"))
        .route("/v1/users/{user_id}/muted", list("muted"))
        .route(
            "/v1/users/{user_id}/follow",
            post(|asked: Asked| asked.run("follow")).delete(|asked: Asked| asked.run("unfollow")),
        )
        .route(
            "/v1/users/{user_id}/block",
            post(|asked: Asked| asked.run("block")).delete(|asked: Asked| asked.run("unblock")),
        )
        .route("/v1/users/{user_id}/mute", post(mute(true)).delete(mute(false)))
        .route("/v1/feed", get(|asked: Asked| asked.run("feed_page")))
        .route("/v1/profile", patch(|asked: Asked| asked.run("profile_set")))
}

/// A command of which the route alone knows the name.
struct Asked {
    api: Api,
    user: UserId,
    deadline: Deadline,
    fields: Map<String, Value>,
}

impl Asked {
    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// The field that is wrong is named without the command, which nobody named.
    async fn run(self, name: &'static str) -> Result<Response, Refusal> {
        let Self { api, user, deadline, fields } = self;
        let inner = &api.inner;
        let command = command(name, fields, &inner.limits).map_err(|failure| {
            let field =
                failure.field.map(|field| field.strip_prefix(name).unwrap_or(&field).trim_matches('.').to_owned());
            Failure { field: field.filter(|field| !field.is_empty()), ..failure }
        })?;
        let (told, stored) = oneshot::channel();
        let done = |result: Result<Stored, Failure>| drop(told.send(result));
        match command {
            Command::Posts(query) => return Ok(answer(inner.posts.read(user, query, deadline).await?)),
            Command::People(query) => return Ok(answer(inner.graph.read(user, query, deadline).await?)),
            Command::Feed(query) => return Ok(Json(inner.feed.page(user, &query, deadline).await?).into_response()),
            Command::ChangePost { client_id, change } => inner.posts.change(user, client_id, change, deadline, done),
            Command::ChangePeople { client_id, change } => inner.graph.change(user, client_id, change, deadline, done),
            _ => return Err(Code::Internal.into()),
        }
        let stored = stored.await.unwrap_or_else(|_| Err(Code::OutcomeUnknown.into()))?;
        let status = if stored.made.is_some() { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(stored.to_wire())).into_response())
    }
}

impl FromRequest<Api> for Asked {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let deadline = *parts.extensions.get::<Deadline>().ok_or(Code::Internal)?;
        let Bearer(identity) = Bearer::from_request_parts(&mut parts, api).await?;
        let path = RawPathParams::from_request_parts(&mut parts, api).await;
        let path = path.map_err(|_| Failure::invalid("path", "not UTF-8"))?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let request = Request::from_parts(parts, body);
        let mut fields = match request.body().is_end_stream() {
            true => Map::new(),
            false => Body::<Map<String, Value>>::from_request(request, api).await?.0,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            fields.insert(name.into_owned(), typed(&value));
        }
        for (name, value) in &path {
            fields.insert(name.to_owned(), value.into());
        }
        Ok(Self { api: api.clone(), user: identity.user, deadline, fields })
    }
}

fn command(
    name: &str,
    fields: Map<String, Value>,
    limits: &bowline_protocol::limits::Limits,
) -> Result<Command, Failure> {
    let mut frame = Map::from_iter([("id".to_owned(), Value::from(1))]);
    frame.insert(name.to_owned(), Value::Object(fields));
    let read = Codec::Json.read_client(Value::Object(frame).to_string().as_bytes()).pop();
    let frame = read.ok_or(Code::Malformed)?.map_err(|refused| refused.failure)?;
    Command::check(frame.kind.ok_or(Code::UnknownCommand)?, limits)
}

/// A query says numbers in the same letters as text.
fn typed(value: &str) -> Value {
    value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from)
}

fn answer(reply: Push) -> Response {
    match reply {
        Push::Post(post) => Json(post).into_response(),
        Push::Posts(posts) => Json(posts).into_response(),
        Push::Comments(comments) => Json(comments).into_response(),
        Push::Profile(profile) => Json(profile).into_response(),
        Push::People(people) => Json(people).into_response(),
        _ => Refusal::from(Code::Internal).into_response(),
    }
}
