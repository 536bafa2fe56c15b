//! The schema agrees with itself and with `model`.

use super::json::example;
use super::{Default, KeySpec, ROOT, RefusedChoice, Section, ValueKind, json_schema};
use crate::model::{AdminState, Balance, Dialect, Provider, parse_duration, parse_size};

fn every_section() -> Vec<&'static Section> {
    fn walk(section: &'static Section, all: &mut Vec<&'static Section>) {
        all.push(section);
        for key in section.keys {
            match key.kind {
                ValueKind::Table(inner)
                | ValueKind::Switch(inner)
                | ValueKind::Budget(inner)
                | ValueKind::Named(inner, _)
                | ValueKind::List(&ValueKind::Table(inner), ..) => walk(inner, all),
                ValueKind::NamedBeside(inner, _, _, &ValueKind::Named(beside, _)) => {
                    walk(inner, all);
                    walk(beside, all);
                }
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    walk(&ROOT, &mut all);
    all
}

fn every_key() -> impl Iterator<Item = (&'static Section, &'static KeySpec)> {
    every_section().into_iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

#[test]
fn limits_and_defaults_are_right_and_defaults_lie_within_their_limits() {
    for (section, key) in every_key() {
        let place = format!("{}.{}", section.name, key.name);
        match (key.kind, key.default) {
            (ValueKind::Duration(min, max), default) => {
                let (min, max) = (parse_duration(min).unwrap(), parse_duration(max).unwrap());
                assert!(min < max, "{place}");
                if let Default::Is(text) = default {
                    assert!((min..=max).contains(&parse_duration(text).unwrap()), "{place}");
                }
            }
            (ValueKind::Size(min, max), Default::Is(text)) => {
                let read = |text| parse_size(text).unwrap();
                assert!((read(min)..=read(max)).contains(&read(text)), "{place}");
            }
            (ValueKind::Integer(min, max), Default::Is(text)) => {
                assert!((min..=max).contains(&text.parse().unwrap()), "{place}");
            }
            (ValueKind::Choice(words, _), Default::Is(text)) => assert!(words.contains(&text), "{place}"),
            (ValueKind::List(..) | ValueKind::Table(_) | ValueKind::Named(..), Default::Is(_)) => {
                panic!("{place}: a default in words, please")
            }
            _ => {}
        }
    }
}

#[test]
fn every_key_is_described_once_and_names_are_unique() {
    for section in every_section() {
        assert!(!section.doc.is_empty(), "{}", section.name);
        for (index, key) in section.keys.iter().enumerate() {
            let place = format!("{}.{}", section.name, key.name);
            assert!(!section.keys[..index].iter().any(|other| other.name == key.name), "{place}");
            assert_eq!(key.doc.is_empty(), key.not_yet.is_some(), "{place}");
            assert_eq!(matches!(key.kind, ValueKind::Later), key.not_yet.is_some(), "{place}");
            let scalar = !matches!(
                key.kind,
                ValueKind::Table(_) | ValueKind::Switch(_) | ValueKind::Named(..) | ValueKind::NamedBeside(..)
            );
            if scalar && !key.example.is_empty() {
                assert!(example(key).is_some(), "{place}: the example is not TOML");
            }
        }
    }
}

#[test]
fn choices_are_the_models_words() {
    let words = |section: &str, name: &str| {
        let found = every_key().find(|(s, key)| s.name == section && key.name == name);
        match found.map(|(_, key)| key.kind) {
            Some(ValueKind::Choice(words, refused)) => (words.to_vec(), refused),
            _ => panic!("{section}.{name}"),
        }
    };
    assert_eq!(words("provider.NAME", "like").0, Provider::ALL.map(Provider::as_str));
    assert_eq!(words("provider.NAME.chat", "dialect").0, Dialect::ALL.map(Dialect::as_str));
    assert_eq!(words("backend.NAME", "balance").0, Balance::ALL.map(Balance::as_str));
    let states = [AdminState::Ready, AdminState::Drain, AdminState::Maint].map(AdminState::as_str);
    assert_eq!(words("backend.NAME.server.NAME", "state").0, states);
    assert!(matches!(words("backend.NAME", "balance").1, [("static-rr", RefusedChoice::Never(_))]));
}

#[test]
fn the_json_schema_closes_every_table_and_leaves_out_what_does_not_exist_yet() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["api"]["properties"]["token"], serde_json::Value::Null);
    let backend = &schema["properties"]["backend"]["additionalProperties"]["properties"];
    assert_eq!(backend["retries"]["default"], 2);
    assert_eq!(backend["provider"]["anyOf"][0]["enum"][0], "openai");
    let server = &backend["server"]["additionalProperties"];
    assert_eq!(server["required"], serde_json::json!(["url"]));
    assert_eq!(server["properties"]["price"]["additionalProperties"], false);
}
