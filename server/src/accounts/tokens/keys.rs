//! The keys that tokens are verified with, each pinned to one algorithm.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use secrecy::{ExposeSecret, SecretString};

use super::Config;

pub(super) const SECRET_BYTES: usize = 32;
const RSA_BYTES: usize = 256;
const ED25519_BYTES: usize = 32;
/// Of a file with keys.
const FILE_BYTES: u64 = 1024 * 1024;
const SET_KEYS: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// The keys of one issuer; those of a file can be read again while they are in use.
pub(super) struct Keys {
    /// Held to clone or replace the `Arc`.
    set: Mutex<Arc<Set>>,
    file: Option<PathBuf>,
}

pub(super) struct Set {
    keys: HashMap<Option<String>, Key>,
    read: Option<Stamp>,
}

/// Tells one state of a file from another.
type Stamp = (SystemTime, u64);

impl Keys {
    pub(super) fn secret(secret: &SecretString) -> anyhow::Result<Self> {
        let secret = secret.expose_secret().as_bytes();
        ensure!(secret.len() >= SECRET_BYTES, "a secret has at least {SECRET_BYTES} bytes");
        let key = Key { decoding: DecodingKey::from_secret(secret), algorithm: Algorithm::HS256 };
        Ok(Self::one(key))
    }

    /// Of the configured external issuer.
    pub(super) fn external(config: &Config) -> anyhow::Result<Self> {
        if let Some(secret) = &config.external_secret {
            return Self::secret(secret);
        }
        if let Some(path) = &config.external_public_key_file {
            let (pem, _) = read(path)?;
            return Ok(Self::one(from_pem(&pem).with_context(|| path.display().to_string())?));
        }
        let path = config.external_jwks_file.as_ref().context("none is configured")?;
        let set = Arc::new(read_set(path)?);
        Ok(Self { set: Mutex::new(set), file: Some(path.clone()) })
    }

    fn one(key: Key) -> Self {
        let set = Arc::new(Set { keys: HashMap::from([(None, key)]), read: None });
        Self { set: Mutex::new(set), file: None }
    }

    pub(super) fn get(&self) -> Arc<Set> {
        Arc::clone(&self.set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it changed; whether it did.
    pub(super) async fn reload(&self) -> anyhow::Result<bool> {
        let Some(path) = self.file.clone() else { return Ok(false) };
        let before = self.get().read;
        let read_again = move || -> anyhow::Result<Option<Set>> {
            let changed = before != Some(stamp(&fs::metadata(&path)?)?);
            changed.then(|| read_set(&path)).transpose()
        };
        let Some(set) = tokio::task::spawn_blocking(read_again).await?? else { return Ok(false) };
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        Ok(true)
    }
}

impl Set {
    /// The key of this name. A set of one key serves tokens that name none, and a key without a name serves all.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match kid {
            Some(kid) => self.keys.get(&Some(kid.to_owned())).or_else(|| self.keys.get(&None)),
            None if self.keys.len() == 1 => self.keys.values().next(),
            None => None,
        }
    }
}

/// The secret in the data directory, made at the first start and readable by its owner alone.
pub(super) fn of_data_dir(data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join("token.key");
    let found = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            generate(data_dir, &path)?;
            fs::read_to_string(&path)
        }
        found => found,
    };
    Ok(found.with_context(|| path.display().to_string())?.trim().into())
}

/// Whole or not at all, and never over one that another process made meanwhile.
fn generate(data_dir: &Path, path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(data_dir).with_context(|| data_dir.display().to_string())?;
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>()).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error).context(path.display().to_string()),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> anyhow::Result<(Vec<u8>, Stamp)> {
    let context = || path.display().to_string();
    let file = File::open(path).with_context(context)?;
    let stamp = stamp(&file.metadata().with_context(context)?)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut content).with_context(context)?;
    ensure!(content.len() as u64 <= FILE_BYTES, "{}: more than {FILE_BYTES} bytes", path.display());
    Ok((content, stamp))
}

fn stamp(metadata: &fs::Metadata) -> anyhow::Result<Stamp> {
    Ok((metadata.modified()?, metadata.len()))
}

fn read_set(path: &Path) -> anyhow::Result<Set> {
    let (json, stamp) = read(path)?;
    let keys = from_jwks(&json).with_context(|| path.display().to_string())?;
    Ok(Set { keys, read: Some(stamp) })
}

fn from_pem(pem: &[u8]) -> anyhow::Result<Key> {
    ensure!(!pem.windows(11).any(|w| w == b"PRIVATE KEY"), "this is a private key; the public one is needed");
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .context("not a public key in PEM of RSA, P-256, P-384 or Ed25519")?;
    let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let algorithm = match (key.family(), bytes) {
        (AlgorithmFamily::Rsa, RSA_BYTES..) => Algorithm::RS256,
        (AlgorithmFamily::Rsa, _) => bail!("an RSA key has at least {} bits", RSA_BYTES * 8),
        (AlgorithmFamily::Ec, 65) => Algorithm::ES256,
        (AlgorithmFamily::Ec, 97) => Algorithm::ES384,
        (AlgorithmFamily::Ed, ED25519_BYTES) => Algorithm::EdDSA,
        _ => bail!("of this kind only P-256, P-384 and Ed25519 are supported"),
    };
    usable(Key { decoding: key, algorithm })
}

/// The keys of a JWK set that can verify tokens; one that can't is skipped, a set with none is refused.
fn from_jwks(json: &[u8]) -> anyhow::Result<HashMap<Option<String>, Key>> {
    #[derive(serde::Deserialize)]
    struct Document {
        keys: Vec<serde_json::Value>,
    }
    let document: Document = serde_json::from_slice(json).context("not a JWK set")?;
    ensure!(document.keys.len() <= SET_KEYS, "more than {SET_KEYS} keys");
    let mut keys = HashMap::new();
    for (n, value) in document.keys.into_iter().enumerate() {
        match serde_json::from_value(value).context("not a JWK").and_then(|jwk| from_jwk(&jwk)) {
            Ok((kid, key)) => {
                ensure!(keys.insert(kid, key).is_none(), "two keys have the same kid, or none");
            }
            Err(reason) => tracing::warn!(key = n, reason = format!("{reason:#}"), "a key of the JWK set is skipped"),
        }
    }
    ensure!(!keys.is_empty(), "no key in it can be used");
    Ok(keys)
}

fn from_jwk(jwk: &Jwk) -> anyhow::Result<(Option<String>, Key)> {
    let for_signatures = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    ensure!(for_signatures, "it is for encryption");
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(&rsa.n).context("n")?;
            ensure!(modulus.len() >= RSA_BYTES, "an RSA key has at least {} bits", RSA_BYTES * 8);
            Algorithm::RS256
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => bail!("only the curves P-256 and P-384 are supported"),
        },
        AlgorithmParameters::OctetKeyPair(pair) => {
            let public = BASE64_URL_SAFE_NO_PAD.decode(&pair.x).context("x")?;
            // jsonwebtoken slices a shorter one past its end.
            ensure!(public.len() == ED25519_BYTES, "only Ed25519 is supported");
            Algorithm::EdDSA
        }
        AlgorithmParameters::OctetKey(_) => bail!("a secret has no place in a JWK set"),
        _ => bail!("its kind (kty) is not supported"),
    };
    let decoding = DecodingKey::from_jwk(jwk).context("its parameters")?;
    let algorithm = match jwk.common.key_algorithm {
        None => algorithm,
        Some(named) => Algorithm::try_from(named).ok().filter(|named| fits(*named, algorithm)).context("its alg")?,
    };
    Ok((jwk.common.key_id.clone(), usable(Key { decoding, algorithm })?))
}

/// RSA keys may be named for any RSA algorithm; a curve has one.
fn fits(named: Algorithm, natural: Algorithm) -> bool {
    named == natural || (natural.family() == AlgorithmFamily::Rsa && named.family() == AlgorithmFamily::Rsa)
}

/// A key that can't even refuse a signature would refuse every token, one by one.
fn usable(key: Key) -> anyhow::Result<Key> {
    jsonwebtoken::crypto::verify("", b"", &key.decoding, key.algorithm).context("its parameters")?;
    Ok(key)
}
