//! Access tokens: those made here, and those of the app's own issuer. Verification is pure: no I/O, the time is given.
//!
//! Always holds: a token counts only under the one algorithm that its issuer's key has, whatever its header says, and
//! only for our audience.

mod keys;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_protocol::{Code, Failure, SessionId, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, dangerous};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{HIDDEN, Invalid, hidden};
use keys::{Key, Keys};

/// Clocks of two machines may differ by this much.
const LEEWAY_MS: i64 = 30_000;
const TOKEN_BYTES: usize = bowline_protocol::command::TOKEN_BYTES as usize;
const SUBJECT_BYTES: usize = 255;
const KEYS_CHECK: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `iss` and `aud` of the tokens made here.
    pub issuer: String,
    pub audience: String,
    /// Signs the tokens made here, at least 32 bytes; the same on every node. Without it a key is generated into the
    /// data directory. Changing it costs every session one refresh and no login.
    #[serde(serialize_with = "hidden")]
    pub secret: Option<SecretString>,
    /// How long an access token made here is good.
    pub access_s: u64,
    /// `iss` of an issuer that the app runs: its tokens are accepted as well, and their `sub` is the user.
    pub external_issuer: Option<String>,
    /// `aud` of its tokens; without it as of those made here.
    pub external_audience: Option<String>,
    /// One of these three checks its signatures. A shared secret, at least 32 bytes: HS256.
    #[serde(serialize_with = "hidden")]
    pub external_secret: Option<SecretString>,
    /// A public key in PEM: RSA (RS256), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
    pub external_public_key_file: Option<PathBuf>,
    /// A JWK set; read again when the file changes.
    pub external_jwks_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuer: "bowline".to_owned(),
            audience: "bowline".to_owned(),
            secret: None,
            access_s: 15 * 60,
            external_issuer: None,
            external_audience: None,
            external_secret: None,
            external_public_key_file: None,
            external_jwks_file: None,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found: Vec<_> = Invalid::unless_in("access_s", self.access_s, 60..=86_400).into_iter().collect();
        for (key, secret) in [("secret", &self.secret), ("external_secret", &self.external_secret)] {
            if secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < keys::SECRET_BYTES) {
                found.push(Invalid::new(key, HIDDEN, format!("at least {} bytes", keys::SECRET_BYTES)));
            }
        }
        let sources = self.external_secret.iter().count()
            + self.external_public_key_file.iter().count()
            + self.external_jwks_file.iter().count();
        match &self.external_issuer {
            Some(issuer) if *issuer == self.issuer => {
                found.push(Invalid::new("external_issuer", issuer, "another name than accounts.tokens.issuer"));
            }
            Some(issuer) if sources != 1 => {
                let allowed =
                    "exactly one of external_secret, external_public_key_file and external_jwks_file beside it";
                found.push(Invalid::new("external_issuer", issuer, allowed));
            }
            None if sources > 0 => {
                let allowed = "the name (iss) of the issuer whose key is given";
                found.push(Invalid::new("external_issuer", "", allowed));
            }
            _ => {}
        }
        found
    }
}

/// Who a token says its bearer is. Nothing in it is from anywhere but a verified token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: UserId,
    pub session: SessionId,
    /// Unix time. Zero where an external token does not say: older than any revocation.
    pub issued_at_ms: i64,
    pub expires_at_ms: i64,
}

/// A token fresh from here.
#[derive(Debug)]
pub struct AccessToken {
    pub token: SecretString,
    pub expires_in: Duration,
}

/// Makes and verifies access tokens.
pub struct Tokens {
    own: Issuer,
    signing: EncodingKey,
    lifetime: Duration,
    external: Option<Issuer>,
}

impl Tokens {
    /// Reads the keys; makes one in `data_dir` where none is configured. The configuration is taken to be valid.
    pub fn open(config: &Config, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let secret = match (&config.secret, data_dir) {
            (Some(secret), _) => secret.clone(),
            (None, Some(data_dir)) => keys::of_data_dir(data_dir)?,
            (None, None) => bail!(
                "accounts.tokens.secret: with a database of your own, set it to at least 32 bytes, the same on every node \
                 (BOWLINE_ACCOUNTS_TOKENS_SECRET), or name a --data-dir in which one is kept"
            ),
        };
        let own_key = Keys::secret(&secret).context("the secret of tokens")?;
        let external = config.external_issuer.as_ref().map(|issuer| -> anyhow::Result<Issuer> {
            let keys = Keys::external(config).context("the key of accounts.tokens.external_issuer")?;
            Ok(Issuer::new(issuer, config.external_audience.as_ref().unwrap_or(&config.audience), keys))
        });
        Ok(Self {
            own: Issuer::new(&config.issuer, &config.audience, own_key),
            signing: EncodingKey::from_secret(secret.expose_secret().as_bytes()),
            lifetime: Duration::from_secs(config.access_s),
            external: external.transpose()?,
        })
    }

    /// Who the bearer of this token is at this time.
    ///
    /// # Errors
    /// `token_expired` for a good token that is over, else `unauthenticated` with what is wrong; 30 s are allowed between
    /// the clocks. Whether its session was revoked meanwhile is not known here.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, Failure> {
        if token.len() > TOKEN_BYTES {
            return Err(refused("is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("is not a signed JWT"))?;
        if header.crit.is_some() {
            return Err(refused("asks for an extension (crit) that is not known here"));
        }
        // What is unverified here only chooses the key; the same bytes are believed once that key has verified them.
        let unverified: Named =
            dangerous::insecure_decode_claims(token).map_err(|_| refused("has no claims that can be read"))?;
        let issuer = self.issuer(&unverified.iss).ok_or_else(|| refused("is of an issuer (iss) not accepted here"))?;
        let keys = issuer.keys.get();
        let key = keys.find(header.kid.as_deref()).ok_or_else(|| refused("names a key (kid) that is not known"))?;
        issuer.identify(key.verified(token)?, now_ms)
    }

    /// A token made here for a session, good for `lifetime` (by default as configured) from `now_ms` on.
    pub fn mint(
        &self,
        user: UserId,
        session: SessionId,
        lifetime: Option<Duration>,
        now_ms: i64,
    ) -> Result<AccessToken, Failure> {
        let expires_in = lifetime.unwrap_or(self.lifetime);
        let now_s = now_ms.div_euclid(1_000);
        let claims = OwnClaims {
            iss: &self.own.name,
            aud: &self.own.audience,
            sub: user,
            sid: session,
            iat: now_s,
            exp: now_s.saturating_add_unsigned(expires_in.as_secs()),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Failure::new(Code::Internal)
        })?;
        Ok(AccessToken { token: token.into(), expires_in })
    }

    /// Reads the external issuer's JWK set again each 30 s if its file changed, until stopped. A file that can't be used
    /// is logged, and the keys before it stay in force.
    pub async fn watch(&self, stop: CancellationToken) {
        let Some(keys) = self.external.as_ref().map(|external| &external.keys) else { return };
        while stop.run_until_cancelled(tokio::time::sleep(KEYS_CHECK)).await.is_some() {
            match keys.reload().await {
                Ok(true) => tracing::info!("the issuer's keys were read again"),
                Ok(false) => {}
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the issuer's keys stay as they were"),
            }
        }
    }

    fn issuer(&self, name: &str) -> Option<&Issuer> {
        [Some(&self.own), self.external.as_ref()].into_iter().flatten().find(|issuer| issuer.name == name)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.own.name).finish_non_exhaustive()
    }
}

struct Issuer {
    name: String,
    audience: String,
    /// Of the ids made from what this issuer calls its users and sessions.
    namespace: Uuid,
    keys: Keys,
}

impl Issuer {
    fn new(name: &str, audience: &str, keys: Keys) -> Self {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        Self { name: name.to_owned(), audience: audience.to_owned(), namespace, keys }
    }

    fn identify(&self, claims: Claims, now_ms: i64) -> Result<Identity, Failure> {
        if !claims.aud.holds(&self.audience) {
            return Err(refused("is for another audience (aud)"));
        }
        let expires_at_ms = milliseconds(claims.exp);
        if now_ms >= expires_at_ms.saturating_add(LEEWAY_MS) {
            return Err(Code::TokenExpired.into());
        }
        // One dated ahead would outlive a revocation of everything issued before it.
        let not_before = [claims.nbf, claims.iat].into_iter().flatten().map(milliseconds).max();
        if not_before.is_some_and(|at| at > now_ms.saturating_add(LEEWAY_MS)) {
            return Err(refused("is not valid yet (nbf, iat)"));
        }
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES {
            return Err(refused("has no subject (sub) of 1 to 255 bytes"));
        }
        Ok(Identity {
            user: UserId(self.id(&claims.sub)),
            session: SessionId(self.session(&claims)),
            issued_at_ms: claims.iat.map_or(0, milliseconds),
            expires_at_ms,
        })
    }

    /// A UUID is taken as it is; anything else becomes the same UUID each time.
    fn id(&self, name: &str) -> Uuid {
        Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v5(&self.namespace, name.as_bytes()))
    }

    /// Of an issuer without sessions, each token is one.
    fn session(&self, claims: &Claims) -> Uuid {
        match (&claims.sid, &claims.jti) {
            (Some(sid), _) => self.id(sid),
            (None, Some(jti)) => Uuid::new_v5(&self.namespace, format!("jti {jti}").as_bytes()),
            (None, None) => {
                let name = format!("iat {} {}", claims.iat.map_or(0, milliseconds), claims.sub);
                Uuid::new_v5(&self.namespace, name.as_bytes())
            }
        }
    }
}

impl Key {
    /// The claims, once the signature is right. Times, issuer and audience are checked by [`Issuer::identify`], against
    /// the clock that it is given.
    fn verified(&self, token: &str) -> Result<Claims, Failure> {
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims = HashSet::new();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode(token, &self.decoding, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(refused(match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => "has another algorithm (alg) than the key",
                jsonwebtoken::errors::ErrorKind::Json(_) => "has claims of a wrong type",
                _ => "has a wrong signature",
            })),
        }
    }
}

#[derive(Serialize)]
struct OwnClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Named {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    /// Seconds; fractions are allowed.
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    sid: Option<String>,
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn holds(&self, name: &str) -> bool {
        match self {
            Audience::One(one) => one == name,
            Audience::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// `as` saturates, which is right for a time that no clock reaches.
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1_000.0) as i64
}

fn refused(reason: &str) -> Failure {
    Failure { message: Some(format!("the access token {reason}")), ..Failure::new(Code::Unauthenticated) }
}

#[cfg(test)]
mod tests;
