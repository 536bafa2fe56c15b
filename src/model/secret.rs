//! Secrets: references in the operator's file, values that never print.

use super::Refused;
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a secret is kept; the value itself is read by `sys`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `env:NAME`: an environment variable of the agent.
    Env(String),
    /// `file:/path`: a file's content without its last newline.
    File(Utf8PathBuf),
    /// `credential:NAME`: a systemd credential, `$CREDENTIALS_DIRECTORY/NAME`.
    Credential(String),
}

impl std::str::FromStr for SecretRef {
    type Err = Refused;
    /// The error never repeats the text: it may be the secret itself.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = |what: &str, value: &str| match looks_like_key(value) {
            true => Refused::new(format!("{what}, and this looks like a key itself: it is not shown here")),
            false => Refused::new(what.to_owned()),
        };
        let all = |name: &str, others: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
        if let Some(name) = text.strip_prefix("env:") {
            let is_name = !name.is_empty() && all(name, "_") && !name.starts_with(|c: char| c.is_ascii_digit());
            return match is_name && !looks_like_key(name) {
                true => Ok(Self::Env(name.to_owned())),
                false => {
                    Err(refused("env: is followed by the name of an environment variable (letters, digits, _)", name))
                }
            };
        }
        if let Some(name) = text.strip_prefix("credential:") {
            let is_name = !name.is_empty() && all(name, "_.-") && !name.starts_with('.');
            return match is_name && !looks_like_key(name) {
                true => Ok(Self::Credential(name.to_owned())),
                false => Err(refused("credential: is followed by the name of a systemd credential", name)),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            let is_path = path.starts_with('/') && !path.contains(['\0', '\n', '\r']);
            let name = path.trim_start_matches('/');
            return match is_path && !looks_like_key(name) {
                true => Ok(Self::File(Utf8PathBuf::from(path))),
                false => Err(refused("file: is followed by an absolute path", name)),
            };
        }
        Err(Refused::new(
            "a secret is never written here: give its place as \"env:NAME\", \"file:/path\" or \"credential:NAME\"",
        ))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

/// How the keys of well-known providers and tools begin.
pub const KEY_STARTS: [&str; 9] = ["sk-", "xoxb-", "xoxp-", "AKIA", "hf_", "gsk_", "AIza", "ghp_", "Bearer "];
/// Shortest text with such a beginning that is one.
const KNOWN_KEY_LENGTH: usize = 10;
/// Shortest text that can be a key by its looks alone.
const KEY_LENGTH: usize = 20;

/// Whether a word is likely a key itself, and not the name of one.
pub fn looks_like_key(word: &str) -> bool {
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    let is_known = word.len() >= KNOWN_KEY_LENGTH && KEY_STARTS.iter().any(|start| word.starts_with(start));
    is_known
        || (word.len() >= KEY_LENGTH
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit))
}

/// A secret's value. Printing it in any way shows only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    ///
    /// # Errors
    /// Empty or blank, longer than 8 KiB, or with a control character, which no header could carry.
    pub fn new(value: String) -> Result<Self, Refused> {
        if value.trim().is_empty() {
            return Err(Refused::new("the secret is empty or blank"));
        }
        if value.len() > 8192 {
            return Err(Refused::new("the secret is longer than 8192 bytes"));
        }
        if value.chars().any(char::is_control) {
            return Err(Refused::new("the secret has a control character (a line break?) in it"));
        }
        Ok(Self(value))
    }

    /// The value: for a header or a file with mode 0640, never for a log, a diff or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_secret_is_refused_without_being_repeated() {
        let error = "sk-very-secret".parse::<SecretRef>().unwrap_err();
        assert!(!error.to_string().contains("sk-very"), "{error}");
        for text in ["env:", "env:A B", "file:relative", "credential:../x", "credential:"] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
        for text in ["env:OPENAI_KEY", "file:/etc/key", "credential:openai"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_key_in_the_place_of_its_name_is_refused_without_being_repeated() {
        for key in
            ["sk-proj-abc123def456", "sk-a", "hf_abcdefghij", "AIzaSyA1b2c3d4e5f6", "Zm9vYmFyMTIzNDU2Nzg5MA", "1x"]
        {
            let error = format!("env:{key}").parse::<SecretRef>().unwrap_err();
            assert!(!error.to_string().contains(key), "{error}");
        }
        for key in ["sk-proj-abc123def456", "hf_abcdefghij", "Zm9vYmFyMTIzNDU2Nzg5MA"] {
            for text in [format!("credential:{key}"), format!("file:{key}"), format!("file:/{key}")] {
                let error = text.parse::<SecretRef>().unwrap_err();
                assert!(!error.to_string().contains(key) && error.to_string().contains("looks like a key"), "{error}");
            }
        }
        for text in
            ["env:OPENAI_KEY_A", "env:_key2", "credential:openai-key.2", "file:/etc/hapilot/keys/sk-openai-prod"]
        {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("sk-1".into()).unwrap()), "Secret(…)");
        for text in ["a\nb", "", "  ", "\u{a0}"] {
            assert!(Secret::new(text.into()).is_err(), "{text:?}");
        }
    }
}
