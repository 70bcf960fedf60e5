//! What a username, a password and a display name may be. Pure.

use bowline_protocol::Failure;
use secrecy::{ExposeSecret, SecretString};

/// In characters, which are all ASCII.
const USERNAME_MIN: usize = 3;
const USERNAME_MAX: usize = 32;
/// In bytes. The upper bound keeps a request's work the same for every password; no passphrase that a person types
/// and no password manager reaches it, and nothing is ever cut off silently.
const PASSWORD_MIN: usize = 8;
const PASSWORD_MAX: usize = 256;
/// In bytes of UTF-8.
const DISPLAY_NAME_MAX: usize = bowline_protocol::limits::DISPLAY_NAME_BYTES as usize;
const CLIENT_NAME_MAX: usize = 128;

/// A username, in lower case: two that differ in case alone are the same name. ASCII alone is allowed, so that no two
/// names look alike; other scripts belong in the display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Username(String);

impl Username {
    /// 3 to 32 ASCII letters, digits, `.`, `_` and `-`, the first and the last a letter or a digit.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        const FIELD: &str = "username";
        if text.len() > USERNAME_MAX {
            return Err(Failure::too_large(FIELD, USERNAME_MAX as u64));
        }
        if text.len() < USERNAME_MIN {
            return Err(too_short(FIELD, USERNAME_MIN, "characters"));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
            let message = format!("{bad:?} is not allowed: ASCII letters, digits, '.', '_' and '-' are");
            return Err(Failure::invalid(FIELD, message));
        }
        let ends = [text.chars().next(), text.chars().next_back()];
        if !ends.into_iter().flatten().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Failure::invalid(FIELD, "begins and ends with a letter or a digit"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// 8 to 256 bytes, any.
pub(super) fn check_password(password: &SecretString) -> Result<(), Failure> {
    const FIELD: &str = "password";
    match password.expose_secret().len() {
        length if length > PASSWORD_MAX => Err(Failure::too_large(FIELD, PASSWORD_MAX as u64)),
        length if length < PASSWORD_MIN => Err(too_short(FIELD, PASSWORD_MIN, "bytes")),
        _ => Ok(()),
    }
}

/// At most 128 bytes, not blank, no control characters.
pub(super) fn check_display_name(name: &str) -> Result<(), Failure> {
    const FIELD: &str = "display_name";
    if name.trim().is_empty() {
        return Err(Failure::invalid(FIELD, "is blank"));
    }
    check_line(FIELD, name, DISPLAY_NAME_MAX)
}

/// What a session shows in the list of its user's sessions: at most 128 bytes, no control characters, may be empty.
pub(super) fn check_client_name(name: &str) -> Result<(), Failure> {
    check_line("client_name", name, CLIENT_NAME_MAX)
}

fn check_line(field: &str, text: &str, most: usize) -> Result<(), Failure> {
    if text.len() > most {
        return Err(Failure::too_large(field, most as u64));
    }
    if text.chars().any(char::is_control) {
        return Err(Failure::invalid(field, "holds a control character"));
    }
    Ok(())
}

fn too_short(field: &str, least: usize, of: &str) -> Failure {
    Failure { limit: Some(least as u64), ..Failure::invalid(field, format!("at least {least} {of}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_protocol::Code;

    type Outcome = Result<(), (Code, Option<u64>)>;

    fn outcome<T>(result: Result<T, Failure>) -> Outcome {
        result.map(drop).map_err(|f| (f.code, f.limit))
    }

    #[test]
    fn usernames() {
        let check = |name: &str, expected: Outcome| assert_eq!(outcome(Username::parse(name)), expected, "{name:?}");
        for name in ["ada", "Ada.Lovelace", "a-b_c", "007", &"x".repeat(32)] {
            check(name, Ok(()));
        }
        check("", Err((Code::Invalid, Some(3))));
        check("ab", Err((Code::Invalid, Some(3))));
        check(&"x".repeat(33), Err((Code::TooLarge, Some(32))));
        for name in ["a b c", "зoя", "a\0b", "ada\n", "a/b", "-ada", "ada.", "..."] {
            check(name, Err((Code::Invalid, None)));
        }
        assert_eq!(Username::parse("AdA").unwrap().as_str(), "ada");
    }

    #[test]
    fn passwords() {
        let check = |password: &str, expected: Outcome| {
            assert_eq!(outcome(check_password(&password.into())), expected, "{password:?}");
        };
        check("1234567", Err((Code::Invalid, Some(8))));
        check("12345678", Ok(()));
        check("пароль", Ok(()));
        check(&"p".repeat(256), Ok(()));
        check(&"p".repeat(257), Err((Code::TooLarge, Some(256))));
    }

    #[test]
    fn display_names() {
        let check = |name: &str, expected: Outcome| assert_eq!(outcome(check_display_name(name)), expected, "{name:?}");
        check("Зоя 🐚", Ok(()));
        check(&"é".repeat(65), Err((Code::TooLarge, Some(128))));
        for name in ["", "  ", "a\0", "a\nb"] {
            check(name, Err((Code::Invalid, None)));
        }
    }
}
