//! Anthropic's messages.
//!
//! **Source**: Anthropic, "Streaming Messages".

use super::{Brought, count, has_text, text_in};
use serde_json::Value;

/// Reads an event; its type stands in the data as well.
pub(super) fn event(value: &Value) -> Brought {
    let mut brought = Brought::default();
    match value["type"].as_str().unwrap_or_default() {
        "message_start" => {
            let message = &value["message"];
            brought.model = text_in(message, "model");
            usage(&mut brought, &message["usage"]);
        }
        "content_block_start" => brought.token = is_token(&value["content_block"]),
        "content_block_delta" => brought.token = is_token(&value["delta"]),
        "message_delta" => {
            finish(&mut brought, &value["delta"]);
            usage(&mut brought, &value["usage"]);
        }
        "message_stop" => brought.done = true,
        // It comes as long as the connection lives, whether the model works or not.
        "ping" => brought.idle = true,
        _ => {}
    }
    brought
}

/// Reads a whole message.
pub(super) fn whole(value: &Value) -> Brought {
    let mut brought = Brought {
        token: value["content"].as_array().is_some_and(|blocks| blocks.iter().any(is_token)),
        model: text_in(value, "model"),
        ..Brought::default()
    };
    finish(&mut brought, value);
    usage(&mut brought, &value["usage"]);
    brought
}

fn finish(brought: &mut Brought, holder: &Value) {
    brought.finish = text_in(holder, "stop_reason");
    brought.limited = brought.finish.as_deref() == Some("max_tokens");
}

/// The answer's count grows from event to event; the largest is the last.
fn usage(brought: &mut Brought, usage: &Value) {
    let cached = count(usage, "cache_creation_input_tokens").saturating_add(count(usage, "cache_read_input_tokens"));
    brought.input = count(usage, "input_tokens").saturating_add(cached);
    brought.output = count(usage, "output_tokens");
}

fn is_token(part: &Value) -> bool {
    has_text(part, &["text", "thinking", "partial_json"]) || part["type"] == "tool_use"
}
