//! One hour of usage: rows by client, plan, server and model.

use super::Amounts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

const SECONDS: i64 = 3600;

/// An hour of UTC, counted from the beginning of 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(pub i64);

impl Hour {
    /// The one that a moment lies in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(SECONDS))
    }

    /// The one that is written so by its `Display`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let hour = Self::of(format!("{text}:00:00Z").parse().ok()?);
        (hour.to_string() == text).then_some(hour)
    }

    /// Its first moment.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_second(self.0.saturating_mul(SECONDS)).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for Hour {
    /// Such as `2026-11-30T13`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.begin().strftime("%Y-%m-%dT%H"))
    }
}

/// Whose usage a row is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// The client.
    pub client: String,
    /// Its plan at that time.
    pub plan: String,
    /// `BACKEND/SERVER`; empty where none was chosen.
    pub server: String,
    /// The model that was asked for; empty where nobody told one, `*` where there were too many.
    pub model: String,
}

/// What stands for plan, server and model where only HAProxy's counters tell.
pub const MADE_UP: &str = "(made up)";

impl UsageKey {
    /// Of a client, and nobody knows more.
    pub fn made_up(client: String) -> Self {
        let [plan, server, model] = [MADE_UP; 3].map(str::to_owned);
        Self { client, plan, server, model }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Whose.
    #[serde(flatten)]
    pub key: UsageKey,
    /// How much.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// All rows of an hour, sorted by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageHour {
    /// Which.
    pub hour: Hour,
    /// Its rows.
    pub rows: Vec<Row>,
}
