//! The users of a run: tokens minted here, or accounts registered there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bowline_client::accounts::Accounts;
use bowline_client::protocol::UserId;
use bowline_client::protocol::code::Retry;
use bowline_client::token::Session;
use bowline_client::{Error, TokenSource};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use uuid::Uuid;

use crate::fleet::order::Identity;

/// Makes access tokens as the app's own issuer would.
pub(crate) struct Minting {
    key: EncodingKey,
    issuer: String,
    audience: String,
    run: Uuid,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    iat: u64,
    exp: u64,
}

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);

impl Minting {
    pub(crate) fn new(secret: &str, issuer: &str, audience: &str) -> Self {
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Self::of(&Identity { secret: secret.to_owned(), issuer, audience, run: Uuid::new_v4() })
    }

    /// The same users, and tokens of theirs, wherever this is called with the same identity.
    pub(crate) fn of(identity: &Identity) -> Self {
        let Identity { secret, issuer, audience, run } = identity.clone();
        Self { key: EncodingKey::from_secret(secret.as_bytes()), issuer, audience, run }
    }

    /// The user of this name; another one in each run, so that no run meets the conversations of the one before.
    pub(crate) fn user(&self, name: &str) -> UserId {
        UserId(Uuid::new_v5(&self.run, name.as_bytes()))
    }

    pub(crate) fn token(&self, user: UserId) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let exp = now + LIFETIME.as_secs();
        let claims = Claims { iss: &self.issuer, aud: &self.audience, sub: user.to_string(), iat: now, exp };
        Ok(jsonwebtoken::encode(&Header::default(), &claims, &self.key)?)
    }
}

/// Registers accounts whose names nobody has.
pub(crate) struct Registering {
    run: String,
}

/// Attempts at one registration; the server says how long to wait in between.
const ATTEMPTS: u32 = 200;
/// Where it does not say.
const PAUSE: Duration = Duration::from_millis(500);

impl Registering {
    pub(crate) fn new() -> Self {
        Self { run: Uuid::new_v4().simple().to_string()[..8].to_owned() }
    }

    pub(crate) async fn person(&self, url: &str, n: usize) -> anyhow::Result<(UserId, TokenSource)> {
        let accounts = Accounts::new(url)?;
        let username = format!("lt-{}-{n}", self.run);
        let password = format!("{}-{}", Uuid::new_v4().simple(), n);
        for _ in 0..ATTEMPTS {
            match accounts.register(&username, &password).await {
                Ok(login) => {
                    let user = login.user_id;
                    return Ok((user, TokenSource::Session(Box::new(Session::new(accounts, login)))));
                }
                Err(Error::Refused(failure)) if failure.code.retry() == Retry::Later => {
                    let pause = failure.retry_after_ms.map_or(PAUSE, Duration::from_millis);
                    tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>())).await;
                }
                Err(error) => return Err(error).with_context(|| format!("registering {username}")),
            }
        }
        anyhow::bail!("registering {username}: refused {ATTEMPTS} times")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_same_within_a_run_and_others_in_the_next() {
        let (a, b) = (Minting::new("s", "i", "a"), Minting::new("s", "i", "a"));
        assert_eq!(a.user("nick"), a.user("nick"));
        assert_ne!(a.user("nick"), a.user("nick_"));
        assert_ne!(a.user("nick"), b.user("nick"));
    }
}
