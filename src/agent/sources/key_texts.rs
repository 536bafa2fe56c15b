//! Whether the text behind a provider's key can be a key: what people paste beside it by mistake goes out as it is, and
//! the provider answers 401.
//!
//! Pure. No answer repeats any part of the text. Called by `sources`.

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No provider takes it.
    Refused(&'static str),
    /// It is odd.
    Odd(&'static str),
}

/// Words of the header that stand before a key.
const SCHEMES: [&str; 4] = ["bearer", "basic", "token", "apikey"];

/// Judges the text of one key; `prefix` is what hapilot itself puts before it in the header.
pub(super) fn flaw(text: &str, prefix: &str) -> Option<Flaw> {
    let bare = text.trim();
    if bare.starts_with('\u{feff}') {
        return Some(Flaw::Refused(
            "it begins with an invisible mark (a byte order mark): write the file as plain UTF-8",
        ));
    }
    if is_assignment(bare) {
        return Some(Flaw::Refused("it looks like NAME=value: leave the key alone there, without the name"));
    }
    if bare.len() > 1 && ['"', '\'', '`'].iter().any(|quote| bare.starts_with(*quote) && bare.ends_with(*quote)) {
        return Some(Flaw::Refused("it stands in quotes, which would be sent with it: take them away"));
    }
    let scheme = bare.split_whitespace().next().filter(|word| word.len() < bare.len());
    let scheme = scheme.filter(|word| SCHEMES.contains(&word.trim_end_matches(':').to_ascii_lowercase().as_str()));
    if scheme.is_some() && !prefix.is_empty() {
        return Some(Flaw::Refused(
            "it begins with a word like `Bearer`, which hapilot puts there itself: take it away",
        ));
    }
    if bare.len() < text.len() {
        return Some(Flaw::Odd("a blank stands before or behind it"));
    }
    // A provider without a prefix of its own may want `Basic …`.
    if scheme.is_none() && bare.contains(char::is_whitespace) {
        return Some(Flaw::Odd("it has a blank in it"));
    }
    if bare.contains(['"', '\'', '`', '<', '>']) || !bare.is_ascii() {
        return Some(Flaw::Odd("it has a character in it that keys do not have"));
    }
    None
}

/// `OPENAI_API_KEY=sk-…`, also after `export`; not the `=` at the end of base64.
fn is_assignment(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
    let Some((name, value)) = text.split_once('=') else { return false };
    let is_name = name.trim_end().chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_name && !name.trim().is_empty() && !value.trim_start_matches('=').trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::{Flaw, flaw};

    #[test]
    fn what_is_no_key_is_refused_or_told_as_odd() {
        for (text, part) in [
            ("Bearer sk-x", "Bearer"),
            ("bearer: sk-x", "Bearer"),
            ("Authorization_X=Bearer sk-x", ""),
            ("OPENAI_API_KEY=sk-x", "NAME=value"),
            ("KEY=sk-x", "NAME=value"),
            ("A1 = sk-x", "NAME=value"),
            ("export TOKEN='sk-x'", "NAME=value"),
            ("export OPENAI_API_KEY=\"sk-x\"", "NAME=value"),
            ("\"sk-x\"", "quotes"),
            ("'sk-x'", "quotes"),
            ("\u{feff}sk-x", "invisible"),
        ] {
            match flaw(text, "Bearer ") {
                Some(Flaw::Refused(why)) => assert!(why.contains(part) && !why.contains("sk-x"), "{text}: {why}"),
                found => assert!(part.is_empty(), "{text}: {found:?}"),
            }
        }
        for text in [" sk-x", "sk-x ", "sk x", "sk-x\"", "<your-key>", "sk-ü"] {
            assert!(matches!(flaw(text, "Bearer "), Some(Flaw::Odd(_))), "{text}");
        }
    }

    #[test]
    fn every_key_that_a_provider_gives_out_is_fine() {
        for text in ["sk-proj-4_-x", "AIzaSyD", "QUJD_EVG==", "QUJDEVG=", "AKIA7==", "=x", "a.b-c/d+e=", "gsk_1", "x"] {
            assert_eq!(flaw(text, "Bearer "), None, "{text}");
            assert_eq!(flaw(text, ""), None, "{text}");
        }
        assert_eq!(flaw("Basic QUJD=", ""), None);
    }
}
