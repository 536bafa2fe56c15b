//! One datagram: the news of a node for one other, or what clients spent at it, and the seal on it.

use crate::alerts::AlertNews;
use crate::model::{Digest, Name, Secret, VrrpState};
use crate::rollout::BackendNews;
use crate::usage::ToldSum;
use crate::vip::VrrpAdvice;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Largest datagram, in bytes: room for the words on sixteen VIPs. A usual one has 500.
pub(super) const MAX_BYTES: usize = 16 << 10;
/// Of so many canaries the others are told: room for their words in a datagram.
pub const MAX_CANARIES: usize = 30;
/// Of a reason in words, in characters.
const MAX_WORDS: usize = 150;
/// The same where it is too much for a datagram.
const FEW_WORDS: usize = 40;
/// Before everything else: what this is, and the form of what follows.
const MAGIC: &[u8] = b"hapilot1";
/// The same before sums of clients.
const MAGIC_OF_SUMS: &[u8] = b"hapilotU";
/// HMAC-SHA256.
const TAG_BYTES: usize = 32;

/// The key that all nodes share.
pub struct SharedKey(hmac::Key);

impl SharedKey {
    /// The key of this secret.
    pub fn of(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeNews {
    /// hapilot's version.
    pub version: String,
    /// Its part in each VIP.
    pub vips: BTreeMap<String, VipNews>,
    /// Its HAProxy can serve.
    pub can_serve: bool,
    /// The number of the revision that serves, in its own history.
    pub revision: Option<u32>,
    /// What serves.
    pub serves: Option<Serves>,
    /// The newest file, where it could not be served.
    pub refuses: Option<RefusedFile>,
    /// Where its canaries are, by their names; at most [`MAX_CANARIES`] of them.
    #[serde(default)]
    pub canaries: BTreeMap<String, CanaryNews>,
    /// What came to its backends, where its revisions soak.
    #[serde(default)]
    pub backends: BTreeMap<String, BackendNews>,
    /// What it told the sinks of alerts.
    #[serde(default)]
    pub alerts: AlertNews,
}

/// Where a canary is at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryNews {
    /// The beginning of the digest of what is rolled out.
    pub content: String,
    /// The same of the rules that its stages are numbered by; empty where an older version tells it.
    #[serde(default)]
    pub rules: String,
    /// Its stage, counted from 0; none behind the last one, and after a rollback.
    pub stage: Option<usize>,
    /// It was rolled back: why.
    pub rolled_back: Option<String>,
}

/// A node's part in one VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipNews {
    /// What its Keepalived says; none: it says nothing.
    pub state: Option<VrrpState>,
    /// It is MASTER and bears the address, for so many milliseconds.
    pub owned_ms: Option<u64>,
    /// The priority that it goes by.
    pub priority: Option<u8>,
    /// What its Keepalived was told.
    pub word: Option<VrrpAdvice>,
    /// How it speaks VRRP: who speaks otherwise does not hear it.
    pub dialect: String,
}

/// The operator's file that a node serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Serves {
    /// Its digest.
    pub file: Digest,
    /// It has served well for long enough to tell.
    pub is_proven: bool,
    /// It serves badly: why.
    pub failed: Option<String>,
}

/// A file that a node could not serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// Its digest.
    pub file: Digest,
    /// Why, in one line.
    pub why: String,
}

impl NodeNews {
    /// Without what no node needs to serve.
    pub(super) fn plain(mut self) -> Self {
        let words = self.vips.values_mut().filter_map(|vip| vip.word.as_mut());
        words.for_each(|word| word.why = word.why.chars().take(FEW_WORDS).collect());
        let canaries = self.canaries.into_iter().map(|(name, canary)| {
            (name, CanaryNews { rolled_back: canary.rolled_back.map(|_| "see its own status".to_owned()), ..canary })
        });
        Self { canaries: canaries.collect(), backends: BTreeMap::new(), alerts: AlertNews::default(), ..self }
    }

    /// Long words are cut, so that a datagram stays one.
    pub(super) fn shortened(mut self) -> Self {
        let cut = |text: &mut String| {
            if let Some((at, _)) = text.char_indices().nth(MAX_WORDS) {
                text.truncate(at);
                text.push('…');
            }
        };
        self.refuses.iter_mut().for_each(|refusal| cut(&mut refusal.why));
        self.serves.iter_mut().filter_map(|serves| serves.failed.as_mut()).for_each(cut);
        self.canaries.values_mut().filter_map(|canary| canary.rolled_back.as_mut()).for_each(cut);
        self.vips.values_mut().filter_map(|vip| vip.word.as_mut()).for_each(|word| cut(&mut word.why));
        self
    }
}

/// News with what makes them fresh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Beat {
    pub from: Name,
    pub to: Name,
    /// Of the sender's life; a random number.
    pub life: u64,
    /// Counts up within a life.
    pub number: u64,
    /// A random number, to be echoed.
    pub nonce: u64,
    /// The other's last nonce; 0: none was heard.
    pub echo: u64,
    pub news: NodeNews,
}

/// What clients have spent, as far as one node knows. It needs no freshness: sums only grow, and the largest counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub from: Name,
    pub sums: Vec<ToldSum>,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Beat(Box<Beat>),
    Sums(Sums),
}

/// The bytes of a datagram; `None` where they are too many.
pub(super) fn seal(key: &SharedKey, beat: &Beat) -> Option<Vec<u8>> {
    sealed(key, MAGIC, beat)
}

/// The same of sums.
pub(super) fn seal_sums(key: &SharedKey, sums: &Sums) -> Option<Vec<u8>> {
    sealed(key, MAGIC_OF_SUMS, sums)
}

fn sealed(key: &SharedKey, magic: &[u8], what: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = magic.to_vec();
    serde_json::to_writer(&mut bytes, what).ok()?;
    let tag = hmac::sign(&key.0, &bytes);
    bytes.extend_from_slice(tag.as_ref());
    (bytes.len() <= MAX_BYTES).then_some(bytes)
}

/// Why a datagram is no beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsealed {
    #[error("it is no heartbeat of this version")]
    Other,
    #[error("its seal is not by our key")]
    Forged,
}

/// What a datagram says, where its seal is right.
pub(super) fn unseal(key: &SharedKey, bytes: &[u8]) -> Result<Said, Unsealed> {
    if !bytes.starts_with(MAGIC) && !bytes.starts_with(MAGIC_OF_SUMS) {
        return Err(Unsealed::Other);
    }
    let at = bytes.len().checked_sub(TAG_BYTES).filter(|at| *at >= MAGIC.len()).ok_or(Unsealed::Other)?;
    let (sealed, tag) = bytes.split_at(at);
    hmac::verify(&key.0, sealed, tag).map_err(|_| Unsealed::Forged)?;
    let (magic, body) = sealed.split_at(MAGIC.len());
    let said = match magic == MAGIC {
        true => serde_json::from_slice(body).map(|beat| Said::Beat(Box::new(beat))),
        false => serde_json::from_slice(body).map(Said::Sums),
    };
    said.map_err(|_| Unsealed::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SharedKey {
        SharedKey::of(&Secret::new(text.to_owned()).unwrap())
    }

    #[test]
    fn any_change_of_a_datagram_shows() {
        let beat = Beat {
            from: Name::new("lb1").unwrap(),
            to: Name::new("lb2").unwrap(),
            life: 1,
            number: 2,
            nonce: 3,
            echo: 4,
            news: NodeNews { can_serve: true, ..NodeNews::default() },
        };
        let ours = key("0123456789abcdef");
        let bytes = seal(&ours, &beat).unwrap();
        assert_eq!(unseal(&ours, &bytes), Ok(Said::Beat(Box::new(beat))));
        assert_eq!(unseal(&key("0123456789abcdeF"), &bytes), Err(Unsealed::Forged));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(unseal(&ours, &other).is_err(), "{at}");
            assert!(unseal(&ours, &bytes[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn the_most_that_a_node_has_to_say_is_said_without_what_is_only_nice_to_know() {
        let long = |n: usize| format!("{n:063}");
        let word = VrrpAdvice { fault: true, adjustment: -200, why: "ä€".repeat(MAX_WORDS / 2) };
        let vip =
            VipNews { state: None, owned_ms: Some(u64::MAX), priority: Some(254), word: Some(word), dialect: long(1) };
        let canary =
            CanaryNews { content: long(1), rules: long(2), stage: None, rolled_back: Some("c".repeat(MAX_WORDS)) };
        let marks = || (0..100).map(|n| (format!("{n:012}"), 86_400));
        let news = NodeNews {
            vips: (0..16).map(|n| (long(n), vip.clone())).collect(),
            canaries: (0..MAX_CANARIES).map(|n| (long(n), canary.clone())).collect(),
            backends: (0..40).map(|n| (long(n), BackendNews { told: u64::MAX, ..BackendNews::default() })).collect(),
            alerts: AlertNews::of(true, marks(), marks()),
            refuses: Some(RefusedFile { file: Digest::of("x"), why: "r".repeat(MAX_WORDS) }),
            ..NodeNews::default()
        };
        let beat = |news| Beat {
            from: Name::new(long(1)).unwrap(),
            to: Name::new(long(2)).unwrap(),
            life: u64::MAX,
            number: u64::MAX,
            nonce: u64::MAX,
            echo: u64::MAX,
            news,
        };
        let ours = key("0123456789abcdef");
        assert!(seal(&ours, &beat(news.clone())).is_none(), "it is too much");
        let plain = seal(&ours, &beat(news.clone().plain())).unwrap();
        assert!(plain.len() < MAX_BYTES - 2_000, "{}", plain.len());
        let Ok(Said::Beat(heard)) = unseal(&ours, &plain) else { panic!("it is a beat") };
        assert_eq!((heard.news.vips.len(), heard.news.canaries.len()), (16, MAX_CANARIES));
    }

    #[test]
    fn long_words_are_cut_and_a_datagram_that_is_too_long_is_none() {
        let refusal = RefusedFile { file: Digest::of("x"), why: "ä".repeat(10_000) };
        let news = NodeNews { refuses: Some(refusal), ..NodeNews::default() }.shortened();
        assert_eq!(news.refuses.unwrap().why.chars().count(), MAX_WORDS + 1);
    }
}
