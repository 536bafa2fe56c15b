//! What live traffic tells of the providers' keys.

use super::classify::TrafficWord;
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
    /// Only what says something of a key: ok, credential, rate_limited, and probe_config where the key is doubtful.
    pub outcome: Outcome,
    /// It means the key's account.
    pub is_billing: bool,
    /// How many.
    pub count: u32,
    /// The longest silence that an answer asked for.
    pub retry_after: Option<Duration>,
}

/// The words of one server since they were told last.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    words: BTreeMap<Said, Words>,
    /// How many were heard: their order.
    heard: u64,
}

/// Of which key, what became of the request, and whether it meant the account.
type Said = (Box<str>, Outcome, bool);

#[derive(Clone, Copy, Debug, Default)]
struct Words {
    count: u32,
    retry_after: Option<Duration>,
    first: u64,
    last: u64,
}

impl Fresh {
    pub(super) fn take(&mut self, key_id: Option<&str>, word: TrafficWord, retry_after: Option<Duration>) {
        let TrafficWord { outcome, is_billing, doubts_key, is_shared: _ } = word;
        let says_something = doubts_key || matches!(outcome, Outcome::Ok | Outcome::Credential | Outcome::RateLimited);
        let has_room = self.words.len() < MAX_KEYS * 4;
        let Some(key_id) = key_id.filter(|_| says_something && has_room) else { return };
        self.heard += 1;
        let words = self.words.entry((key_id.into(), outcome, is_billing)).or_default();
        words.first = if words.count == 0 { self.heard } else { words.first };
        words.last = self.heard;
        words.count = words.count.saturating_add(1);
        words.retry_after = words.retry_after.max(retry_after);
    }

    /// In the order in which they were heard last. Rejections among successes are about what single clients asked for:
    /// of those it tells of one, and of the successes after it.
    pub(super) fn tell(&mut self, id: &ServerId) -> Vec<KeyWords> {
        let mut words: Vec<_> = std::mem::take(&mut self.words).into_iter().collect();
        let successes: Vec<(Box<str>, u64)> = words
            .iter()
            .filter(|((_, outcome, _), _)| *outcome == Outcome::Ok)
            .map(|((key_id, ..), words)| (key_id.clone(), words.last))
            .collect();
        for ((key_id, outcome, _), words) in &mut words {
            let succeeded_since = successes.iter().any(|(key, last)| key == key_id && *last > words.first);
            if *outcome == Outcome::Credential && succeeded_since {
                (words.count, words.last) = (1, words.first);
            }
        }
        words.sort_by_key(|(_, words)| words.last);
        let told = words.into_iter().map(|((key_id, outcome, is_billing), words)| {
            let Words { count, retry_after, .. } = words;
            KeyWords { id: id.clone(), key_id, outcome, is_billing, count, retry_after }
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&str, Outcome)]) -> Vec<(String, Outcome, u32)> {
        let mut fresh = Fresh::default();
        for (key_id, outcome) in lines {
            fresh.take((*key_id != "-").then_some(*key_id), (*outcome).into(), None);
        }
        let words = fresh.tell(&"chat/a".parse().unwrap());
        assert!(fresh.tell(&"chat/a".parse().unwrap()).is_empty(), "told once");
        words.into_iter().map(|words| (words.key_id.into(), words.outcome, words.count)).collect()
    }

    #[test]
    fn words_come_in_their_order_and_rejections_among_successes_count_once() {
        let (ok, no, limited) = (Outcome::Ok, Outcome::Credential, Outcome::RateLimited);
        let k1 = |outcome, count| ("k1".to_owned(), outcome, count);
        assert_eq!(told(&[("k1", ok), ("k1", ok), ("k1", no), ("k1", no)]), [k1(ok, 2), k1(no, 2)]);
        assert_eq!(told(&[("k1", no), ("k1", ok), ("k1", no), ("k1", no)]), [k1(no, 1), k1(ok, 1)]);
        assert_eq!(told(&[("k1", limited), ("k1", ok), ("k1", limited)]), [k1(ok, 1), k1(limited, 2)]);
        // Another key's success says nothing of this one, and a server's own failure nothing of any.
        let k2 = ("k2".to_owned(), ok, 1);
        assert_eq!(told(&[("k1", no), ("k2", ok), ("k1", no), ("k1", Outcome::ServerError)]), [k2, k1(no, 2)]);
        assert!(told(&[("-", ok)]).is_empty());
    }
}
