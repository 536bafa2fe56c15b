//! Names that the operator gives, and the pair of names that identifies one server.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A name that HAProxy, a file name and a URL path all take: `[A-Za-z0-9_.-]`, 1 to 64 characters.
///
/// `:` is left to hapilot, which joins names with it. Copies share the text: a decision about 5,000 servers names each
/// of them in many places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        // Copies are equal at sight; the texts of the servers of one backend often differ in their last letters only.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name {
    /// Longest name, in characters.
    pub const MAX: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// Names the first character that is not allowed, or the length; the caller shows it to the operator.
    pub fn new(text: impl Into<String>) -> Result<Self, Refused> {
        let text = text.into();
        if text.is_empty() {
            return Err(Refused::new("a name must not be empty"));
        }
        if text.chars().count() > Self::MAX {
            return Err(Refused::new(format!("a name has at most {} characters", Self::MAX)));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
            Some(bad) => Err(Refused::new(format!("a name takes letters, digits, '_', '.' and '-' only, not {bad:?}"))),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// One server of one backend, printed and parsed as `BACKEND/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId {
    /// The backend's name.
    pub backend: Name,
    /// The server's name, unique within its backend.
    pub server: Name,
}

impl ServerId {
    /// Joins two checked names.
    pub fn new(backend: Name, server: Name) -> Self {
        Self { backend, server }
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}

impl std::str::FromStr for ServerId {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (backend, server) =
            text.split_once('/').ok_or_else(|| Refused::new(format!("{text:?} is not of the form BACKEND/SERVER")))?;
        Ok(Self { backend: Name::new(backend)?, server: Name::new(server)? })
    }
}

impl TryFrom<String> for ServerId {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.to_string()
    }
}
