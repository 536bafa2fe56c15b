//! Hides secrets in a line of the operator's file before anybody sees it.
//!
//! Works on one line of text, right or broken, so that a syntax error cannot show a key either. Rather hides too much:
//! a hidden model name is a nuisance, a shown key is an incident. Called by `source` only.

use super::schema::declares;
use crate::model::{KEY_STARTS, SecretRef, looks_like_key};
use std::ops::Range;

/// Parts of a key's name that announce a secret. `key` and `token` are judged apart: `max_tokens` is none.
const SECRET_WORDS: [&str; 8] =
    ["passw", "secret", "webhook", "credential", "authorization", "bearer", "apikey", "auth"];

/// Names of secret keys in full; what nearly reads like one is a slip of the fingers.
const SECRET_KEYS: [&str; 6] = ["keys", "key", "password", "token", "secret", "api_key"];

/// Replaces every secret of a line by as many `*`. `above` is the key that the line continues, if it has none of its
/// own; `hidden` are bytes that are known to be secret.
pub(super) fn mask_line(line: &str, above: Option<&str>, hidden: &[Range<usize>]) -> String {
    let mut secret = vec![false; line.len()];
    for range in hidden {
        secret[range.clone()].fill(true);
        // The quotes around it may be seen.
        for quote in [range.start, range.end.saturating_sub(1)] {
            if matches!(line.as_bytes().get(quote), Some(b'"' | b'\'')) {
                secret[quote] = false;
            }
        }
    }
    let mut key_is_secret = above.is_some_and(is_secret_key);
    let mut word_start = 0;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' | '\'' => {
                let end = literal_end(line, at, c);
                let inner = at + 1..end;
                if line[end..].trim_start_matches(['"', '\'']).trim_start().starts_with('=') {
                    // A quoted key. What looks like a secret in it is found below.
                    word_start = at;
                } else if key_is_secret && !is_reference(&line[inner.clone()]) {
                    secret[inner].fill(true);
                } else {
                    for found in secrets_within(&line[inner.clone()]) {
                        secret[inner.start + found.start..inner.start + found.end].fill(true);
                    }
                }
                while chars.clone().next().is_some_and(|(next, _)| next < end + 1) {
                    chars.next();
                }
            }
            '=' => key_is_secret = is_secret_key(line[word_start..at].trim()),
            '{' | ',' | '[' | ']' | '}' if !key_is_secret => word_start = at + 1,
            // Still the same list of keys, or the next key of an inline table: decided at the next `=`.
            '{' | ',' => word_start = at + 1,
            '#' => {
                // A comment may hold a key that was commented out.
                for found in secrets_within(&line[at..]) {
                    secret[at + found.start..at + found.end].fill(true);
                }
                break;
            }
            _ if key_is_secret && !c.is_whitespace() && !"[]{}".contains(c) => {
                // Bare text where a quoted reference should stand; the name of an inline table's next key is no secret.
                let rest = &line[at..];
                let end = at + rest.find([',', ']', '}', '"', '\'']).unwrap_or(rest.len());
                let next_key = rest.find('=').is_some_and(|equals| at + equals < end);
                if !next_key {
                    secret[at..end].fill(true);
                }
                while chars
                    .clone()
                    .next()
                    .is_some_and(|(next, _)| next < end && (!next_key || !line[next..].starts_with('=')))
                {
                    chars.next();
                }
            }
            _ => {}
        }
    }
    // Names, and what lost its quotes.
    for found in keys_within(line) {
        secret[found].fill(true);
    }
    if !line.contains(['"', '\'']) {
        for found in secrets_within(line) {
            secret[found].fill(true);
        }
    }
    line.char_indices().map(|(at, c)| if secret[at] { '*' } else { c }).collect()
}

/// Like [`mask_line`] for a file whose quotes and brackets cannot be trusted: shows a value only behind a key that is
/// declared and carries no secret, and nothing behind the first word that names one. `above` is the first word of the
/// lines above, if this line may continue it.
pub(super) fn mask_broken_line(line: &str, above: Option<&str>, hidden: &[Range<usize>]) -> String {
    let in_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let masked = mask_line(line, above, hidden);
    let mut secret = vec![false; line.len()];
    let mut shown = is_header(line) || above.is_some_and(is_harmless_key);
    let mut over = above.is_some_and(is_secret_key);
    let mut from = 0;
    for word in line.split_inclusive(|c: char| !in_word(c)) {
        let end = from + word.len();
        let bare = word.trim_end_matches(|c: char| !in_word(c));
        let after = from + bare.len();
        let is_assigned = line[after..].trim_start_matches(['"', '\'', ' ', '\t']).starts_with('=');
        // A key that lost its `=`; any other first word may be the rest of a secret from the line above.
        let is_first = line[..from].trim().is_empty() && (declares(bare) || is_secret_key(bare));
        let is_key = is_assigned || is_first;
        if !bare.is_empty() && is_key && !over {
            shown = is_harmless_key(bare);
        } else if !shown || over {
            secret[from..after].fill(true);
        }
        if !shown || over {
            secret[after..end].fill(true);
        }
        over |= is_secret_key(bare);
        from = end;
    }
    let kept = |c: char| c.is_whitespace() || "=,[]{}\"'".contains(c);
    line.char_indices().zip(masked.chars()).map(|((at, c), m)| if secret[at] && !kept(c) { '*' } else { m }).collect()
}

/// Whether a line opens a section, rather than a list of texts that lost its key.
pub(super) fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[') && !line.trim_start().trim_start_matches(['[', ' ']).starts_with(['"', '\''])
}

/// Whether some section declares this key, and none as a secret.
fn is_harmless_key(key: &str) -> bool {
    !is_secret_key(key) && declares(key)
}

/// Whether a key of this name carries a secret, misspelt ones included.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.rsplit('.').next().unwrap_or(key).trim_matches(['"', '\'']).to_ascii_lowercase();
    let harmless = ["first_token", "first_token_soft", "max_tokens", "tokens", "keep_alive"].contains(&key.as_str());
    !harmless
        && (SECRET_WORDS.iter().any(|word| key.contains(word))
            || ["key", "keys", "token"].iter().any(|word| key.ends_with(word))
            || SECRET_KEYS.iter().any(|word| {
                strsim::osa_distance(word, &key) == 1 + usize::from(word.len() > 6)
                    || (word.len() > 3 && strsim::osa_distance(word, &key) <= 1)
            }))
}

/// Whether a text says where a secret is, rather than the secret.
pub(super) fn is_reference(text: &str) -> bool {
    text.parse::<SecretRef>().is_ok() || is_relative_file(text)
}

/// Whether a text names a file that only lacks the beginning of its path: `file:keys/openai`. Written so plainly as
/// files are, with a slash and without a capital, it is no key.
pub(super) fn is_relative_file(text: &str) -> bool {
    let Some(path) = text.strip_prefix("file:").filter(|path| !path.starts_with('/')) else { return false };
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.~/".contains(c);
    path.contains('/') && path.chars().all(is_plain) && !path.split('/').any(looks_like_key)
}

/// End of the literal that opens at `at`: its closing quote, or the line's end.
fn literal_end(line: &str, at: usize, quote: char) -> usize {
    let mut escaped = false;
    for (offset, c) in line[at + 1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return at + 1 + offset,
            _ => {}
        }
    }
    line.len()
}

/// Parts of a text that look like a secret: user information of a URL, and words in the shape of a key.
fn secrets_within(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if let Some(scheme) = text.find("://") {
        let start = scheme + 3;
        let end = start + text[start..].find(['/', '?', '#', '"', ' ']).unwrap_or(text.len() - start);
        if let Some(at) = text[start..end].rfind('@') {
            found.push(start..start + at);
        }
    }
    found.extend(keys_within(text));
    if let Some(bearer) = text.find("Bearer ") {
        let start = bearer + "Bearer ".len();
        let end = start + text[start..].find(['"', '\'', ' ']).unwrap_or(text.len() - start);
        // Not the words "Bearer token" of a comment, not a fetch of HAProxy.
        if end - start >= 8 && !text[start..end].contains("%[") {
            found.push(start..end);
        }
    }
    found
}

/// Words in the shape of a key, however they are wrapped: in quotes and brackets, behind `env:` and `client.`. A path is none.
fn keys_within(text: &str) -> Vec<Range<usize>> {
    let is_end = |c: char| c.is_whitespace() || "\"'`,=[]{}()<>;".contains(c);
    let in_run = |c: char| c.is_ascii_alphanumeric() || "_-+".contains(c);
    let mut found = Vec::new();
    let mut from = 0;
    for word in text.split_inclusive(is_end) {
        let bare = word.trim_end_matches(|c| is_end(c) || ".:!?…".contains(c));
        let is_path = bare.starts_with('/') || bare.starts_with("file:/");
        // Names of sections stand before a `.`; before that of `Qwen2.5` a name of a model does.
        let mut is_number = false;
        let mut at = 0;
        while let Some(start) = bare[at..].find(in_run).map(|start| at + start).filter(|_| !(is_path && at > 0)) {
            let end = bare[start..].find(|c| !in_run(c)).map_or(bare.len(), |end| start + end);
            let run = &bare[start..end];
            if KEY_STARTS.iter().any(|known| run.starts_with(known)) && looks_like_key(&bare[start..]) {
                // The `=` may be its own.
                let rest = &text[from + start..];
                let whole = rest.find(|c| is_end(c) && c != '=').unwrap_or(rest.len());
                found.push(from + start..from + start + whole.max(bare.len() - start));
                break;
            }
            let is_first = start == 0 || !is_number && !bare[..start].contains('/');
            if is_first && looks_like_key(run) {
                found.push(from + start..from + end);
            }
            is_number = run.ends_with(|c: char| c.is_ascii_digit());
            at = end;
        }
        from += word.len();
    }
    found
}

/// A text of a message without what looks like a secret: the operator's own words may be one, whatever they were meant for.
pub(super) fn without_secrets(text: &str) -> String {
    let mut secrets = secrets_within(text);
    secrets.sort_by_key(|range| range.start);
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for range in secrets.into_iter().filter(|range| !range.is_empty()) {
        if range.end > from {
            clean += &text[from..range.start.max(from)];
            clean += "…";
            from = range.end;
        }
    }
    clean + &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_stays_readable() {
        for (line, above, masked) in [
            (r#"password = "hunter2""#, None, r#"password = "*******""#),
            (r#"password = "hunter2"#, None, r#"password = "*******"#),
            (r#"password = hunter2"#, None, r#"password = *******"#),
            (r#"pasword = "hunter2""#, None, r#"pasword = "*******""#),
            (r#"kyes = ["hunter2"]"#, None, r#"kyes = ["*******"]"#),
            (r#"keys = ["env:A", "hunter2"]"#, None, r#"keys = ["env:A", "*******"]"#),
            (r#"  "hunter2","#, Some("keys"), r#"  "*******","#),
            (r#"  "gpt-4o","#, Some("expect"), r#"  "gpt-4o","#),
            (
                r#"user = "ops", password = 'hunter2', x = "y" }"#,
                None,
                r#"user = "ops", password = '*******', x = "y" }"#,
            ),
            (r#"{ password = hunter2, x = "y" }"#, None, r#"{ password = *******, x = "y" }"#),
            (r#"url = "https://me:pw@x.example/v1""#, None, r#"url = "https://*****@x.example/v1""#),
            (r#"model = "sk-abcdefgh""#, None, r#"model = "***********""#),
            (r#"max_tokens = "lots""#, None, r#"max_tokens = "lots""#),
            (r#"keys = ["file:keys/openai"]"#, None, r#"keys = ["file:keys/openai"]"#),
            (r#"keys = ["file:hunter2"]"#, None, r#"keys = ["************"]"#),
            (r#"keys = ["file:wJal/K7MD/bPxR"]"#, None, r#"keys = ["*******************"]"#),
            (r#"raw = ["x Bearer abcdefgh"]"#, None, r#"raw = ["x Bearer ********"]"#),
            (r#"models = { "sk-abcdefgh" = 7 }"#, None, r#"models = { "***********" = 7 }"#),
            (r#"[client.sk-abcdefgh]"#, None, r#"[client.***********]"#),
            (r#"sk-abcdefgh = "x""#, None, r#"*********** = "x""#),
            (r#"only = ["Qwen2.5-Coder-32B-Instruct"]"#, None, r#"only = ["Qwen2.5-Coder-32B-Instruct"]"#),
            (r#"keys = ["file:/etc/keys/sk-openai-prod"]"#, None, r#"keys = ["file:/etc/keys/sk-openai-prod"]"#),
            (r#"token = "ß1""#, None, r#"token = "**""#),
            (r#"backend = "chat" # keys = "sk-abcdefgh""#, None, r#"backend = "chat" # keys = "***********""#),
        ] {
            assert_eq!(mask_line(line, above, &[]), masked, "{line}");
        }
    }

    #[test]
    fn a_message_repeats_no_word_that_looks_like_a_secret() {
        for (text, clean) in [
            (r#"put it into brackets: ["sk-abcdefgh/+="]"#, r#"put it into brackets: ["…"]"#),
            (
                "`backend.chat.server.one.models.sk-abcdefgh` wants text",
                "`backend.chat.server.one.models.…` wants text",
            ),
            ("`client.Zm9vYmFyMTIzNDU2Nzg5MA`: no", "`client.…`: no"),
            ("write `env:sk-abcdefgh`.", "write `env:…`."),
            ("KEY=sk-abcdefgh=, Bearer hunter2hunter2", "KEY=…, Bearer …"),
            ("http://me:pw@host/v1 and sk-… and `Bearer`", "http://…@host/v1 and sk-… and `Bearer`"),
            ("could not read /etc/keys/sk-openai-prod: ß", "could not read /etc/keys/sk-openai-prod: ß"),
        ] {
            assert_eq!(without_secrets(text), clean, "{text}");
        }
    }

    #[test]
    fn lines_with_broken_quotes_are_hidden_from_the_secret_on() {
        for (line, above, masked) in [
            (r#"s = { bind = *:1", password = "hunter2" }"#, None, r#"s = { bind = *:1", password = "*******" }"#),
            (r#"password "hunter2""#, None, r#"password "*******""#),
            (r#""hunter2","#, Some("keys"), r#""*******","#),
            (r#"s = { user = "ops", pas]sword = "hunter2" }"#, None, r#"s = { user = "ops", pas]sword = "*******" }"#),
            (r#"url = "http://x:1"#, None, r#"url = "http://x:1"#),
            (r#"backend "chat""#, None, r#"backend "chat""#),
            (r#"hunter2 hunter2" }"#, None, r#"******* *******" }"#),
            (r#"[backend.chat"#, None, r#"[backend.chat"#),
        ] {
            assert_eq!(mask_broken_line(line, above, &[]), masked, "{line}");
        }
    }

    #[test]
    fn known_places_are_hidden_by_the_character() {
        assert_eq!(mask_line("a = 12ß4", None, std::slice::from_ref(&(4..9))), "a = ****");
    }
}
