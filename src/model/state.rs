//! The two axes of a server's state in HAProxy.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the operator wants of a server; the administrative axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// Takes its share of the traffic.
    #[default]
    Ready,
    /// Finishes what it has, takes nothing new; checks go on.
    Drain,
    /// Out of service; checks stop.
    Maint,
}

impl AdminState {
    /// HAProxy's word for it, as `set server … state` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for AdminState {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        match text {
            "ready" => Ok(Self::Ready),
            "drain" => Ok(Self::Drain),
            "maint" => Ok(Self::Maint),
            _ => Err(Refused::new("a state is one of ready, drain, maint")),
        }
    }
}

/// What HAProxy's own checks found of a server; the operational axis.
///
/// **Source**: management guide, `show servers state`, `srv_op_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    /// 0: does not answer HAProxy's check.
    Down,
    /// 1: was down, is being let in.
    Starting,
    /// 2: answers.
    Up,
    /// 3: up and on its way out.
    Stopping,
    /// HAProxy took it out itself: its name does not resolve (`srv_admin_state` 0x20, or 0x02 from its hop).
    Unresolved,
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Stopping => "stopping",
            Self::Unresolved => "unresolved",
        })
    }
}
