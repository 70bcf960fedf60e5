//! Accounts and sessions over HTTP: decode, one call of the domain, encode.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bowline_protocol::{Failure, SessionId, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::Api;
use super::body::Body;
use super::client::{Address, Bearer};
use super::refusal::Refusal;
use crate::accounts::{Grant, Profile, Registration, SessionInfo};
use crate::deadline::Deadline;

#[derive(Deserialize)]
pub(super) struct NewAccount {
    username: String,
    password: SecretString,
    display_name: Option<String>,
    #[serde(default)]
    client_name: String,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    username: String,
    password: SecretString,
    #[serde(default)]
    client_name: String,
}

#[derive(Deserialize)]
pub(super) struct RefreshToken {
    refresh_token: SecretString,
}

/// The tokens of a session.
#[derive(Serialize)]
pub(super) struct Tokens {
    user_id: UserId,
    session_id: SessionId,
    access_token: String,
    expires_in_s: u64,
    refresh_token: String,
}

#[derive(Serialize)]
pub(super) struct Account {
    user_id: UserId,
    username: String,
    display_name: String,
}

#[derive(Serialize)]
pub(super) struct Registered {
    username: String,
    display_name: String,
    #[serde(flatten)]
    tokens: Tokens,
}

#[derive(Serialize)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Serialize)]
struct Session {
    session_id: SessionId,
    client_name: String,
    created_at_ms: i64,
    last_used_at_ms: i64,
    current: bool,
}

/// A newcomer is logged in at once.
pub(super) async fn register(
    State(api): State<Api>,
    Extension(address): Extension<Address>,
    Extension(deadline): Extension<Deadline>,
    Body(new): Body<NewAccount>,
) -> Result<(StatusCode, Json<Registered>), Refusal> {
    limit(&api, address, &new.username)?;
    let NewAccount { username, password, display_name, client_name } = new;
    let new = Registration { username, password, display_name, client_name };
    let (profile, grant) = api.inner.accounts.register(new, deadline).await?;
    let Profile { username, display_name, .. } = profile;
    Ok((StatusCode::CREATED, Json(Registered { username, display_name, tokens: grant.into() })))
}

pub(super) async fn log_in(
    State(api): State<Api>,
    Extension(address): Extension<Address>,
    Extension(deadline): Extension<Deadline>,
    Body(given): Body<Credentials>,
) -> Result<Json<Tokens>, Refusal> {
    limit(&api, address, &given.username)?;
    let Credentials { username, password, client_name } = given;
    let grant = api.inner.accounts.log_in(&username, password, &client_name, deadline).await?;
    Ok(Json(grant.into()))
}

pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(deadline): Extension<Deadline>,
    Body(given): Body<RefreshToken>,
) -> Result<Json<Tokens>, Refusal> {
    Ok(Json(api.inner.accounts.refresh(&given.refresh_token, deadline).await?.into()))
}

pub(super) async fn sessions(
    State(api): State<Api>,
    Bearer(identity): Bearer,
    Extension(deadline): Extension<Deadline>,
) -> Result<Json<Sessions>, Refusal> {
    let sessions = api.inner.accounts.sessions(identity.user, deadline).await?;
    let shown = |info: SessionInfo| Session {
        session_id: info.session,
        client_name: info.client_name,
        created_at_ms: info.created_at_ms,
        last_used_at_ms: info.last_used_at_ms,
        current: info.session == identity.session,
    };
    Ok(Json(Sessions { sessions: sessions.into_iter().map(shown).collect() }))
}

pub(super) async fn end_all(
    State(api): State<Api>,
    Bearer(identity): Bearer,
    Extension(deadline): Extension<Deadline>,
) -> Result<StatusCode, Refusal> {
    api.inner.accounts.end(identity.user, None, deadline).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn end_one(
    State(api): State<Api>,
    Bearer(identity): Bearer,
    Extension(deadline): Extension<Deadline>,
    Path(session): Path<String>,
) -> Result<StatusCode, Refusal> {
    let session = session.parse().map_err(|_| Failure::invalid("session_id", "is no UUID"))?;
    api.inner.accounts.end(identity.user, Some(session), deadline).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How one user finds another to talk to.
pub(super) async fn find(
    State(api): State<Api>,
    _: Bearer,
    Extension(deadline): Extension<Deadline>,
    Path(username): Path<String>,
) -> Result<Json<Account>, Refusal> {
    let Profile { user, username, display_name } = api.inner.accounts.find(&username, deadline).await?;
    Ok(Json(Account { user_id: user, username, display_name }))
}

/// A password is worth guessing from many addresses, and one address at many names.
fn limit(api: &Api, address: Address, username: &str) -> Result<(), Failure> {
    api.inner.addresses.take(address.into())?;
    // Longer ones are no names; cut, they still share a bucket.
    let name = username.chars().take(64).collect::<String>().to_ascii_lowercase();
    api.inner.names.take(name)
}

impl From<Grant> for Tokens {
    fn from(grant: Grant) -> Self {
        Self {
            user_id: grant.user,
            session_id: grant.session,
            access_token: grant.access.token.expose_secret().to_owned(),
            expires_in_s: grant.access.expires_in.as_secs(),
            refresh_token: grant.refresh.expose_secret().to_owned(),
        }
    }
}
