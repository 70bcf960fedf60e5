//! `bowline token` makes tokens that the server of the same configuration accepts.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use bowline::accounts::tokens::Config;
use bowline::accounts::{Identity, Tokens};
use bowline_protocol::UserId;
use uuid::Uuid;

const SECRET: &str = "a secret of more than thirty-two bytes";

fn token(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["token", "--data-dir"]).arg(data).args(arguments).env_remove("DATABASE_URL");
    command.output().unwrap()
}

fn folder() -> PathBuf {
    let path = std::env::temp_dir().join(format!("token-{}", Uuid::now_v7().simple()));
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[track_caller]
fn verified(output: &Output, tokens: &Tokens) -> Identity {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    tokens.verify(std::str::from_utf8(&output.stdout).unwrap().trim(), i64::try_from(now).unwrap()).unwrap()
}

#[test]
fn a_token_is_for_the_user_and_the_time_asked_for() {
    let data = folder();
    let user = Uuid::now_v7();
    let first = token(&data, &["--user", &user.to_string(), "--ttl", "12h"]);
    let second = token(&data, &["--user", &user.to_string()]);
    // With the key that the command made in the data directory, as the server does.
    let tokens = Tokens::open(&Config::default(), Some(&data)).unwrap();
    let (first, second) = (verified(&first, &tokens), verified(&second, &tokens));
    assert_eq!((first.user, second.user), (UserId(user), UserId(user)));
    assert_ne!(first.session, second.session);
    assert_eq!(first.expires_at_ms - first.issued_at_ms, 12 * 3_600 * 1_000);
    fs::remove_dir_all(data).unwrap();
}

#[test]
fn the_configured_secret_signs() {
    let data = folder();
    let set = format!("accounts.tokens.secret={SECRET}");
    let made = token(&data, &["--user", &Uuid::now_v7().to_string(), "--set", &set]);
    let config = Config { secret: Some(SECRET.into()), ..Config::default() };
    verified(&made, &Tokens::open(&config, None).unwrap());
    fs::remove_dir_all(data).unwrap();
}

#[test]
fn what_is_wrong_is_said_and_no_token_printed() {
    let data = folder();
    let user = Uuid::now_v7().to_string();
    for (arguments, expected) in [
        (&["--user", "ada"][..], "invalid value 'ada'"),
        (&["--user", &user, "--ttl", "soon"], "expected a time such as 90s, 15m, 12h or 7d"),
        (&["--user", &user, "--name", "ada"], "cannot be used with"),
        (&[], "--user <ID>"),
        (&["--user", &user, "--set", "accounts.tokens.secret=short"], "at least 32 bytes"),
    ] {
        let output = token(&data, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
        assert!(!said.contains("=short"));
    }
    fs::remove_dir_all(data).unwrap();
}
