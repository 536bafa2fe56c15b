//! The schema as JSON Schema, for editors (Taplo, Even Better TOML).
//!
//! Says a little less than the reader: what JSON Schema cannot say about durations, for example, stays unsaid.
//!
//! **Source**: JSON Schema, draft 2020-12.

use super::{Default, Key, Kind, ROOT, Section};
use crate::model::Provider;
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of the operator's file.
pub fn json_schema() -> Value {
    let mut schema = section(&ROOT);
    let root = schema.as_object_mut().expect("a section is an object");
    root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("title".into(), "hapilot".into());
    schema
}

fn section(section: &Section) -> Value {
    let known = || section.keys.iter().filter(|key| key.not_yet.is_none());
    let properties: Map<String, Value> = known().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = known().filter(|key| key.default == Default::Required).map(|key| key.name).collect();
    let mut out = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        out["required"] = required.into();
    }
    out
}

fn property(key: &Key) -> Value {
    let mut out = kind(&key.kind);
    let default = match key.default {
        Default::Is(text) => {
            out["default"] = default(&key.kind, text);
            format!(". Default: {}", if text.is_empty() { "empty" } else { text })
        }
        Default::Says(words) => format!(". Default: {words}"),
        Default::Required => ". Required".to_owned(),
        Default::None => String::new(),
    };
    out["description"] = format!("{}{default}", key.doc).into();
    if let Some(example) = example(key) {
        out["examples"] = vec![example].into();
    }
    out
}

/// The example as JSON; none where the key has none.
pub(super) fn example(key: &Key) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(&format!("x = {}", key.example)).ok()?;
    table.get("x").cloned()
}

fn default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Integer(..) => text.parse::<i64>().expect("the schema's defaults are right").into(),
        Kind::Bool => (text == "true").into(),
        _ => text.into(),
    }
}

fn kind(kind: &Kind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Kind::Text(max) => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        Kind::Word(max) => json!({ "type": "string", "pattern": "^\\S*$", "maxLength": max }),
        Kind::Account => text("^[A-Za-z0-9_.-]{0,32}$"),
        Kind::DnsName => text("^[A-Za-z0-9_.-]{1,253}$"),
        Kind::HostHeader => text("^[A-Za-z0-9_.:\\[\\]-]{1,253}$"),
        Kind::Name | Kind::BackendName => text(NAME),
        Kind::Path | Kind::Socket | Kind::UrlPath => text("^/"),
        Kind::ApiPath => text("^/[^\\s#]*$"),
        Kind::ApiRoot => text("^(/[^\\s?#]*[^\\s?#/])?$"),
        Kind::HeaderName => text(HEADER),
        Kind::HeaderText(max) => json!({ "type": "string", "pattern": "^[ -~]*$", "maxLength": max }),
        Kind::Pattern => json!({ "type": "string", "minLength": 1, "format": "regex" }),
        Kind::Provider => json!({ "anyOf": [{ "enum": Provider::NAMES }, text(NAME)] }),
        Kind::Program => text("^(/|[^/]+$)"),
        Kind::Url => text("^https?://[^@?#]+$"),
        Kind::Bind => text("^(\\*|[0-9.]*|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"),
        Kind::Secret => text("^(env:[A-Za-z0-9_.-]+|credential:[A-Za-z0-9_.-]+|file:/.*)$"),
        Kind::Rate => text("^[0-9]+/([0-9]+(ms|s|m|h|d))+$"),
        Kind::Duration(..) => text("^([0-9]+(ms|s|m|h|d))+$"),
        Kind::Size(..) => text("^[0-9]+(B|KiB|MiB|GiB)$"),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Amount(max) => json!({ "type": "number", "minimum": 0, "maximum": max }),
        Kind::Budget(inner) => {
            json!({ "anyOf": [section(inner), text("^[1-9][0-9]* (tokens|probes)/day$")] })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Choice(words, _) => json!({ "type": "string", "enum": words }),
        Kind::Raw => text("^[^\\r\\n\\u0000]*$"),
        Kind::List(of, min, max) => {
            json!({ "type": "array", "items": self::kind(of), "minItems": min, "maxItems": max })
        }
        Kind::Table(inner) => section(inner),
        Kind::Switch(inner) => json!({ "anyOf": [section(inner), { "const": false }] }),
        Kind::Named(inner, max) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": section(inner),
        }),
        Kind::Interface => text("^[A-Za-z0-9_.-]{1,15}$"),
        Kind::InterfaceAddress => text("^[0-9A-Fa-f:.]+/[0-9]{1,3}$"),
        Kind::Ip => text("^[0-9A-Fa-f:.]+$"),
        Kind::ByNode(of, max) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": self::kind(of),
        }),
        Kind::Headers(of, max) => json!({
            "type": "object",
            "maxProperties": max,
            "propertyNames": { "pattern": HEADER },
            "additionalProperties": self::kind(of),
        }),
        Kind::Pointers(max) => {
            json!({ "type": "object", "maxProperties": max, "propertyNames": { "pattern": "^(/|$)" } })
        }
        Kind::Later => json!({ "not": {} }),
    }
}

const HEADER: &str = "^[A-Za-z0-9_-]{1,64}$";
const NAME: &str = "^[A-Za-z0-9_.-]{1,64}$";
