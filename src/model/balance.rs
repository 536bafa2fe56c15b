//! HAProxy's load-balancing algorithms that hapilot renders.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A load-balancing algorithm, under HAProxy's own name but for affinity. `static-rr` is missing on purpose: it fixes the weights at
/// load, so health could not steer it.
///
/// **Source**: HAProxy configuration manual, `balance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The fewest connections in proportion to the weight: right for streams that last minutes.
    #[default]
    LeastConn,
    /// The first that has a free slot.
    First,
    /// The better of two drawn by chance.
    Random,
    /// By hash of the client's address (rendered with `hash-type consistent`).
    Source,
    /// By hash of what a request belongs to, unless that server has twice as much as the mean (rendered as
    /// `balance hash` with `hash-balance-factor`).
    Affinity,
}

impl Balance {
    /// Every algorithm, in the order in which messages list them.
    pub const ALL: [Self; 6] =
        [Self::RoundRobin, Self::LeastConn, Self::First, Self::Random, Self::Source, Self::Affinity];

    /// The word for it: HAProxy's, but for affinity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConn => "leastconn",
            Self::First => "first",
            Self::Random => "random",
            Self::Source => "source",
            Self::Affinity => "affinity",
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Balance {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL
            .into_iter()
            .find(|b| b.as_str() == text)
            .ok_or_else(|| Refused::new(format!("balance is one of {}", Self::ALL.map(Self::as_str).join(", "))))
    }
}

/// What requests belong together by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// The beginning of the prompt: the first question of a conversation.
    #[default]
    Prompt,
    /// The client with its key, else the address.
    Client,
    /// A header, in lower case; requests without it go by their prompt.
    Header(String),
}

impl std::str::FromStr for Affinity {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        let is_name = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match text.split_once(':') {
            None if text == "prompt" => Ok(Self::Prompt),
            None if text == "client" => Ok(Self::Client),
            Some(("header", name)) if is_name(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(Refused::new("affinity is prompt, client or header:NAME, such as \"header:x-session-id\"")),
        }
    }
}
