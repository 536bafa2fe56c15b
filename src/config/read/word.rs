//! A word of the operator's that does not fit: what it was meant to be, where it belongs, how a message shows it.
//!
//! Pure. Called by `table` and `field`, and by `cross` and `provider`, which look names up.

use crate::config::schema::{ROOT, Section, ValueKind};
use crate::model::Name;

/// How alike two words must be for "did you mean" (Jaro-Winkler; 1 is equal).
const ALIKE: f64 = 0.8;

/// The most alike of some words.
pub(super) fn closest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    words
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A name as a message may show it: short, on one line.
pub(super) fn printable(name: &str) -> String {
    let shown: String = name.chars().take(Name::MAX).flat_map(char::escape_debug).collect();
    if name.chars().count() > Name::MAX { format!("{shown}…") } else { shown }
}

/// The one section that has a key of this name, if there is one.
pub(super) fn sections_with(name: &str) -> Option<(&'static str, ValueKind)> {
    fn search(section: &'static Section, name: &str, found: &mut Vec<(&'static str, ValueKind)>) {
        for key in section.keys {
            if key.name == name && !section.name.is_empty() {
                found.push((section.name, key.kind));
            }
            match key.kind {
                ValueKind::Table(inner)
                | ValueKind::Switch(inner)
                | ValueKind::Named(inner, _)
                | ValueKind::Budget(inner)
                | ValueKind::List(&ValueKind::Table(inner), ..) => search(inner, name, found),
                ValueKind::NamedBeside(inner, _, _, &ValueKind::Named(beside, _)) => {
                    search(inner, name, found);
                    search(beside, name, found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    search(&ROOT, name, &mut found);
    // A section is meant rather than a key that has its name.
    let is_section = |(_, kind): &&(&str, ValueKind)| matches!(kind, ValueKind::Named(..));
    match (&found[..], found.iter().find(is_section)) {
        ([section], _) => Some(*section),
        (_, Some(section)) => Some(*section),
        _ => None,
    }
}
