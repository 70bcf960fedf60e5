//! The users of the scenario: the same in every run of the same seed.

use std::sync::Arc;

use anyhow::Context as _;
use bowline_client::protocol::{ClientId, UserId};
use uuid::Uuid;

use crate::fleet::order::Identity;
use crate::options::Common;
use crate::people::Minting;

/// One user, and what he shows.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) user: UserId,
    pub(super) token: String,
}

#[derive(Clone)]
pub(super) struct People {
    minting: Arc<Minting>,
    seed: Uuid,
}

const SPACE: Uuid = Uuid::from_u128(0x626f_776c_696e_6520_6665_6564_206c_6f61);

impl People {
    pub(super) fn new(common: &Common) -> anyhow::Result<Self> {
        let secret = common.token_secret.clone().context("--token-secret is needed: feed uses minted tokens")?;
        let seed = Uuid::new_v5(&SPACE, &common.seed.to_be_bytes());
        let (issuer, audience) = (common.issuer.clone(), common.audience.clone());
        Ok(Self { minting: Arc::new(Minting::of(&Identity { secret, issuer, audience, run: seed })), seed })
    }

    pub(super) fn who(&self, name: &str) -> anyhow::Result<Who> {
        let user = self.minting.user(name);
        Ok(Who { user, token: self.minting.token(user)? })
    }

    /// The same for the same thing, so that doing it again is doing it once.
    pub(super) fn client_id(&self, what: &str) -> ClientId {
        ClientId(Uuid::new_v5(&self.seed, what.as_bytes()))
    }
}
