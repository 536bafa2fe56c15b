//! OpenAI's completions, and whoever speaks them.

use super::{Brought, count, has_text, text_in};
use serde_json::Value;

/// Reads a chunk (`part` is `delta`) or a whole completion (`message`).
pub(super) fn brought(value: &Value, part: &str) -> Brought {
    let usage = &value["usage"];
    let mut brought = Brought {
        model: text_in(value, "model"),
        input: count(usage, "prompt_tokens"),
        output: count(usage, "completion_tokens"),
        total: count(usage, "total_tokens"),
        ..Brought::default()
    };
    for choice in value["choices"].as_array().into_iter().flatten() {
        brought.token |= has_token(&choice[part]) || has_text(choice, &["text"]);
        if let Some(reason) = choice["finish_reason"].as_str() {
            brought.finish = Some(reason.to_owned());
            brought.limited = reason == "length";
        }
    }
    brought
}

/// Whether a delta or message holds anything that a user would wait for.
fn has_token(delta: &Value) -> bool {
    has_text(delta, &["content", "reasoning_content", "reasoning", "refusal"])
        || delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
}
