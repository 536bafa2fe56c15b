//! Bedrock's Converse.
//!
//! **Source**: Amazon Bedrock, `ConverseStream` and `Converse`.

use super::{Brought, count, has_text, text_in};
use serde_json::Value;

/// Reads an event; its type is the frame's.
pub(super) fn event(name: &str, value: &Value) -> Brought {
    let mut brought = Brought::default();
    match name {
        "contentBlockStart" => brought.token = value["start"]["toolUse"].is_object(),
        "contentBlockDelta" => brought.token = is_token(&value["delta"]),
        "messageStop" => finish(&mut brought, value),
        // The last one, after the message's own end.
        "metadata" => {
            usage(&mut brought, &value["usage"]);
            brought.done = true;
        }
        _ => {}
    }
    brought
}

/// Reads a whole answer.
pub(super) fn whole(value: &Value) -> Brought {
    let mut brought = Brought {
        token: value["output"]["message"]["content"].as_array().is_some_and(|blocks| blocks.iter().any(is_token)),
        ..Brought::default()
    };
    finish(&mut brought, value);
    usage(&mut brought, &value["usage"]);
    brought
}

fn finish(brought: &mut Brought, value: &Value) {
    brought.finish = text_in(value, "stopReason");
    brought.limited = brought.finish.as_deref() == Some("max_tokens");
}

fn usage(brought: &mut Brought, usage: &Value) {
    brought.input = count(usage, "inputTokens");
    brought.output = count(usage, "outputTokens");
    brought.total = count(usage, "totalTokens");
}

fn is_token(part: &Value) -> bool {
    has_text(part, &["text"])
        || has_text(&part["reasoningContent"], &["text"])
        || part["reasoningContent"]["reasoningText"].is_object()
        || part["toolUse"].is_object()
}
