//! Where access tokens come from.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::code::Retry;
use tokio::time::Instant;

use crate::Error;
use crate::accounts::{Accounts, Login};

/// A token is asked for before each connection, and again (`renew`) when the server no longer takes the last one.
pub enum TokenSource {
    /// One token for as long as it is valid; once the server refuses it, the client ends.
    Fixed(String),
    /// A login with a refresh token.
    Session(Box<Session>),
    /// The app's own.
    Callback(Callback),
}

/// Told whether the last token was refused or ends soon; gives a token.
pub type Callback = Arc<dyn Fn(bool) -> Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>> + Send + Sync>;

/// Keeps a login whose refresh token was changed. Called before the new tokens are used, since the old refresh token is
/// spent by then.
pub type Persist = Box<dyn FnMut(&Login) -> io::Result<()> + Send>;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can be tried again.
    #[error("{0}")]
    Later(String),
    /// The login is over; a person must log in again.
    #[error("{0}")]
    Denied(String),
}

/// A login that renews its access token by its refresh token.
pub struct Session {
    accounts: Accounts,
    login: Login,
    renew_at: Instant,
    persist: Option<Persist>,
}

/// A token that ends sooner than this is renewed before it is used.
const NEAR_ITS_END: Duration = Duration::from_secs(30);

impl Session {
    pub fn new(accounts: Accounts, login: Login) -> Self {
        let renew_at = renew_at(&login);
        Self { accounts, login, renew_at, persist: None }
    }

    pub fn persist(mut self, persist: Persist) -> Self {
        self.persist = Some(persist);
        self
    }

    async fn get(&mut self, renew: bool) -> Result<String, TokenError> {
        if renew || Instant::now() >= self.renew_at {
            self.login = self.accounts.refresh(&self.login.refresh_token).await.map_err(denied_or_later)?;
            self.renew_at = renew_at(&self.login);
            if let Some(persist) = &mut self.persist {
                persist(&self.login).map_err(|e| TokenError::Later(format!("the tokens could not be kept: {e}")))?;
            }
        }
        Ok(self.login.access_token.clone())
    }
}

impl TokenSource {
    pub async fn get(&mut self, renew: bool) -> Result<String, TokenError> {
        match self {
            TokenSource::Fixed(_) if renew => Err(TokenError::Denied("the only token was refused".into())),
            TokenSource::Fixed(token) => Ok(token.clone()),
            TokenSource::Session(session) => session.get(renew).await,
            TokenSource::Callback(callback) => callback(renew).await,
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenSource::Fixed(_) => "Fixed",
            TokenSource::Session(_) => "Session",
            TokenSource::Callback(_) => "Callback",
        })
    }
}

fn renew_at(login: &Login) -> Instant {
    Instant::now() + Duration::from_secs(login.expires_in_s).saturating_sub(NEAR_ITS_END)
}

fn denied_or_later(error: Error) -> TokenError {
    match &error {
        Error::Refused(failure) if matches!(failure.code.retry(), Retry::Never | Retry::Refresh) => {
            TokenError::Denied(error.to_string())
        }
        _ => TokenError::Later(error.to_string()),
    }
}
