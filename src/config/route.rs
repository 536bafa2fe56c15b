//! Which requests go to which backend: one of a frontend's `routes`.

use crate::model::{Name, Sourced};
use std::collections::BTreeMap;

/// One of `routes`. What is given must match, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `path`: prefixes, each beginning with `/`; any of them.
    pub path: Vec<Sourced<String>>,
    /// `model`: globs with `*` and `?` on the request's model; any of them.
    pub model: Vec<Sourced<String>>,
    /// `no_model`: requests without any model, beside those of `model`.
    pub no_model: bool,
    /// `client`: globs on the client's name; any of them.
    pub client: Vec<Sourced<String>>,
    /// `plan`: globs on the plan's name; any of them.
    pub plan: Vec<Sourced<String>>,
    /// `header`: by names in lower case, globs on the one value; any of them.
    pub header: BTreeMap<String, Vec<Sourced<String>>>,
    /// `backend`: where to.
    pub backend: Sourced<Name>,
}

impl Route {
    /// Whether it looks at who asks, or at headers.
    pub fn looks_at_caller(&self) -> bool {
        !self.client.is_empty() || !self.plan.is_empty() || !self.header.is_empty()
    }
}

/// Whether a glob with `*` and `?` fits, in time that is linear in both but for one of the stars at a time.
pub fn is_match(glob: &str, text: &str) -> bool {
    if !glob.contains(['*', '?']) {
        return glob == text;
    }
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(sign) if *sign == '?' || *sign == text[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                // The last star takes one more.
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (at, from) = (behind + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|sign| *sign == '*')
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn globs_fit_what_they_should() {
        for (glob, text, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-*", "gpt-", true),
            ("*-*-mini", "a-b-c-mini", true),
            ("*a*b", "aabab", true),
            ("*a*b", "aaba", false),
            ("mod?le", "modèle", true),
            ("?", "", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(is_match(glob, text), expected, "{glob} {text}");
        }
    }
}
