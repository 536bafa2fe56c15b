//! The schema as JSON Schema, for editors (Taplo, Even Better TOML).
//!
//! Says a little less than the reader: what JSON Schema cannot say about durations, for example, stays unsaid.
//!
//! **Source**: JSON Schema, draft 2020-12.

use super::{Default, KeySpec, ROOT, Section, ValueKind};
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

fn property(key: &KeySpec) -> Value {
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
pub(super) fn example(key: &KeySpec) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(&format!("x = {}", key.example)).ok()?;
    table.get("x").cloned()
}

fn default(kind: &ValueKind, text: &str) -> Value {
    match kind {
        ValueKind::Integer(..) => text.parse::<i64>().expect("the schema's defaults are right").into(),
        ValueKind::Bool => (text == "true").into(),
        _ => text.into(),
    }
}

fn kind(kind: &ValueKind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        ValueKind::Text(max) => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        ValueKind::Word(max) => json!({ "type": "string", "pattern": "^\\S*$", "maxLength": max }),
        ValueKind::Account => text("^[A-Za-z0-9_.-]{0,32}$"),
        ValueKind::DnsName => text("^[A-Za-z0-9_.-]{1,253}$"),
        ValueKind::HostHeader => text("^[A-Za-z0-9_.:\\[\\]-]{1,253}$"),
        ValueKind::Name | ValueKind::BackendName => text(NAME),
        ValueKind::Path | ValueKind::Socket | ValueKind::UrlPath => text("^/"),
        ValueKind::ApiPath => text("^/[^\\s#]*$"),
        ValueKind::ApiRoot => text("^(/[^\\s?#]*[^\\s?#/])?$"),
        ValueKind::HeaderName => text(HEADER),
        ValueKind::HeaderText(max) => json!({ "type": "string", "pattern": "^[ -~]*$", "maxLength": max }),
        ValueKind::Pattern => json!({ "type": "string", "minLength": 1, "format": "regex" }),
        ValueKind::Provider => json!({ "anyOf": [{ "enum": Provider::NAMES }, text(NAME)] }),
        ValueKind::Program => text("^(/|[^/]+$)"),
        ValueKind::Url => text("^https?://[^@?#]+$"),
        ValueKind::Bind => text("^(\\*|[0-9.]*|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"),
        ValueKind::Secret => text("^(env:[A-Za-z0-9_.-]+|credential:[A-Za-z0-9_.-]+|file:/.*)$"),
        ValueKind::Rate => text(RATE),
        ValueKind::Rates => {
            json!({ "anyOf": [text(RATE), { "type": "array", "items": text(RATE), "minItems": 1, "maxItems": 2 }] })
        }
        ValueKind::Sha256 => text("^[0-9A-Fa-f]{64}$"),
        ValueKind::Fingerprints(max) => {
            json!({ "anyOf": [text(FINGERPRINT), { "type": "array", "items": text(FINGERPRINT), "minItems": 1, "maxItems": max }] })
        }
        ValueKind::Affinity => text("^(prompt|client|header:[A-Za-z0-9_-]{1,64})$"),
        ValueKind::Time => json!({ "type": "string", "format": "date-time" }),
        ValueKind::Duration(..) => text("^([0-9]+(ms|s|m|h|d))+$"),
        ValueKind::Size(..) => text("^[0-9]+(B|KiB|MiB|GiB)$"),
        ValueKind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        ValueKind::Amount(max) => json!({ "type": "number", "minimum": 0, "maximum": max }),
        ValueKind::Limit => json!({ "anyOf": [{ "type": "number", "minimum": 0 }, text("^([0-9]+(ms|s|m|h|d))+$")] }),
        ValueKind::Budget(inner) => {
            json!({ "anyOf": [section(inner), text("^[1-9][0-9]* (tokens|probes)/day$")] })
        }
        ValueKind::Bool => json!({ "type": "boolean" }),
        ValueKind::Choice(words, _) => json!({ "type": "string", "enum": words }),
        ValueKind::Raw => text("^[^\\r\\n\\u0000]*$"),
        ValueKind::List(of, min, max) => {
            json!({ "type": "array", "items": self::kind(of), "minItems": min, "maxItems": max })
        }
        ValueKind::Table(inner) => section(inner),
        ValueKind::Switch(inner) => json!({ "anyOf": [section(inner), { "const": false }] }),
        ValueKind::Named(inner, max) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": section(inner),
        }),
        ValueKind::NamedBeside(inner, max, name, beside) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max + 1,
            "propertyNames": { "pattern": NAME },
            "properties": { *name: self::kind(beside) },
            "additionalProperties": section(inner),
        }),
        ValueKind::Measure => json!({ "type": ["number", "string"] }),
        ValueKind::Interface => text("^[A-Za-z0-9_.-]{1,15}$"),
        ValueKind::InterfaceAddress => text("^[0-9A-Fa-f:.]+/[0-9]{1,3}$"),
        ValueKind::Ip => text("^[0-9A-Fa-f:.]+$"),
        ValueKind::ByNode(of, max) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": self::kind(of),
        }),
        ValueKind::Headers(of, max) => json!({
            "type": "object",
            "maxProperties": max,
            "propertyNames": { "pattern": HEADER },
            "additionalProperties": self::kind(of),
        }),
        ValueKind::Pointers(max) => {
            json!({ "type": "object", "maxProperties": max, "propertyNames": { "pattern": "^(/|$)" } })
        }
        ValueKind::Models(max) => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": max,
            "propertyNames": { "pattern": MODEL },
            "additionalProperties": text(MODEL),
        }),
        ValueKind::Later => json!({ "not": {} }),
    }
}

/// As HAProxy says it, or as `openssl x509 -fingerprint` does.
const FINGERPRINT: &str = "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$";
const RATE: &str = "^[0-9]+/([0-9]+(ms|s|m|h|d))+$";
const HEADER: &str = "^[A-Za-z0-9_-]{1,64}$";
const MODEL: &str = "^[!#-\\[\\]-~]{1,256}$";
const NAME: &str = "^[A-Za-z0-9_.-]{1,64}$";
