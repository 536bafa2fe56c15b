//! Anthropic's messages.

use super::{ChatRequest, Dialect};
use serde_json::{Value, json};

fn stop_reason(chat: &ChatRequest) -> &'static str {
    if chat.limited { "max_tokens" } else { "end_turn" }
}

pub(super) fn whole(chat: &ChatRequest, text: &str) -> Value {
    let content = if text.is_empty() { json!([]) } else { json!([{"type": "text", "text": text}]) };
    json!({
        "id": "msg_mock", "type": "message", "role": "assistant", "model": chat.model, "content": content,
        "stop_reason": stop_reason(chat), "stop_sequence": null,
        "usage": {"input_tokens": chat.prompt_tokens - chat.cached_tokens, "cache_read_input_tokens": chat.cached_tokens, "output_tokens": chat.tokens},
    })
}

/// The type stands in the event's name and in its data.
fn event(data: &Value) -> Vec<u8> {
    Dialect::Anthropic.event(data["type"].as_str().unwrap_or_default(), data.to_string().as_bytes())
}

pub(super) fn begin(chat: &ChatRequest) -> Vec<u8> {
    let message = json!({
        "id": "msg_mock", "type": "message", "role": "assistant", "model": chat.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": chat.prompt_tokens - chat.cached_tokens, "cache_read_input_tokens": chat.cached_tokens, "output_tokens": 1},
    });
    [
        event(&json!({"type": "message_start", "message": message})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        event(&json!({"type": "ping"})),
    ]
    .concat()
}

pub(super) fn token(word: &str) -> Vec<u8> {
    event(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}))
}

pub(super) fn end(chat: &ChatRequest) -> Vec<u8> {
    [
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(&json!({
            "type": "message_delta", "delta": {"stop_reason": stop_reason(chat), "stop_sequence": null},
            "usage": {"output_tokens": chat.tokens},
        })),
        event(&json!({"type": "message_stop"})),
    ]
    .concat()
}
