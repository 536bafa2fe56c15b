//! What live traffic tells of the providers' keys.

use super::line::Line;
use crate::health::Outcome;
use crate::model::ServerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most keys of one server that are told apart; a file may have 16.
const MAX_KEYS: usize = 32;

/// Requests of one server that used one key and ended alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWords {
    /// The server.
    pub id: ServerId,
    /// What HAProxy's map calls the key.
    pub key_id: Box<str>,
    /// Only what says something of a key: ok, credential, rate_limited.
    pub outcome: Outcome,
    /// It was a 402.
    pub is_billing: bool,
    /// How many.
    pub count: u32,
    /// The longest silence that an answer asked for.
    pub retry_after: Option<Duration>,
}

/// The words of one server since they were told last.
#[derive(Debug, Default)]
pub(super) struct Fresh(BTreeMap<Said, (u32, Option<Duration>)>);

/// Of which key, what became of the request, and whether it was a 402.
type Said = (Box<str>, Outcome, bool);

impl Fresh {
    pub(super) fn take(&mut self, line: &Line<'_>, outcome: Outcome, retry_after: Option<Duration>) {
        let says_something = matches!(outcome, Outcome::Ok | Outcome::Credential | Outcome::RateLimited);
        let Some(key_id) = line.key_id.filter(|_| says_something && self.0.len() < MAX_KEYS * 4) else { return };
        let (count, asked) = self.0.entry((key_id.into(), outcome, line.status == Some(402))).or_default();
        *count = count.saturating_add(1);
        *asked = (*asked).max(retry_after);
    }

    /// Successes last: where both were heard at once, they are the newer ones more often than not.
    pub(super) fn tell(&mut self, id: &ServerId) -> Vec<KeyWords> {
        let told =
            std::mem::take(&mut self.0).into_iter().map(|((key_id, outcome, is_billing), (count, retry_after))| {
                KeyWords { id: id.clone(), key_id, outcome, is_billing, count, retry_after }
            });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|words| words.outcome == Outcome::Ok);
        told
    }
}
