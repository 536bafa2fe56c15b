//! HAProxy's load-balancing algorithms that hapilot renders.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A load-balancing algorithm, under HAProxy's own name. `static-rr` is missing on purpose: it fixes the weights at
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
}

impl Balance {
    /// Every algorithm, in the order in which messages list them.
    pub const ALL: [Self; 5] = [Self::RoundRobin, Self::LeastConn, Self::First, Self::Random, Self::Source];

    /// HAProxy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConn => "leastconn",
            Self::First => "first",
            Self::Random => "random",
            Self::Source => "source",
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
