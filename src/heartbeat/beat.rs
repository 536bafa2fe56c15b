//! One datagram: the news of a node for one other, or what clients spent at it, and the seal on it.

use crate::alerts::AlertNews;
use crate::model::{Digest, Name, Secret, VrrpState};
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
    fn long_words_are_cut_and_a_datagram_that_is_too_long_is_none() {
        let refusal = RefusedFile { file: Digest::of("x"), why: "ä".repeat(10_000) };
        let news = NodeNews { refuses: Some(refusal), ..NodeNews::default() }.shortened();
        assert_eq!(news.refuses.unwrap().why.chars().count(), MAX_WORDS + 1);
    }
}
