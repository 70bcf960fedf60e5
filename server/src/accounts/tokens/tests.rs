use std::fs;

use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
const NOW_S: i64 = NOW_MS / 1_000;
const SECRET: &str = "a secret of this server, 32 bytes or more";
const APP_SECRET: &str = "a secret of the app's issuer, 32 bytes+";
const USER: &str = "019a0000-0000-7000-8000-000000000001";

fn own() -> Config {
    Config { secret: Some(SECRET.into()), ..Config::default() }
}

fn with_issuer(key: Config) -> Tokens {
    let external_issuer = Some("https://id.example".to_owned());
    let config =
        Config { external_issuer, external_audience: Some("chat".to_owned()), secret: Some(SECRET.into()), ..key };
    assert_eq!(config.validate(), []);
    Tokens::open(&config, None).unwrap()
}

fn app_secret() -> Tokens {
    with_issuer(Config { external_secret: Some(APP_SECRET.into()), ..Config::default() })
}

fn public_key(path: PathBuf) -> Config {
    Config { external_public_key_file: Some(path), ..Config::default() }
}

fn app_claims(change: Value) -> Value {
    let mut claims =
        json!({"iss": "https://id.example", "aud": "chat", "sub": "ada", "iat": NOW_S - 10, "exp": NOW_S + 60});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn sign(claims: &Value, algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn app_token(change: Value) -> String {
    sign(&app_claims(change), Algorithm::HS256, &EncodingKey::from_secret(APP_SECRET.as_bytes()), None)
}

fn check(tokens: &Tokens, token: &str, expected: Result<(), (Code, &str)>, what: &str) {
    match (tokens.verify(token, NOW_MS), expected) {
        (Ok(_), Ok(())) => {}
        (Err(failure), Err((code, reason))) => {
            let message = failure.message.as_deref().unwrap_or_default();
            assert!(failure.code == code && message.contains(reason), "{what}: {failure}");
        }
        (got, expected) => panic!("{what}: {got:?}, expected {expected:?}"),
    }
}

fn unauthenticated(reason: &str) -> Result<(), (Code, &str)> {
    Err((Code::Unauthenticated, reason))
}

#[test]
fn a_token_made_here_names_its_user_and_session_until_it_expires() {
    let tokens = Tokens::open(&own(), None).unwrap();
    let (user, session) = (UserId::new(), SessionId::new());
    let made = tokens.mint(user, session, None, NOW_MS).unwrap();
    let token = made.token.expose_secret();
    let identity = tokens.verify(token, NOW_MS).unwrap();
    let expires_at_ms = NOW_MS + 900_000;
    assert_eq!(identity, Identity { user, session, issued_at_ms: NOW_MS, expires_at_ms });
    assert_eq!(tokens.verify(token, expires_at_ms + LEEWAY_MS - 1), Ok(identity), "within the leeway");
    assert_eq!(tokens.verify(token, expires_at_ms + LEEWAY_MS).map_err(|f| f.code), Err(Code::TokenExpired));
    let other = Tokens::open(&Config { secret: Some(APP_SECRET.into()), ..Config::default() }, None).unwrap();
    check(&other, token, unauthenticated("signature"), "another server's secret");
}

#[test]
fn claims_are_checked() {
    let tokens = app_secret();
    for (change, expected) in [
        (json!({}), Ok(())),
        (json!({"aud": ["other", "chat"]}), Ok(())),
        (json!({"exp": NOW_S as f64 + 0.5}), Ok(())),
        (json!({"iat": null}), Ok(())),
        (json!({"exp": NOW_S - 29}), Ok(())),
        (json!({"exp": NOW_S - 30}), Err((Code::TokenExpired, ""))),
        (json!({"exp": null}), unauthenticated("wrong type")),
        (json!({"exp": "tomorrow"}), unauthenticated("wrong type")),
        (json!({"nbf": NOW_S + 30}), Ok(())),
        (json!({"nbf": NOW_S + 31}), unauthenticated("nbf")),
        (json!({"iat": NOW_S + 31}), unauthenticated("iat")),
        (json!({"aud": "other"}), unauthenticated("aud")),
        (json!({"aud": []}), unauthenticated("aud")),
        (json!({"aud": null}), unauthenticated("wrong type")),
        (json!({"iss": "https://evil.example"}), unauthenticated("iss")),
        (json!({"iss": null}), unauthenticated("claims")),
        (json!({"sub": ""}), unauthenticated("sub")),
        (json!({"sub": "x".repeat(256)}), unauthenticated("sub")),
        (json!({"sub": 7}), unauthenticated("wrong type")),
        (json!({"filler": "x".repeat(4_096)}), unauthenticated("too long")),
    ] {
        check(&tokens, &app_token(change.clone()), expected, &change.to_string());
    }
}

#[test]
fn a_forged_token_is_refused() {
    let tokens = app_secret();
    let good = app_token(json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let encode = |value: Value| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, value.to_string());
    let (header, payload) = head.split_once('.').unwrap();
    let none = encode(json!({"alg": "none", "typ": "JWT"}));
    let crit = encode(json!({"alg": "HS256", "crit": ["exp"], "exp": 1}));
    let own_name = app_claims(json!({"iss": "bowline", "aud": "bowline"}));
    let app_key = EncodingKey::from_secret(APP_SECRET.as_bytes());
    for (token, reason, what) in [
        (String::new(), "not a signed JWT", "nothing"),
        ("a.b.c".to_owned(), "not a signed JWT", "no JSON"),
        (head.to_owned(), "not a signed JWT", "two parts"),
        (format!("{head}."), "signature", "no signature"),
        (format!("{none}.{payload}."), "not a signed JWT", "alg none"),
        (format!("{none}.{payload}.{signature}"), "not a signed JWT", "alg none, signed"),
        (format!("{crit}.{payload}.{signature}"), "crit", "an unknown extension"),
        (format!("{header}.{}.{signature}", encode(app_claims(json!({"sub": "eve"})))), "signature", "claims changed"),
        (sign(&app_claims(json!({})), Algorithm::HS512, &app_key, None), "alg", "another algorithm of the same key"),
        (sign(&own_name, Algorithm::HS256, &app_key, None), "signature", "our name under the app's key"),
    ] {
        check(&tokens, &token, unauthenticated(reason), what);
    }
}

#[test]
fn a_public_key_is_pinned_to_its_algorithm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/accounts/tokens/keys_for_tests");
    type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
    let kinds: [(&str, Algorithm, Read); 4] = [
        ("rsa", Algorithm::RS256, EncodingKey::from_rsa_pem),
        ("p256", Algorithm::ES256, EncodingKey::from_ec_pem),
        ("p384", Algorithm::ES384, EncodingKey::from_ec_pem),
        ("ed25519", Algorithm::EdDSA, EncodingKey::from_ed_pem),
    ];
    for (name, algorithm, read) in kinds {
        let public = folder.join(format!("{name}.pub.pem"));
        let tokens = with_issuer(public_key(public.clone()));
        let private = read(&fs::read(folder.join(format!("{name}.pem"))).unwrap()).unwrap();
        check(&tokens, &sign(&app_claims(json!({})), algorithm, &private, None), Ok(()), name);
        // The classic confusion: the public key, which everybody has, taken for an HMAC secret.
        let confused = EncodingKey::from_secret(&fs::read(&public).unwrap());
        let token = sign(&app_claims(json!({})), Algorithm::HS256, &confused, None);
        check(&tokens, &token, unauthenticated("alg"), name);
        if algorithm == Algorithm::RS256 {
            let token = sign(&app_claims(json!({})), Algorithm::PS256, &private, None);
            check(&tokens, &token, unauthenticated("alg"), "PS256 where RS256 is pinned");
        }
    }
    for name in ["rsa.pem", "p256.pem", "rsa-1024.pub.pem"] {
        assert!(Keys::external(&public_key(folder.join(name))).is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_jwk_set_is_looked_up_by_kid_and_read_again_when_it_changed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/accounts/tokens/keys_for_tests");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let rsa = EncodingKey::from_rsa_pem(&read("rsa.pem")).unwrap();
    let ed = EncodingKey::from_ed_pem(&read("ed25519.pem")).unwrap();
    let jwk = |key: &EncodingKey, algorithm: Algorithm, kid: &str| {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    };
    let first = jwk(&rsa, Algorithm::RS256, "first");
    let second = jwk(&ed, Algorithm::EdDSA, "second");
    let unusable = [
        json!({"kty": "oct", "kid": "first-secret", "k": "c2VjcmV0"}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"}),
        json!({"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "x"}),
    ];
    let file = std::env::temp_dir().join(format!("jwks-{}.json", Uuid::new_v4()));
    let mut all = unusable.to_vec();
    all.extend([first.clone(), second.clone()]);
    fs::write(&file, json!({"keys": all}).to_string()).unwrap();

    let tokens = with_issuer(Config { external_jwks_file: Some(file.clone()), ..Config::default() });
    let by_first = |kid| sign(&app_claims(json!({})), Algorithm::RS256, &rsa, kid);
    let by_second = sign(&app_claims(json!({})), Algorithm::EdDSA, &ed, Some("second"));
    check(&tokens, &by_first(Some("first")), Ok(()), "first");
    check(&tokens, &by_second, Ok(()), "second");
    check(&tokens, &by_first(Some("second")), unauthenticated("alg"), "another key's kid");
    check(&tokens, &by_first(Some("third")), unauthenticated("kid"), "no such kid");
    check(&tokens, &by_first(None), unauthenticated("kid"), "no kid among several keys");
    check(&tokens, &by_first(Some("short")), unauthenticated("kid"), "a key that was skipped");

    let keys = &tokens.external.as_ref().unwrap().keys;
    assert!(!keys.reload().await.unwrap(), "unchanged");
    fs::write(&file, json!({"keys": [second]}).to_string()).unwrap();
    assert!(keys.reload().await.unwrap());
    check(&tokens, &by_first(Some("first")), unauthenticated("kid"), "a key taken back");
    check(&tokens, &by_second, Ok(()), "a key kept");
    fs::write(&file, "nonsense").unwrap();
    assert!(keys.reload().await.is_err());
    check(&tokens, &by_second, Ok(()), "a broken file changes nothing");
    fs::remove_file(&file).unwrap();
}

#[test]
fn ids_come_from_the_subject_alone_and_are_stable() {
    let tokens = app_secret();
    let identity = |change: Value| tokens.verify(&app_token(change), NOW_MS).unwrap();
    assert_eq!(identity(json!({"sub": USER})).user.to_string(), USER);
    let ada = identity(json!({})).user;
    assert_eq!(ada, identity(json!({"user_id": USER, "iat": NOW_S - 5})).user);
    assert_ne!(ada, identity(json!({"sub": "eve"})).user);
    // UUIDv5 of the issuer's namespace, which is UUIDv5 of the URL namespace and its name.
    assert_eq!(ada.to_string(), "dd08b1cc-f10d-54b4-9456-628f7af7f953");

    let sid = identity(json!({"sid": USER, "jti": "1"})).session;
    assert_eq!(sid.to_string(), USER);
    let jti = identity(json!({"jti": "1"})).session;
    assert_ne!(jti, identity(json!({"jti": "2"})).session);
    assert_eq!(identity(json!({})).session, identity(json!({"exp": NOW_S + 99})).session);
    assert_ne!(identity(json!({})).session, identity(json!({"iat": NOW_S - 9})).session);
    assert_eq!(identity(json!({"iat": null})).issued_at_ms, 0);
}

#[test]
fn the_data_directory_keeps_one_secret_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join(format!("bowline-key-{}", Uuid::new_v4()));
    let config = Config::default();
    let made = Tokens::open(&config, Some(&folder)).unwrap().mint(UserId::new(), SessionId::new(), None, NOW_MS);
    let again = Tokens::open(&config, Some(&folder)).unwrap();
    check(&again, made.unwrap().token.expose_secret(), Ok(()), "after a restart");
    let mode = fs::metadata(folder.join("token.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn unusable_configurations_are_refused_by_key() {
    let named = || Some("https://id.example".to_owned());
    let file = || Some(PathBuf::from("key.pem"));
    let key = || Some(APP_SECRET.into());
    for (config, key) in [
        (Config { secret: Some("short".into()), ..own() }, "secret"),
        (Config { external_issuer: named(), external_secret: Some("short".into()), ..own() }, "external_secret"),
        (Config { external_issuer: Some("bowline".to_owned()), external_secret: key(), ..own() }, "external_issuer"),
        (Config { external_issuer: named(), ..own() }, "external_issuer"),
        (
            Config { external_issuer: named(), external_jwks_file: file(), external_secret: key(), ..own() },
            "external_issuer",
        ),
        (Config { external_jwks_file: file(), ..own() }, "external_issuer"),
        (Config { access_s: 5, ..own() }, "access_s"),
    ] {
        let found: Vec<_> = config.validate().into_iter().map(|invalid| invalid.key).collect();
        assert_eq!(found, [key], "{config:?}");
    }
    assert!(Tokens::open(&Config::default(), None).is_err(), "neither a secret nor a place to keep one");
}
