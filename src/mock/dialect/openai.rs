//! OpenAI's completions, also Azure's.

use super::{ChatRequest, Dialect};
use crate::mock::config::MockConfig;
use serde_json::{Value, json};

fn finish_reason(chat: &ChatRequest) -> &'static str {
    if chat.limited { "length" } else { "stop" }
}

fn usage(chat: &ChatRequest) -> Value {
    json!({
        "prompt_tokens": chat.prompt_tokens, "completion_tokens": chat.tokens, "total_tokens": chat.total_tokens(),
        "prompt_tokens_details": {"cached_tokens": chat.cached_tokens},
    })
}

pub(super) fn whole(config: &MockConfig, chat: &ChatRequest, text: &str) -> Value {
    json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": chat.model,
        "system_fingerprint": config.name,
        "choices": [{"index": 0, "finish_reason": finish_reason(chat),
                     "message": {"role": "assistant", "content": text}}],
        "usage": usage(chat),
    })
}

/// One chunk of a completion.
fn delta(config: &MockConfig, chat: &ChatRequest, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": chat.model,
        "system_fingerprint": config.name,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
}

fn event(data: &Value) -> Vec<u8> {
    Dialect::OpenAi.event("", data.to_string().as_bytes())
}

pub(super) fn begin(config: &MockConfig, chat: &ChatRequest) -> Vec<u8> {
    event(&delta(config, chat, &json!({"role": "assistant", "content": ""}), None))
}

pub(super) fn token(config: &MockConfig, chat: &ChatRequest, word: &str) -> Vec<u8> {
    event(&delta(config, chat, &json!({"content": word}), None))
}

pub(super) fn end(config: &MockConfig, chat: &ChatRequest) -> Vec<u8> {
    let mut end = event(&delta(config, chat, &json!({}), Some(finish_reason(chat))));
    if chat.include_usage {
        let mut last = delta(config, chat, &json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage(chat);
        end.extend(event(&last));
    }
    end.extend(Dialect::OpenAi.event("", b"[DONE]"));
    end
}
