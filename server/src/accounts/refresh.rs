//! Refresh tokens: what one looks like, and what a session does when it is shown one. Pure.
//!
//! A token is good once: using it gives the next. Its answer may be lost, so for [`GRACE_S`] the token before the current
//! one is answered again, with that same current one, as long as the current one was not used; two tabs that refresh at
//! once get the same token too. Any older token has left its owner's hands, and ends its session.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bowline_protocol::SessionId;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long an answer that was lost may be asked for again.
pub(super) const GRACE_S: i32 = 60;

/// Lets a scanner of leaked secrets know one.
const PREFIX: &str = "bowline_rt_";
const DOMAIN: &[u8] = b"bowline refresh token";

pub(super) type Hash = [u8; 32];

/// Names its session, proves by `family` that it was given out for it, and by `secret` which of its tokens it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) session: SessionId,
    family: [u8; 16],
    secret: [u8; 32],
}

impl RefreshToken {
    pub(super) fn first(session: SessionId) -> Self {
        Self { session, family: rand::random(), secret: rand::random() }
    }

    /// The one that follows. Only who holds this one can tell it from the salt, so the salt may be stored.
    pub(super) fn next(&self, salt: &[u8]) -> Self {
        let secret = Sha256::new().chain_update(DOMAIN).chain_update(self.secret).chain_update(salt).finalize();
        Self { secret: secret.into(), ..self.clone() }
    }

    pub(super) fn parse(text: &SecretString) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.expose_secret().strip_prefix(PREFIX)?).ok()?;
        let (session, rest) = bytes.split_first_chunk::<16>()?;
        let (family, secret) = rest.split_first_chunk::<16>()?;
        let session = SessionId(Uuid::from_bytes(*session));
        Some(Self { session, family: *family, secret: secret.try_into().ok()? })
    }

    pub(super) fn text(&self) -> SecretString {
        let bytes = [self.session.0.as_bytes().as_slice(), &self.family, &self.secret].concat();
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)).into()
    }

    pub(super) fn family_hash(&self) -> Hash {
        Sha256::digest(self.family).into()
    }

    pub(super) fn hash(&self) -> Hash {
        Sha256::digest(self.secret).into()
    }
}

/// What is stored of a session's tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) family_hash: Vec<u8>,
    pub(super) current_hash: Vec<u8>,
    pub(super) previous_hash: Option<Vec<u8>>,
    /// From which the previous token makes the current one.
    pub(super) salt: Option<Vec<u8>>,
    pub(super) in_grace: bool,
    pub(super) revoked: bool,
    pub(super) expired: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// The current one: it is to be replaced.
    Rotate,
    /// The one before, whose answer was lost: the current one is given again.
    Repeat,
    /// An older one: the session is to be revoked.
    Stolen,
    Revoked,
    /// Expired, or never given out.
    Unknown,
}

impl Stored {
    pub(super) fn rule(&self, token: &RefreshToken) -> Ruling {
        let shown = token.hash();
        if self.family_hash != token.family_hash() {
            return Ruling::Unknown;
        }
        if self.revoked {
            return Ruling::Revoked;
        }
        if self.expired {
            return Ruling::Unknown;
        }
        if self.current_hash == shown {
            return Ruling::Rotate;
        }
        let before = self.previous_hash.as_deref() == Some(shown.as_slice());
        match &self.salt {
            Some(salt) if before && self.in_grace && token.next(salt).hash() == *self.current_hash => Ruling::Repeat,
            _ => Ruling::Stolen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let token = RefreshToken::first(SessionId::new());
        let text = token.text();
        assert!(RefreshToken::parse(&text) == Some(token.clone()));
        let text = text.expose_secret();
        for bad in ["", "bowline_rt_", &text[1..], &text[..text.len() - 1], &format!("{text}AAAA"), &text[11..]] {
            assert!(RefreshToken::parse(&bad.into()).is_none(), "{bad}");
        }
    }

    #[test]
    fn one_token_is_good_once() {
        let first = RefreshToken::first(SessionId::new());
        let second = first.next(&[1; 32]);
        let third = second.next(&[2; 32]);
        let forged = RefreshToken { family: [0; 16], ..third.clone() };
        let stored = |change: fn(&mut Stored)| {
            let mut stored = Stored {
                family_hash: first.family_hash().to_vec(),
                current_hash: third.hash().to_vec(),
                previous_hash: Some(second.hash().to_vec()),
                salt: Some(vec![2; 32]),
                in_grace: true,
                ..Stored::default()
            };
            change(&mut stored);
            stored
        };
        let check = |change: fn(&mut Stored), shown: &RefreshToken, expected: Ruling, what: &str| {
            assert_eq!(stored(change).rule(shown), expected, "{what}");
        };
        check(|_| {}, &third, Ruling::Rotate, "the current one");
        check(|s| s.in_grace = false, &third, Ruling::Rotate, "the current one, much later");
        check(|_| {}, &second, Ruling::Repeat, "the one before, soon");
        check(|s| s.in_grace = false, &second, Ruling::Stolen, "the one before, late");
        check(|_| {}, &first, Ruling::Stolen, "an older one");
        check(|_| {}, &forged, Ruling::Unknown, "a guess of one who knows the session's id");
        check(|s| s.revoked = true, &third, Ruling::Revoked, "the current one, revoked");
        check(|s| s.revoked = true, &first, Ruling::Revoked, "an older one, revoked");
        check(|s| s.expired = true, &third, Ruling::Unknown, "the current one, expired");
    }
}
