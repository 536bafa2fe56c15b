//! Gemini's generated content.
//!
//! **Source**: Gemini API, `GenerateContentResponse`.

use super::{Brought, count, has_text, text_in};
use crate::probe::asking::bad;
use crate::probe::classify::ProbeVerdict;
use serde_json::Value;

/// Reads a chunk or a whole answer: they look alike. The stream has no sign of its end but the last reason.
pub(super) fn brought(value: &Value) -> Result<Brought, ProbeVerdict> {
    if let Some(reason) = value["promptFeedback"]["blockReason"].as_str() {
        return Err(bad(format!("the question was blocked: {reason}")));
    }
    let usage = &value["usageMetadata"];
    let mut brought = Brought {
        model: text_in(value, "modelVersion"),
        input: count(usage, "promptTokenCount"),
        output: count(usage, "candidatesTokenCount").saturating_add(count(usage, "thoughtsTokenCount")),
        total: count(usage, "totalTokenCount"),
        ..Brought::default()
    };
    for candidate in value["candidates"].as_array().into_iter().flatten() {
        let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
        brought.token |= { parts }.any(|part| has_text(part, &["text"]) || part["functionCall"].is_object());
        if let Some(reason) = text_in(candidate, "finishReason") {
            brought.limited = reason == "MAX_TOKENS";
            brought.finish = Some(reason);
        }
    }
    Ok(brought)
}
