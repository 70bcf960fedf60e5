//! Who somebody is: accounts with a password, sessions and their tokens, and the users of the app's own issuer.
//!
//! May touch `storage` (through `store.rs`, the only file here with SQL) and `log`, through which a session ends.
//!
//! Always holds: an identity comes from a verified token alone; no password is hashed outside the threads of
//! [`passwords`]; a secret that a client holds is stored as a hash only.

mod admitted;
mod names;
pub mod passwords;
mod refresh;
mod store;
pub mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bowline_protocol::wire::{Entry, SenderKind};
use bowline_protocol::{ClientId, Code, Failure, LogId, Seq, SessionId, UserId};
use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::batcher::{Batcher, Job, latest};
use crate::config::Invalid;
use crate::deadline::Deadline;
use crate::log::{Action, Command, Log, Stored};
use crate::storage::Pool;
use crate::telemetry::Metrics;
use admitted::Admitted;
use names::Username;
use passwords::{Hashers, Verdict};
use refresh::{RefreshToken, Ruling};
pub use tokens::{AccessToken, Identity, Tokens};

/// Tries to put the next refresh token in place; each one that fails has seen another one succeed.
const ROTATIONS: usize = 3;
const DAY_S: u64 = 86_400;

#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether anybody may make an account.
    pub registration: bool,
    /// A session that is not refreshed for so long is over.
    pub session_s: u64,
    pub passwords: passwords::Config,
    pub tokens: tokens::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registration: true,
            session_s: 30 * DAY_S,
            passwords: passwords::Config::default(),
            tokens: tokens::Config::default(),
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let session = Invalid::unless_in("session_s", self.session_s, 3_600..=400 * DAY_S);
        let passwords = self.passwords.validate().into_iter().map(|invalid| invalid.under("passwords"));
        let tokens = self.tokens.validate().into_iter().map(|invalid| invalid.under("tokens"));
        session.into_iter().chain(passwords).chain(tokens).collect()
    }
}

/// What a newcomer gives. Who he is comes from here alone: the id is chosen by the server.
#[derive(Debug)]
pub struct Registration {
    pub username: String,
    pub password: SecretString,
    /// Without it the username as he wrote it.
    pub display_name: Option<String>,
    pub client_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub user: UserId,
    /// In lower case.
    pub username: String,
    pub display_name: String,
}

/// A session's fresh tokens: the access token proves who its bearer is, the refresh token gets the next pair, once.
#[derive(Debug)]
pub struct Grant {
    pub user: UserId,
    pub session: SessionId,
    pub access: AccessToken,
    pub refresh: SecretString,
}

/// One that wants to come in with a verified token.
#[derive(Debug)]
struct Arrival {
    identity: Identity,
    /// What the session is listed as; may be empty.
    client_name: String,
}

/// A session as its user sees it in the list of his sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub session: SessionId,
    pub client_name: String,
    pub created_at_ms: i64,
    pub last_used_at_ms: i64,
}

/// Accounts and sessions; cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    log: Log,
    admissions: Batcher<Arrival, ()>,
    requests: Batcher<Arrival, ()>,
    admitted: Admitted,
    hashers: Hashers,
    tokens: Tokens,
    registration: bool,
    session_s: i64,
}

impl Accounts {
    /// Reads or makes the keys of tokens and starts the hashing threads.
    pub fn start(
        config: &Config,
        data_dir: Option<&Path>,
        pool: Pool,
        log: Log,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let inner = Inner {
            admissions: start_admissions(pool.clone()),
            requests: start_requests(pool.clone()),
            admitted: Admitted::default(),
            pool,
            log,
            hashers: Hashers::start(&config.passwords, metrics)?,
            tokens: Tokens::open(&config.tokens, data_dir)?,
            registration: config.registration,
            session_s: i64::try_from(config.session_s)?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// Who the bearer of an access token is; errors as [`Tokens::verify`]. Whether his session was revoked meanwhile is
    /// for [`Self::admit`] to say.
    pub fn verify(&self, access_token: &str) -> Result<Identity, Failure> {
        self.inner.tokens.verify(access_token, now_ms())
    }

    /// Makes an account, and a first session with it.
    ///
    /// # Errors
    /// `name_taken`; `invalid` or `too_large` with the field and its limit; `forbidden` where registration is closed;
    /// `overloaded` when too many passwords wait to be hashed. `outcome_unknown`: log in, it may have been made.
    pub async fn register(&self, new: Registration, deadline: Deadline) -> Result<(Profile, Grant), Failure> {
        let inner = &self.inner;
        if !inner.registration {
            let message = Some("accounts are not made here by their users".to_owned());
            return Err(Failure { message, ..Failure::new(Code::Forbidden) });
        }
        let username = Username::parse(&new.username)?;
        names::check_password(&new.password)?;
        let display_name = new.display_name.unwrap_or(new.username);
        names::check_display_name(&display_name)?;
        names::check_client_name(&new.client_name)?;
        // Asked first as well, because a hash is dear.
        if store::find(&inner.pool, username.as_str(), deadline).await?.is_some() {
            return Err(name_taken());
        }
        let hash = inner.hashers.hash(new.password, deadline).await?;
        let profile = Profile { user: UserId::new(), username: username.as_str().to_owned(), display_name };
        let token = RefreshToken::first(SessionId::new());
        let session = inner.new_session(&token, &new.client_name);
        if !store::register(&inner.pool, &profile, &hash, &session, deadline).await? {
            return Err(name_taken());
        }
        let grant = inner.grant(profile.user, &token)?;
        Ok((profile, grant))
    }

    /// Begins a session for one who knows the password.
    ///
    /// # Errors
    /// `bad_credentials`, the same and after the same work for a wrong password and a name that nobody has;
    /// `overloaded` when too many passwords wait to be hashed.
    pub async fn log_in(
        &self,
        username: &str,
        password: SecretString,
        client_name: &str,
        deadline: Deadline,
    ) -> Result<Grant, Failure> {
        let inner = &self.inner;
        names::check_client_name(client_name)?;
        let bad = || Failure::new(Code::BadCredentials);
        // What can't be a name or a password is nobody's; it costs no hash, for it tells nothing about who exists.
        let username = Username::parse(username).map_err(|_| bad())?;
        names::check_password(&password).map_err(|_| bad())?;
        let login = store::login(&inner.pool, username.as_str(), deadline).await?;
        let (user, hash) = match login {
            Some(login) => (Some(login.user), login.password_hash),
            None => (None, None),
        };
        let verdict = inner.hashers.verify(password, hash, deadline).await?;
        let (Some(user), Verdict::Right { rehashed }) = (user, verdict) else { return Err(bad()) };
        let token = RefreshToken::first(SessionId::new());
        let session = inner.new_session(&token, client_name);
        store::add_session(&inner.pool, user, &session, rehashed.as_deref(), deadline).await?;
        inner.grant(user, &token)
    }

    /// The next pair of tokens for one refresh token, which is then used up; see [`refresh`] for an answer that was lost.
    ///
    /// # Errors
    /// `revoked` when the session was ended, also by this call: a token that was used before has been stolen.
    /// `unauthenticated` when the token is no good; log in again in both cases.
    pub async fn refresh(&self, token: &SecretString, deadline: Deadline) -> Result<Grant, Failure> {
        let inner = &self.inner;
        let unknown = || {
            let message = Some("the refresh token is not valid".to_owned());
            Failure { message, ..Failure::new(Code::Unauthenticated) }
        };
        let token = RefreshToken::parse(token).ok_or_else(unknown)?;
        for _ in 0..ROTATIONS {
            let stored = store::stored_tokens(&inner.pool, token.session, deadline).await?;
            let (user, stored) = stored.ok_or_else(unknown)?;
            match stored.rule(&token) {
                Ruling::Rotate => {
                    let salt: [u8; 32] = rand::random();
                    if store::rotate(&inner.pool, &token, &salt, inner.session_s, deadline).await? {
                        return inner.grant(user, &token.next(&salt));
                    }
                }
                Ruling::Repeat => return inner.grant(user, &token.next(&stored.salt.unwrap_or_default())),
                Ruling::Stolen => {
                    tracing::warn!(%user, session = %token.session, "a refresh token came twice: its session is ended");
                    self.end_now(user, Some(token.session), deadline).await?;
                    return Err(Code::Revoked.into());
                }
                Ruling::Revoked => return Err(Code::Revoked.into()),
                Ruling::Unknown => return Err(unknown()),
            }
        }
        Err(Failure::retry_after(Code::Overloaded, 100))
    }

    /// Ends one of the user's sessions, or all of them, by an entry in his log: no token of theirs connects or refreshes
    /// any more, and their sockets close as the entry reaches them.
    ///
    /// # Errors
    /// `not_found` when he has no such session.
    pub async fn end(&self, user: UserId, session: Option<SessionId>, deadline: Deadline) -> Result<(), Failure> {
        if let Some(session) = session {
            let mine = store::sessions(&self.inner.pool, user, deadline).await?;
            if !mine.iter().any(|info| info.session == session) {
                return Err(Code::NotFound.into());
            }
        }
        self.end_now(user, session, deadline).await
    }

    /// The same as a durable command with an id of the client's, so that sending it twice is sending it once. Never
    /// waits; `done` is called exactly once.
    pub fn revoke(
        &self,
        user: UserId,
        client_id: ClientId,
        session: Option<SessionId>,
        deadline: Deadline,
        done: impl FnOnce(Result<Stored, Failure>) + Send + 'static,
    ) {
        let command = Command {
            log: user.log(),
            sender: user,
            sender_kind: SenderKind::User,
            client_id,
            action: Action::RevokeSession(session),
        };
        self.inner.log.append(command, deadline, Box::new(done));
    }

    async fn end_now(&self, user: UserId, session: Option<SessionId>, deadline: Deadline) -> Result<(), Failure> {
        let (told, stored) = oneshot::channel();
        self.revoke(user, ClientId::new(), session, deadline, |result| drop(told.send(result)));
        stored.await.unwrap_or_else(|_| Err(Code::Internal.into())).map(drop)
    }

    /// Lets the bearer of a verified token in: `revoked` if its session was ended meanwhile. The user, his log and the
    /// session are made where an outside issuer's token is seen for the first time. Many who come at once cost one
    /// statement.
    pub async fn admit(&self, identity: &Identity, client_name: &str, deadline: Deadline) -> Result<(), Failure> {
        let arrival = Arrival { identity: identity.clone(), client_name: client_name.to_owned() };
        self.inner.admissions.ask(arrival, deadline).await
    }

    /// As [`Self::admit`], for one request of many: whoever was let in less than ten seconds ago, and whose sessions are not
    /// known to have changed since, is let in without asking.
    pub async fn admit_request(&self, identity: &Identity, deadline: Deadline) -> Result<(), Failure> {
        let Inner { admitted, requests, .. } = &*self.inner;
        if admitted.has(identity) {
            return Ok(());
        }
        let asked = Instant::now();
        requests.ask(Arrival { identity: identity.clone(), client_name: String::new() }, deadline).await?;
        admitted.add(identity.clone(), asked);
        Ok(())
    }

    /// What this node stored in a log. Never waits.
    pub fn committed(&self, log: LogId, entries: &[Entry]) {
        self.inner.admitted.committed(log, entries);
    }

    /// Logs in which something was stored, here or elsewhere. Never waits.
    pub fn changed(&self, heads: &[(LogId, Seq)]) {
        self.inner.admitted.changed(heads);
    }

    /// Who has this name.
    pub async fn find(&self, username: &str, deadline: Deadline) -> Result<Profile, Failure> {
        find(&self.inner.pool, username, deadline).await
    }

    /// The user's sessions that are not over, the one used last first; at most 100.
    pub async fn sessions(&self, user: UserId, deadline: Deadline) -> Result<Vec<SessionInfo>, Failure> {
        store::sessions(&self.inner.pool, user, deadline).await
    }
}

/// As [`Accounts::find`], for an operator's command, which starts nothing.
pub async fn find(pool: &Pool, username: &str, deadline: Deadline) -> Result<Profile, Failure> {
    let username = Username::parse(username).map_err(|_| Failure::new(Code::NotFound))?;
    let profile = store::find(pool, username.as_str(), deadline).await?;
    profile.ok_or_else(|| Code::NotFound.into())
}

impl Inner {
    fn new_session<'a>(&self, token: &'a RefreshToken, client_name: &'a str) -> store::NewSession<'a> {
        store::NewSession { token, client_name, lifetime_s: self.session_s }
    }

    fn grant(&self, user: UserId, token: &RefreshToken) -> Result<Grant, Failure> {
        let access = self.tokens.mint(user, token.session, None, now_ms())?;
        Ok(Grant { user, session: token.session, access, refresh: token.text() })
    }
}

fn start_admissions(pool: Pool) -> Batcher<Arrival, ()> {
    Batcher::start(|_| 1, move |jobs| admit(pool.clone(), jobs))
}

/// Requests do not come in storms, as those who connect do, and nobody waits 5 ms for each.
fn start_requests(pool: Pool) -> Batcher<Arrival, ()> {
    Batcher::at_once(|_| 1, move |jobs| admit(pool.clone(), jobs))
}

async fn admit(pool: Pool, jobs: Vec<Job<Arrival, ()>>) {
    let Some(deadline) = latest(&jobs) else { return };
    let arrivals: Vec<&Arrival> = jobs.iter().map(|job| &job.asked).collect();
    match store::admit(&pool, &arrivals, deadline).await {
        Ok(admitted) => {
            for (job, yes) in jobs.into_iter().zip(admitted) {
                job.answer(if yes { Ok(()) } else { Err(Code::Revoked.into()) });
            }
        }
        Err(failure) => jobs.into_iter().for_each(|job| job.answer(Err(failure.clone()))),
    }
}

fn name_taken() -> Failure {
    Failure { field: Some("username".to_owned()), ..Failure::new(Code::NameTaken) }
}

/// A clock before 1970 makes every token look fresh, and is not met.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
