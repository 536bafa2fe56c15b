//! What a wrong key or a bare word was meant to be, with a line to copy.
//!
//! Pure; never shows a value that may be a secret. Called by `table` and `syntax`.

use super::word::closest;
use crate::config::mask::is_secret_key;
use crate::config::schema::{Default, KeySpec, ROOT, Section, ValueKind};
use crate::model::looks_like_key;
use toml::de::{DeTable, DeValue};

/// How other programs call what has another name here: the section, their words, ours.
const OTHER_NAMES: [(&str, &[&str], &str); 20] = [
    ("", &["backends", "upstream", "upstreams", "pool", "pools", "cluster", "clusters"], "backend"),
    ("", &["frontends", "listen", "listener", "listeners"], "frontend"),
    ("backend.NAME.server.NAME", &["backup"], "tier"),
    (
        "backend.NAME.server.NAME",
        &["address", "addr", "endpoint", "base_url", "baseurl", "uri", "target", "upstream"],
        "url",
    ),
    ("backend.NAME.server.NAME", &["key", "api_key", "apikey", "api_keys", "token", "secret"], "keys"),
    ("backend.NAME.server.NAME", &["ssl"], "tls"),
    ("backend.NAME", &["algorithm", "strategy", "lb"], "balance"),
    ("backend.NAME", &["health", "healthcheck", "health_check", "checks"], "check"),
    ("backend.NAME", &["type", "kind"], "provider"),
    ("frontend.NAME", &["listen", "port", "address", "addresses"], "bind"),
    ("frontend.NAME", &["cert", "certs", "ssl", "tls"], "certificates"),
    ("frontend.NAME", &["default_backend"], "backend"),
    ("frontend.NAME", &["route", "rules"], "routes"),
    ("frontend.NAME.routes", &["paths", "path_beg", "path_prefix", "prefix"], "path"),
    ("frontend.NAME.routes", &["models"], "model"),
    ("frontend.NAME.routes", &["clients", "team", "user", "caller"], "client"),
    ("frontend.NAME.routes", &["plans"], "plan"),
    ("frontend.NAME.routes", &["headers"], "header"),
    ("frontend.NAME.routes", &["to", "target", "use_backend"], "backend"),
    ("backend.NAME.check.http", &["paths", "url", "uri", "endpoint"], "path"),
];

/// Words that mean `true` and `false` elsewhere.
const YES: [&str; 6] = ["yes", "on", "true", "y", "enable", "enabled"];
const NO: [&str; 6] = ["no", "off", "false", "n", "disable", "disabled"];

/// Longest bare word that is shown with its quotes.
const MAX_WORD: usize = 60;

/// The key that was meant: as other programs call it, else the one that is most alike.
pub(super) fn meant(section: &'static Section, name: &str) -> Option<&'static KeySpec> {
    let lower = name.to_ascii_lowercase();
    let other = OTHER_NAMES.iter().find(|(of, names, _)| *of == section.name && names.contains(&lower.as_str()));
    let known = || section.keys.iter().filter(|key| key.not_yet.is_none()).map(|key| key.name);
    let word = other.map(|(_, _, ours)| *ours).or_else(|| closest(name, known()));
    section.key(word?)
}

/// A table to copy, with what it needs alone: `such as { percent = 5 }`.
pub(super) fn smallest(section: &'static Section) -> Option<String> {
    let needed = section.keys.iter().filter(|key| key.default == Default::Required);
    let needed: Vec<_> = needed.map(|key| format!("{} = {}", key.name, key.example)).collect();
    (!needed.is_empty()).then(|| format!("such as {{ {} }}", needed.join(", ")))
}

/// A line to copy: `path = ["/v1/embeddings"]`.
pub(super) fn example(key: &KeySpec) -> Option<String> {
    let value = match (key.kind, key.example, key.default) {
        (
            ValueKind::Table(_)
            | ValueKind::Switch(_)
            | ValueKind::Named(..)
            | ValueKind::NamedBeside(..)
            | ValueKind::Later,
            ..,
        ) => return None,
        (ValueKind::Bool, ..) => "true".to_owned(),
        (_, "", Default::Is(text)) if matches!(key.kind, ValueKind::Integer(..) | ValueKind::Amount(_)) => {
            text.to_owned()
        }
        (_, "", Default::Is(text)) => format!("{text:?}"),
        (_, "", _) => return None,
        (_, example, _) => example.to_owned(),
    };
    Some(format!("{} = {value}", key.name))
}

/// The section that was meant where the operator left out what names belong to: `[backend.chat.two]` for
/// `[backend.chat.server.two]`.
pub(super) fn named_section(section: &Section, path: &str, name: &str, value: &DeValue<'_>) -> Option<String> {
    let DeValue::Table(table) = value else { return None };
    let fits = |inner: &Section, table: &DeTable<'_>| {
        !table.is_empty() && table.keys().all(|key| inner.key(key.get_ref()).is_some())
    };
    let mut fitting = section.keys.iter().filter_map(|key| match key.kind {
        ValueKind::Named(inner, _) if fits(inner, table) => Some(key.name),
        _ => None,
    });
    let (key, None) = (fitting.next()?, fitting.next()) else { return None };
    let whole = if path.is_empty() { format!("{key}.{name}") } else { format!("{path}.{key}.{name}") };
    Some(format!("`{key}.` stands before the name of a {key}: write `[{whole}]`"))
}

/// What belongs elsewhere, although no other section has a key of that very name.
pub(super) fn elsewhere(section: &Section, name: &str) -> Option<&'static str> {
    let is_route = ["path", "paths", "model", "models", "routes"].contains(&name);
    let is_behind = ["backend.NAME", "backend.NAME.server.NAME"].contains(&section.name);
    if name == "clients" && !section.name.is_empty() && section.name != "frontend.NAME.routes" {
        return Some("`clients` is a key of the file itself: put it above the first section");
    }
    if name == "plan" && section.keys.iter().all(|key| key.name == "client") {
        return Some("plans stand in the operator's file, hapilot.toml");
    }
    if is_behind && name.starts_with("model") {
        return Some(
            "what one server calls a model stands in its section: models = { \"gpt-4o\" = \"its-name-for-it\" }; which requests \
             come here is said at the frontend: routes = [{ model = [\"gpt-*\"], backend = \"chat\" }]",
        );
    }
    (is_route && is_behind).then_some(
        "which requests come here is said at the frontend: routes = [{ path = [\"/v1/embeddings\"], backend = \"chat\" }]; \
         a server's own path is part of its `url`",
    )
}

/// What to write where a word stands without quotes.
pub(super) fn bare_word(key: &str, word: &str) -> String {
    let (key, general) = (key.rsplit('.').next().unwrap_or(key).trim(), "write \"…\" around it".to_owned());
    let kinds = kinds_of(&ROOT, key);
    if kinds.is_empty() || is_secret_key(key) {
        return general;
    }
    let lower = word.to_ascii_lowercase();
    if kinds.iter().all(|kind| matches!(kind, ValueKind::Bool)) {
        let value = if NO.contains(&lower.as_str()) { "false" } else { "true" };
        return match YES.contains(&lower.as_str()) || value == "false" {
            true => format!("`{key}` is true or false: write `{key} = {value}`"),
            false => format!("`{key}` is true or false: `{key} = true`"),
        };
    }
    if kinds.iter().all(|kind| matches!(kind, ValueKind::Integer(..) | ValueKind::Amount(_))) {
        let digits: String = word.chars().take_while(|c| c.is_ascii_digit()).take(9).collect();
        return match digits.as_str() {
            "" => format!("`{key}` is a number, without quotes: `{key} = 100`"),
            digits => format!("`{key}` is a number, without unit and quotes: write `{key} = {digits}`"),
        };
    }
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:*%".contains(c));
    match is_plain && word.len() <= MAX_WORD && !looks_like_key(word) {
        true if kinds.iter().all(|kind| matches!(kind, ValueKind::List(..))) => format!("write `{key} = [\"{word}\"]`"),
        true => format!("write `{key} = \"{word}\"`"),
        false => general,
    }
}

/// The kinds that keys of this name have, in whichever section.
fn kinds_of(section: &'static Section, name: &str) -> Vec<ValueKind> {
    let mut kinds = Vec::new();
    for key in section.keys {
        kinds.extend((key.name == name && key.not_yet.is_none()).then_some(key.kind));
        match key.kind {
            ValueKind::Table(inner)
            | ValueKind::Switch(inner)
            | ValueKind::Budget(inner)
            | ValueKind::Named(inner, _)
            | ValueKind::List(&ValueKind::Table(inner), ..) => kinds.extend(kinds_of(inner, name)),
            ValueKind::NamedBeside(inner, _, _, &ValueKind::Named(beside, _)) => {
                kinds.extend(kinds_of(inner, name));
                kinds.extend(kinds_of(beside, name));
            }
            _ => {}
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_becomes_a_line_to_copy_and_no_secret_is_in_it() {
        for (key, word, help) in [
            ("spread", "yes", "`spread` is true or false: write `spread = true`"),
            ("open", "Off", "`open` is true or false: write `open = false`"),
            ("open", "maybe", "`open` is true or false: `open = true`"),
            ("weight", "50%", "`weight` is a number, without unit and quotes: write `weight = 50`"),
            ("weight", "100 // full", "`weight` is a number, without unit and quotes: write `weight = 100`"),
            ("weight", "full", "`weight` is a number, without quotes: `weight = 100`"),
            ("balance", "leastconn", "write `balance = \"leastconn\"`"),
            ("bind", "*:443", "write `bind = [\"*:443\"]`"),
            ("keys", "hunter2", "write \"…\" around it"),
            ("region", "AIzaSyA1b2c3d4e5f6", "write \"…\" around it"),
            ("unheard_of", "word", "write \"…\" around it"),
        ] {
            if key == "bind" {
                // The statistics page has one of its own, which is no list.
                assert!(bare_word(key, word).contains("*:443"));
                continue;
            }
            assert_eq!(bare_word(key, word), help, "{key} = {word}");
        }
    }

    #[test]
    fn every_other_name_leads_to_a_key_that_is_there() {
        fn find(section: &'static Section, name: &str) -> Option<&'static Section> {
            if section.name == name {
                return Some(section);
            }
            section.keys.iter().find_map(|key| match key.kind {
                ValueKind::Table(inner)
                | ValueKind::Switch(inner)
                | ValueKind::Named(inner, _)
                | ValueKind::List(&ValueKind::Table(inner), ..) => find(inner, name),
                _ => None,
            })
        }
        for (of, names, ours) in OTHER_NAMES {
            let section = find(&ROOT, of).unwrap_or_else(|| panic!("no section {of}"));
            assert!(section.key(ours).is_some(), "{of}: {ours}");
            for name in names {
                assert!(section.key(name).is_none(), "{of}: {name} is a key itself");
                assert_eq!(meant(section, name).map(|key| key.name), Some(ours), "{of}: {name}");
            }
        }
    }
}
