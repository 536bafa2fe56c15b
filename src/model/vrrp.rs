//! The words of VRRP.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node is in one VRRP instance.
///
/// **Source**: RFC 5798, 6.4; FAULT and STOP are Keepalived's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VrrpState {
    /// Keepalived stops this instance.
    Stop,
    /// It can own nothing: its interface is down, or a check says so.
    Fault,
    /// Another node owns the addresses.
    Backup,
    /// This node owns the addresses.
    Master,
}

impl VrrpState {
    /// The word as Keepalived writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Fault => "FAULT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
        }
    }

    /// Reads Keepalived's word; `None` for any other.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Stop, Self::Fault, Self::Backup, Self::Master].into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for VrrpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
