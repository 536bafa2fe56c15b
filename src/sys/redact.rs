//! The door through which others' words come in: every secret that this process has read is taken out of them.
//!
//! What HAProxy, Keepalived, a backend or a shell says may repeat a key: one that was sent, one of the environment, one
//! of another server. Whatever turns such words into an error, a line of the log or a status takes them from here.
//! Knows values, not what they are for, and gives none out. Secrets are learnt where they are read, and stay known for
//! the life of the process: an answer may still repeat the key of before.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// What stands in a secret's place.
const MARK: &str = "[secret]";
/// Most values that are known, of the eldest of which some are forgotten then: a rotation a day of 5,000 keys is years.
const MAX_VALUES: usize = 50_000;
/// A value as short as that is a word of the language (`none`, `test`), unless it mixes letters with something else.
const SHORT: usize = 8;
/// And one as short as that is never looked for.
const SHORTEST: usize = 4;
/// Parts of the name of a variable whose value is nobody's business.
const SECRET_NAMES: [&str; 8] = ["KEY", "TOKEN", "SECRET", "PASSW", "PASSPHRASE", "CREDENTIAL", "AUTH", "PRIVATE"];

#[derive(Default)]
struct KnownSecrets {
    values: BTreeSet<String>,
    /// What finds them; made anew when there are new ones.
    finder: Option<Arc<AhoCorasick>>,
    /// Variables of the environment that hold a secret.
    variables: BTreeSet<String>,
}

static KNOWN: RwLock<Option<KnownSecrets>> = RwLock::new(None);

/// Remembers a value, in the forms in which it may come back.
pub fn learn(value: &str) {
    if !is_worth_hiding(value) {
        return;
    }
    let is_known = |known: &Option<KnownSecrets>| known.as_ref().is_some_and(|known| known.values.contains(value));
    if is_known(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    let mut guard = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = guard.get_or_insert_default();
    if known.values.len() >= MAX_VALUES {
        known.values.clear();
    }
    known.values.extend(forms(value));
    known.finder = None;
}

/// Remembers that a variable of the environment holds a secret.
pub fn learn_variable(name: &str) {
    let mut guard = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default().variables.insert(name.to_owned());
}

/// A text without any secret that is known.
pub fn redact(text: String) -> String {
    match String::from_utf8(redact_bytes(text.into_bytes())) {
        Ok(text) => text,
        // Secrets are whole characters, so that this does not happen.
        Err(bytes) => String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
    }
}

/// The same for what may be no text.
pub fn redact_bytes(bytes: Vec<u8>) -> Vec<u8> {
    let found = finder().map(|finder| found_in(&finder, &bytes)).unwrap_or_default();
    if found.is_empty() {
        return bytes;
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut from = 0;
    // Where two overlap, one mark stands for both.
    for range in found.into_iter().filter(|range| !range.is_empty()) {
        if range.start >= from {
            clean.extend_from_slice(&bytes[from..range.start]);
            clean.extend_from_slice(MARK.as_bytes());
        }
        from = from.max(range.end);
    }
    clean.extend_from_slice(&bytes[from..]);
    clean
}

/// Whether a text has a secret in it that is known.
pub fn has_secret(text: &str) -> bool {
    finder().is_some_and(|finder| !found_in(&finder, text.as_bytes()).is_empty())
}

/// Where secrets are, in the order of their places: as they are known, and however many of their characters are escaped.
fn found_in(finder: &AhoCorasick, bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<_> = finder.find_iter(bytes).map(|one| one.range()).collect();
    if let Some((plain, places)) = unescaped(bytes) {
        found.extend(finder.find_iter(&plain).map(|one| places[one.start()]..places[one.end()]));
        found.sort_by_key(|range| (range.start, range.end));
    }
    found
}

/// A text with `%2F`, `\x2f`, `\u002f` and `\/` each as what it stands for, in one pass, and where each byte of it came from
/// (with one place more, the end); `None` where nothing is escaped.
fn unescaped(bytes: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\')) {
        return None;
    }
    let hex = |digits: Option<&[u8]>| {
        let digits =
            std::str::from_utf8(digits?).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    };
    let (mut plain, mut places) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len() + 1));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = match (byte, bytes.get(at + 1)) {
            (b'%', _) => hex(bytes.get(at + 1..at + 3)).map(|byte| (byte, 3)),
            (b'\\', Some(b'x')) => hex(bytes.get(at + 2..at + 4)).map(|byte| (byte, 4)),
            // Of a key: what is no ASCII stands in no header.
            (b'\\', Some(b'u')) => hex(bytes.get(at + 2..at + 6)).filter(u8::is_ascii).map(|byte| (byte, 6)),
            (b'\\', Some(next @ (b'/' | b'"' | b'\\'))) => Some((*next, 2)),
            _ => None,
        };
        let (byte, length) = escaped.unwrap_or((*byte, 1));
        plain.push(byte);
        places.push(at);
        at += length;
    }
    places.push(bytes.len());
    Some((plain, places))
}

/// The variables of this process's environment that hold a secret: those that were named as such, and those whose name
/// says so.
pub fn secret_variables() -> Vec<String> {
    let guard = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let is_named = |name: &String| guard.as_ref().is_some_and(|known| known.variables.contains(name));
    let is_secret = |name: &String| {
        let upper = name.to_ascii_uppercase();
        is_named(name) || SECRET_NAMES.iter().any(|part| upper.contains(part))
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(is_secret).collect()
}

fn finder() -> Option<Arc<AhoCorasick>> {
    if let Some(known) = &*KNOWN.read().unwrap_or_else(PoisonError::into_inner)
        && let Some(finder) = &known.finder
    {
        return Some(finder.clone());
    }
    let mut guard = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = guard.as_mut().filter(|known| !known.values.is_empty())?;
    if known.finder.is_none() {
        // The longest: where one key begins with another, nothing of it may stay.
        let made = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.values);
        known.finder = made.ok().map(Arc::new);
    }
    known.finder.clone()
}

/// Whether a text is a secret by more than its place: words of the language would be taken out of every message.
fn is_worth_hiding(value: &str) -> bool {
    let is_word = |value: &str| value.chars().all(char::is_alphabetic) || !value.chars().any(char::is_alphabetic);
    value.len() >= SHORT || (value.len() >= SHORTEST && !is_word(value))
}

/// The value itself, as base64 wherever it begins in what is encoded, and as it stands in a URL and in JSON.
fn forms(value: &str) -> Vec<String> {
    let mut all = vec![value.to_owned()];
    if value.len() >= SHORT {
        for before in 0..3 {
            let encoded = STANDARD_NO_PAD.encode([&vec![0; before], value.as_bytes()].concat());
            // Of the first and the last character some bits are a neighbour's.
            let (from, until) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
            all.push(encoded[from..until].to_owned());
        }
    }
    let in_url: String = value
        .bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    all.push(in_url);
    let in_json = serde_json::Value::from(value).to_string();
    all.push(in_json.trim_matches('"').to_owned());
    all.retain(|form| form.len() >= SHORTEST);
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_known_secret_is_taken_out_wherever_it_stands_and_the_longest_first() {
        learn("redact-one-4711");
        learn("redact-one-4711-and-more");
        let clean = redact("a redact-one-4711-and-more b redact-one-4711 c".to_owned());
        assert_eq!(clean, "a [secret] b [secret] c");
        assert_eq!(redact_bytes(b"\xff redact-one-4711".to_vec()), b"\xff [secret]");
        assert_eq!(redact("nothing to hide".to_owned()), "nothing to hide");
    }

    #[test]
    fn other_spellings_are_taken_out_as_well() {
        learn("redact+two/48\"15=");
        for text in ["redact%2Btwo%2F48%2215%3D", r#"redact+two/48\"15="#] {
            assert_eq!(redact(format!("x{text}x")), "x[secret]x");
        }
        for before in ["", "u", "us", "user:", "other:"] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{before}redact+two/48\"15=after"));
            let clean = redact(encoded.clone());
            assert!(clean.contains("[secret]"), "{encoded} {clean}");
        }
    }

    #[test]
    fn a_secret_of_which_some_characters_are_escaped_is_taken_out() {
        learn("redact-five/a+b=c4711");
        for text in [
            "redact-five/a%2Bb%3Dc4711",
            "redact-five%2fa+b%3dc4711",
            "%72edact-five/a+b=c471%31",
            r"redact-five\/a+b=c4711",
            r"redact-five\u002fa\u002Bb=c4711",
            r"redact-five\x2fa%2Bb=c4711",
        ] {
            assert!(has_secret(text), "{text}");
            assert_eq!(redact(format!("http://ü/{text}%zz\\")), "http://ü/[secret]%zz\\");
        }
        for text in ["redact-five/a%2Bb", "100% \\u00", "%", "\\", "%e2%82"] {
            assert!(!has_secret(text), "{text}");
            assert_eq!(redact(text.to_owned()), text);
        }
    }

    #[test]
    fn a_word_of_the_language_stays() {
        learn("EMPTY");
        learn("9001");
        learn("x");
        assert_eq!(redact("EMPTY 9001 x".to_owned()), "EMPTY 9001 x");
        learn("sk-7");
        assert_eq!(redact("key sk-7.".to_owned()), "key [secret].");
    }

    #[test]
    fn a_variable_is_secret_by_its_name_or_by_its_use() {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        // No child of another test needs it.
        let harmless = |name: &String| name.starts_with("CARGO_") || name.starts_with("NEXTEST_") || name == "HOME";
        let Some(name) = names.filter(harmless).find(|name| !secret_variables().contains(name)) else { return };
        learn_variable(&name);
        assert!(secret_variables().contains(&name));
    }

    proptest! {
        #[test]
        fn any_mixture_of_escapes_is_found(escaped in proptest::collection::vec(0..4u8, 21)) {
            let secret = "redact-six/%2F+=\\q4711";
            learn(secret);
            let mixed: String = secret.bytes().zip(escaped.iter().cycle()).map(|(byte, how)| match (how, byte) {
                (0, b'%' | b'\\') | (1, _) => format!("%{byte:02x}"),
                (0, byte) => char::from(byte).to_string(),
                (2, _) => format!("\\u{byte:04X}"),
                _ => format!("\\x{byte:02x}"),
            }).collect();
            prop_assert_eq!(redact(format!("a {mixed} b")), "a [secret] b");
        }

        #[test]
        fn no_text_shows_a_known_secret(before in any::<String>(), after in any::<String>()) {
            learn("redact-three-99");
            let clean = redact(format!("{before}redact-three-99{after}"));
            prop_assert!(!clean.contains("redact-three-99"), "{clean}");
        }
    }
}
