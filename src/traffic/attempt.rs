//! What one attempt of a request came to, as the rules of `templates/parts/attempt.cfg` write it: also of those that a
//! repeat hid.
//!
//! ```text
//! SERVER:STATUS:RETRY-AFTER:KEY:HOP:MEANS
//! ```
//!
//! Retry-After, key and hop come from outside and are escaped as in a URL. Knows the form, not what follows from it.
//! Called by `line`, and by `tally` for those that HAProxy told ahead of the line.

use super::termination::TerminationState;
use crate::model::retry_after_value;
use std::time::{Duration, SystemTime};

/// Longest name of a proxy or server that is believed.
pub(super) const MAX_NAME: usize = 64;
/// Most attempts of one line that are looked at: a file may ask for ten.
const MAX_ATTEMPTS: usize = 16;
/// A longer Retry-After is none; the rules cut it one byte behind.
const MAX_RETRY_AFTER_BYTES: usize = 40;

/// One attempt that came to no good answer. Where nobody listened there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The server, without its backend.
    pub server: &'a str,
    /// `None`: it hung up without an answer, or sent no HTTP.
    pub status: Option<u16>,
    retry_after: &'a str,
    /// Which key the hop used.
    pub key_id: Option<&'a str>,
    /// What the hop in between says of an attempt that it answered by itself.
    pub hop: Option<TerminationState>,
    /// What the answer means beyond its status.
    pub means: Means,
}

/// What an answer means beyond its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// A stream that began with an error.
    pub stream_error: bool,
    /// A completion or its like was asked for: what every key may.
    pub completion: bool,
    /// The account is spent.
    pub account: bool,
    /// A 400 that means the key.
    pub key: bool,
}

impl Means {
    pub(super) fn read(letters: &str) -> Self {
        let has = |letter| letters.contains(letter);
        Self { stream_error: has('e') || has('1'), completion: has('i'), account: has('q'), key: has('k') }
    }
}

impl<'a> Attempt<'a> {
    /// Reads one; `None` where it has another form, as where a line is cut.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split(':');
        let mut next = || fields.next();
        // A server's name may have colons, the other fields have none.
        let colons = text.bytes().filter(|byte| *byte == b':').count();
        let after = colons.checked_sub(5)?;
        let end = text.match_indices(':').nth(after)?.0;
        let server = &text[..end];
        for _ in 0..=after {
            next();
        }
        let status = match next()? {
            "" | "-" => None,
            status => Some(status.parse().ok().filter(|status| (100..1000).contains(status))?),
        };
        let retry_after = next()?;
        let key_id = next().filter(|key| !matches!(*key, "" | "-"));
        let hop = match next()? {
            "" | "-" => None,
            letters => Some(TerminationState(letters.as_bytes().try_into().ok()?)),
        };
        let means = Means::read(next()?);
        let is_named = !server.is_empty() && server.len() <= MAX_NAME;
        let is_good = status.is_some_and(|status| (200..400).contains(&status)) && !means.stream_error;
        (is_named && !is_good).then_some(Self { server, status, retry_after, key_id, hop, means })
    }

    /// Only an interim answer (103 Early Hints) was seen of it: nobody knows what the real one was.
    pub fn is_interim(&self) -> bool {
        self.status.is_some_and(|status| status < 200)
    }

    /// The silence that it asked for. `today` is what dates in it are measured by.
    pub fn retry_after(&self, today: SystemTime) -> Option<Duration> {
        let text = unescaped(self.retry_after)?;
        if text.len() > MAX_RETRY_AFTER_BYTES { None } else { retry_after_value(&text, today) }
    }

    /// Whether it asked for silence in any words.
    pub fn asks_for_silence(&self) -> bool {
        !matches!(self.retry_after, "" | "-")
    }
}

/// The attempts of a line, in their order.
pub(super) fn attempts(text: &str) -> impl DoubleEndedIterator<Item = Attempt<'_>> {
    let found = text.split(' ').take(MAX_ATTEMPTS).filter_map(Attempt::parse);
    let found: Vec<_> = found.filter(|attempt| !attempt.is_interim()).collect();
    found.into_iter()
}

/// `%2C` is a comma.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            plain.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            plain.push(byte);
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn every_field_is_read() {
        let attempt = Attempt::parse("gpu:1:429:Sun%2C%2006%20Nov%201994%2008%3A49%3A37%20GMT:k2:SC:iq").unwrap();
        let today = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        assert_eq!((attempt.server, attempt.status, attempt.key_id), ("gpu:1", Some(429), Some("k2")));
        assert_eq!(attempt.hop, Some(TerminationState(*b"SC")));
        assert_eq!(attempt.retry_after(today), Some(Duration::from_secs(77)));
        assert_eq!(attempt.means, Means { completion: true, account: true, stream_error: false, key: false });
        let nothing = Attempt::parse("a:::::").unwrap();
        assert_eq!((nothing.status, nothing.key_id, nothing.asks_for_silence()), (None, None, false));
        assert!(Attempt::parse("a:103::::").unwrap().is_interim() && !nothing.is_interim() && !attempt.is_interim());
    }

    #[test]
    fn what_is_cut_or_makes_no_sense_is_none() {
        for text in ["", "a", "a:200::::", "a:429", "a:429:7:k1:S", "a:x::::", "a:99::::", ":429::::", "a:429:::SCX:"] {
            assert_eq!(Attempt::parse(text), None, "{text}");
        }
        let all: Vec<_> = attempts("a:429:7::: d:103:::: b:::::  c:40").map(|attempt| attempt.server).collect();
        assert_eq!(all, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9:%é -]{0,60}") {
            for attempt in attempts(&text) {
                let _ = attempt.retry_after(SystemTime::UNIX_EPOCH);
                prop_assert!(!attempt.server.is_empty());
            }
        }
    }
}
