//! Routes as data: regular expressions on the text `PATH MODEL`, in the order of the operator's file.

use crate::config::{Frontend, Route};
use crate::model::{Name, Sourced};
use std::fmt::Write as _;

/// What stands between path and model; a literal blank would end the key in a map file.
const BLANK: &str = r"\x20";

/// The map's entries: regular expression → backend. The first that matches wins.
pub(super) fn entries(routes: &[Route]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    for route in routes {
        // No condition of a kind means any.
        let paths = alternatives(route.path.iter().map(|path| path.value.as_str()));
        let models = alternatives(route.model.iter().map(|model| model.value.as_str()));
        for path in &paths {
            for model in &models {
                entries.push((regex(*path, *model), route.backend.value.to_string()));
            }
        }
    }
    entries
}

/// Each backend that requests of this frontend may go to, once.
pub(super) fn reached(frontend: &Frontend) -> Vec<&Sourced<Name>> {
    let mut reached: Vec<&Sourced<Name>> = Vec::new();
    for name in std::iter::once(&frontend.backend).chain(frontend.routes.iter().map(|route| &route.backend)) {
        if !reached.contains(&name) {
            reached.push(name);
        }
    }
    reached
}

fn alternatives<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Option<&'a str>> {
    let some: Vec<_> = values.map(Some).collect();
    if some.is_empty() { vec![None] } else { some }
}

fn regex(path: Option<&str>, model: Option<&str>) -> String {
    let mut regex = String::from("^");
    path.unwrap_or_default().chars().for_each(|c| push_literal(&mut regex, c));
    if let Some(glob) = model {
        regex.push_str("[^");
        regex.push_str(BLANK);
        regex.push_str("]*");
        regex.push_str(BLANK);
        for c in glob.chars() {
            match c {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                c => push_literal(&mut regex, c),
            }
        }
        regex.push('$');
    }
    regex
}

fn push_literal(regex: &mut String, c: char) {
    match c {
        c if c.is_ascii_alphanumeric() || "/_-~%:@=,;!\"'&<>".contains(c) => regex.push(c),
        // Metacharacters; a backslash before any other punctuation means nothing either.
        c if c.is_ascii_punctuation() => regex.extend(['\\', c]),
        // Byte by byte: HAProxy compares bytes.
        c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
            // Writing to a string cannot fail.
            let _ = write!(regex, r"\x{byte:02x}");
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::regex;

    #[test]
    fn prefixes_and_globs_become_exact_expressions() {
        for (path, model, expected) in [
            (Some("/v1/embeddings"), None, "^/v1/embeddings"),
            (None, Some("claude-*"), r"^[^\x20]*\x20claude-.*$"),
            (Some("/v1"), Some("gpt-4.1"), r"^/v1[^\x20]*\x20gpt-4\.1$"),
            (Some("/a+b(c)"), None, r"^/a\+b\(c\)"),
            (Some("/a b"), None, r"^/a\x20b"),
            (None, Some(r"m?[x]^$|{2}\#"), r"^[^\x20]*\x20m.\[x\]\^\$\|\{2\}\\\#$"),
            (None, Some("ü"), r"^[^\x20]*\x20\xc3\xbc$"),
        ] {
            assert_eq!(regex(path, model), expected);
            assert!(!expected.contains(char::is_whitespace));
        }
    }
}
