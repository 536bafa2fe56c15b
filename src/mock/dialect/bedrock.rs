//! Bedrock's Converse, and the frames of its streams.
//!
//! **Source**: Smithy, "Amazon Event Stream Specification".

use super::{ChatRequest, Dialect};
use serde_json::{Value, json};

fn stop_reason(chat: &ChatRequest) -> &'static str {
    if chat.limited { "max_tokens" } else { "end_turn" }
}

fn usage(chat: &ChatRequest) -> Value {
    json!({"inputTokens": chat.prompt_tokens, "outputTokens": chat.tokens, "totalTokens": chat.total_tokens()})
}

pub(super) fn whole(chat: &ChatRequest, text: &str) -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": stop_reason(chat), "usage": usage(chat), "metrics": {"latencyMs": 1},
    })
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    Dialect::Bedrock.event(name, data.to_string().as_bytes())
}

pub(super) fn begin() -> Vec<u8> {
    event("messageStart", &json!({"role": "assistant"}))
}

pub(super) fn token(word: &str) -> Vec<u8> {
    event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": word}}))
}

pub(super) fn end(chat: &ChatRequest) -> Vec<u8> {
    [
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("messageStop", &json!({"stopReason": stop_reason(chat)})),
        event("metadata", &json!({"usage": usage(chat), "metrics": {"latencyMs": 1}})),
    ]
    .concat()
}

/// A frame with headers of text.
pub(super) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    // Names and values are short words of ours, payloads far below 4 GiB.
    let short = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    let long = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(short(name.len()));
        block.extend_from_slice(name.as_bytes());
        // 7 is text, its length in two bytes.
        block.extend_from_slice(&[7, 0, short(value.len())]);
        block.extend_from_slice(value.as_bytes());
    }
    let mut bytes = [long(16 + block.len() + payload.len()), long(block.len())].concat();
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(&block);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes
}

/// **Source**: ISO 3309, the polynomial reversed.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_the_vendors_clients_compare() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // The specification's own example: no header, no payload.
        let empty = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(frame(&[], b""), empty);
    }
}
