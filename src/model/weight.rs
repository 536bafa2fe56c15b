//! The weight of a server, in HAProxy's own range.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Weight of a server: 0 (no new requests) to 256, HAProxy's own range.
///
/// **Source**: HAProxy configuration manual, `weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// Largest weight that HAProxy takes.
    pub const MAX: u16 = 256;
    /// No new requests.
    pub const ZERO: Self = Self(0);
    /// The base weight of a server that names none: leaves room for steps of 1 % below and 2.5 × above.
    pub const DEFAULT: Self = Self(100);

    /// Checks a weight.
    ///
    /// # Errors
    /// Beyond 256.
    pub fn new(value: u16) -> Result<Self, Refused> {
        if value > Self::MAX {
            return Err(Refused::new(format!("a weight lies between 0 and {}", Self::MAX)));
        }
        Ok(Self(value))
    }

    /// Rounds and clamps a computed weight into the range; NaN becomes 0.
    pub fn clamped(value: f64) -> Self {
        // `as` saturates and maps NaN to 0.
        Self(value.round().clamp(0.0, f64::from(Self::MAX)) as u16)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u16> for Weight {
    type Error = Refused;
    fn try_from(value: u16) -> Result<Self, Refused> {
        Self::new(value)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}
