//! Gemini's generated content.

use super::{ChatRequest, Dialect};
use serde_json::{Value, json};

fn chunk(chat: &ChatRequest, text: &str, finish: Option<&str>) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": text}]}});
    if let Some(reason) = finish {
        candidate["finishReason"] = json!(reason);
    }
    json!({"candidates": [candidate], "modelVersion": chat.model})
}

fn finish(chat: &ChatRequest) -> &'static str {
    if chat.limited { "MAX_TOKENS" } else { "STOP" }
}

fn with_usage(chat: &ChatRequest, mut value: Value) -> Value {
    value["usageMetadata"] = json!({
        "promptTokenCount": chat.prompt_tokens, "candidatesTokenCount": chat.tokens,
        "totalTokenCount": chat.total_tokens(),
    });
    value
}

pub(super) fn whole(chat: &ChatRequest, text: &str) -> Value {
    with_usage(chat, chunk(chat, text, Some(finish(chat))))
}

pub(super) fn token(chat: &ChatRequest, word: &str) -> Vec<u8> {
    Dialect::Gemini.event("", chunk(chat, word, None).to_string().as_bytes())
}

pub(super) fn end(chat: &ChatRequest) -> Vec<u8> {
    let last = with_usage(chat, chunk(chat, "", Some(finish(chat))));
    Dialect::Gemini.event("", last.to_string().as_bytes())
}
