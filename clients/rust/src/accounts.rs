//! Accounts over HTTP: register, log in, renew, log out, find a person by name.

use std::time::Duration;

use bowline_protocol::{Code, Failure, SessionId, UserId, wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::failure;

/// The HTTP side of one server. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct Accounts {
    http: reqwest::Client,
    base: String,
    client_name: String,
}

/// A login: who, and the tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    pub user_id: UserId,
    pub session_id: SessionId,
    pub access_token: String,
    /// From when the server gave it.
    pub expires_in_s: u64,
    /// Good for one renewal.
    pub refresh_token: String,
}

/// A person's account as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub user_id: UserId,
    pub username: String,
}

/// No request takes longer than this.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Credentials<'a> {
    username: &'a str,
    password: &'a str,
    client_name: &'a str,
}

#[derive(Serialize)]
struct Renewal<'a> {
    refresh_token: &'a str,
}

impl Accounts {
    /// `url` is the server's: `http://host:port`.
    pub fn new(url: &str) -> Result<Self, Error> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let base = url.trim_end_matches('/').replacen("ws", "http", usize::from(url.starts_with("ws")));
        Ok(Self { http, base, client_name: "bowline-client".into() })
    }

    /// How logins of this app are called in the list of sessions.
    pub fn client_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.client_name);
        self
    }

    /// Makes an account and logs in.
    pub async fn register(&self, username: &str, password: &str) -> Result<Login, Error> {
        read(self.http.post(self.at("accounts")).json(&self.credentials(username, password))).await
    }

    pub async fn log_in(&self, username: &str, password: &str) -> Result<Login, Error> {
        read(self.http.post(self.at("sessions")).json(&self.credentials(username, password))).await
    }

    /// New tokens for a refresh token, which is spent by this.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Login, Error> {
        read(self.http.post(self.at("sessions/refresh")).json(&Renewal { refresh_token })).await
    }

    /// Ends one session of the user of this access token.
    pub async fn log_out(&self, access_token: &str, session: SessionId) -> Result<(), Error> {
        let url = format!("{}/{session}", self.at("sessions"));
        checked(self.http.delete(url).bearer_auth(access_token)).await.map(drop)
    }

    /// Ends every session of the user of this access token.
    pub async fn log_out_everywhere(&self, access_token: &str) -> Result<(), Error> {
        checked(self.http.delete(self.at("sessions")).bearer_auth(access_token)).await.map(drop)
    }

    pub async fn find(&self, access_token: &str, username: &str) -> Result<Account, Error> {
        let url = format!("{}/{}", self.at("accounts"), percent(username));
        read(self.http.get(url).bearer_auth(access_token)).await
    }

    fn credentials<'a>(&'a self, username: &'a str, password: &'a str) -> Credentials<'a> {
        Credentials { username, password, client_name: &self.client_name }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }
}

async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    Ok(checked(request).await?.json().await?)
}

async fn checked(request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
    let response = request.send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    Err(Error::Refused(refusal(status, &response.bytes().await?)))
}

/// An error of the catalogue, or what the status says where something else answered.
fn refusal(status: u16, body: &[u8]) -> Failure {
    match refusal_in(body) {
        Some(failure) => failure,
        None => {
            let code = if status >= 500 { Code::Unavailable } else { Code::Invalid };
            Failure { message: Some(format!("HTTP {status}")), ..Failure::new(code) }
        }
    }
}

/// What the body of an HTTP answer says of a refusal, if it is Bowline's.
pub(crate) fn refusal_in(body: &[u8]) -> Option<Failure> {
    #[derive(Deserialize)]
    struct Body {
        error: wire::Error,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| failure(body.error))
}

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_catalogues_whoever_answers() {
        let body = br#"{"error":{"code":401,"name":"overloaded","message":"full","retry_after_ms":900}}"#;
        let f = refusal(503, body);
        assert_eq!((f.code, f.retry_after_ms), (Code::Overloaded, Some(900)));
        assert_eq!(refusal(502, b"<html>").code, Code::Unavailable);
        assert_eq!(refusal(404, b"").code, Code::Invalid);
        assert_eq!(refusal(400, br#"{"error":{"code":399,"name":"later_made","message":""}}"#).code, Code::Forbidden);
    }

    #[test]
    fn urls_of_both_kinds_and_names_of_any() {
        for url in ["ws://h:1/", "http://h:1"] {
            assert_eq!(Accounts::new(url).expect("a client").at("accounts"), "http://h:1/v1/accounts");
        }
        assert_eq!(percent("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
