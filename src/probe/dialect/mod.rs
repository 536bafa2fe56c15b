//! How each dialect spells a completion: the body of the request, and what an event of the answer brings. Pure.

mod anthropic;
mod bedrock;
mod gemini;
mod openai;

use super::asking::bad;
use super::classify::{ProbeVerdict, error_in};
use crate::config::ChatProbe;
use crate::model::{ChatApi, Dialect};
use serde_json::{Value, json};

/// What is asked: an answer of one word.
const PROMPT: &str = "Reply with the single word: ok";

/// What one event, or a whole completion, brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Brought {
    /// Something that a user would wait for.
    pub(super) token: bool,
    /// A sign of life that is no progress.
    pub(super) idle: bool,
    /// The end of the stream.
    pub(super) done: bool,
    /// Why the answer ended, in the provider's words.
    pub(super) finish: Option<String>,
    /// The answer ended at the limit of tokens.
    pub(super) limited: bool,
    /// Which model answers.
    pub(super) model: Option<String>,
    /// Tokens of the question, of the answer, of both, where they are told.
    pub(super) input: u64,
    /// See `input`.
    pub(super) output: u64,
    /// See `input`.
    pub(super) total: u64,
}

/// Reads an event of this name and data.
pub(super) fn event(dialect: Dialect, name: &str, value: &Value) -> Result<Brought, ProbeVerdict> {
    sound(value)?;
    Ok(match dialect {
        Dialect::OpenAi => openai::brought(value, "delta"),
        Dialect::Anthropic => anthropic::event(value),
        Dialect::Gemini => gemini::brought(value)?,
        Dialect::Bedrock => bedrock::event(name, value),
    })
}

/// Reads a completion that was not streamed although we asked for it; some servers know no streams.
pub(super) fn whole(dialect: Dialect, value: &Value) -> Result<Brought, ProbeVerdict> {
    sound(value)?;
    let mut brought = match dialect {
        Dialect::OpenAi => openai::brought(value, "message"),
        Dialect::Anthropic => anthropic::whole(value),
        // A list of chunks, where nobody asked for events.
        Dialect::Gemini => gemini::brought(value.get(0).unwrap_or(value))?,
        Dialect::Bedrock => bedrock::whole(value),
    };
    brought.done = true;
    Ok(brought)
}

fn sound(value: &Value) -> Result<(), ProbeVerdict> {
    match error_in(value) {
        Some(message) => Err(bad(format!("an error inside an answer with status 200: {message}"))),
        None if !value.is_object() && !value.is_array() => Err(bad("a completion is a JSON object")),
        None => Ok(()),
    }
}

/// How a server wants to be asked, where there is more than one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    dialect: Dialect,
    limit: String,
    /// OpenAI: asks for the usage in the stream. Gemini: asks for no thoughts. Not everybody takes it.
    has_option: bool,
}

impl Spelling {
    /// The one to begin with.
    pub(super) fn of(api: &ChatApi) -> Self {
        Self { dialect: api.dialect, limit: api.limit.clone(), has_option: true }
    }

    /// Another one, where a refusal (400 or 422) complains about this one.
    pub(super) fn instead(&self, refusal: &str) -> Option<Self> {
        let option: &[&str] = match self.dialect {
            Dialect::OpenAi => &["stream_options"],
            Dialect::Gemini => &["thinking", "Thinking", "Budget"],
            Dialect::Anthropic | Dialect::Bedrock => &[],
        };
        if self.has_option && option.iter().any(|word| refusal.contains(word)) {
            return Some(Self { has_option: false, ..self.clone() });
        }
        let other = match self.limit.as_str() {
            "max_tokens" => "max_completion_tokens",
            "max_completion_tokens" => "max_tokens",
            _ => return None,
        };
        // Each name holds the other's only in the sense of a message that names both, which is a complaint too.
        let complains = self.dialect == Dialect::OpenAi && refusal.contains(self.limit.as_str());
        complains.then(|| Self { limit: other.to_owned(), ..self.clone() })
    }

    /// The body of the request.
    pub(super) fn body(&self, probe: &ChatProbe) -> String {
        let message = json!([{"role": "user", "content": PROMPT}]);
        let mut body = match self.dialect {
            Dialect::OpenAi => json!({"model": probe.model, "messages": message, "stream": true}),
            Dialect::Anthropic => json!({"model": probe.model, "messages": message, "stream": true}),
            Dialect::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}),
            Dialect::Bedrock => json!({"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}),
        };
        let limits = match self.dialect {
            Dialect::OpenAi | Dialect::Anthropic => &mut body,
            Dialect::Gemini => &mut body["generationConfig"],
            // Unset, it would reserve the model's maximum.
            Dialect::Bedrock => &mut body["inferenceConfig"],
        };
        limits[&self.limit] = json!(probe.max_tokens);
        match self.dialect {
            Dialect::OpenAi if self.has_option => body["stream_options"] = json!({"include_usage": true}),
            Dialect::Gemini if self.has_option => {
                body["generationConfig"]["thinkingConfig"] = json!({"thinkingBudget": 0});
            }
            _ => {}
        }
        body.to_string()
    }

    /// What it answers in, as `Accept` has it.
    pub(super) fn accept(&self) -> &'static str {
        match self.dialect {
            Dialect::Bedrock => "application/vnd.amazon.eventstream",
            Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini => "text/event-stream",
        }
    }
}

/// A number that a provider tells, or none.
fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

fn text_in(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn has_text(value: &Value, names: &[&str]) -> bool {
    names.iter().any(|name| value[*name].as_str().is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile;
    use crate::model::Provider;
    use std::time::Duration;

    fn spelling(provider: Provider) -> Spelling {
        Spelling::of(profile(provider).chat.as_ref().unwrap())
    }

    #[test]
    fn a_refused_parameter_is_spelt_the_other_way_once() {
        let first = spelling(Provider::OpenAi);
        let second = first.instead(r#"{"detail":[{"loc":["body","max_completion_tokens"],"msg":"Extra inputs"}]}"#);
        assert_eq!(second.map(|d| d.limit).as_deref(), Some("max_tokens"));
        assert_eq!(first.instead("messages is missing"), None);
        assert!(!first.instead("unknown field stream_options").unwrap().has_option);
        let thinking = "Budget 0 is invalid. This model only works in thinking mode.";
        let instead = spelling(Provider::Gemini).instead(thinking).unwrap();
        assert!(!instead.has_option && instead.instead(thinking).is_none());
        assert_eq!(spelling(Provider::Anthropic).instead("max_tokens: must be at least 1"), None);
    }

    #[test]
    fn every_dialect_limits_the_answer_and_asks_for_no_thoughts() {
        let probe = ChatProbe {
            model: "m".into(),
            every: Duration::ZERO,
            max_tokens: 16,
            first_token_soft: Duration::ZERO,
            first_token: Duration::ZERO,
            stall: Duration::ZERO,
            total: Duration::ZERO,
            budget: Default::default(),
        };
        for (provider, pointer) in [
            (Provider::OpenAi, "/max_completion_tokens"),
            (Provider::Vllm, "/max_tokens"),
            (Provider::Azure, "/max_tokens"),
            (Provider::Anthropic, "/max_tokens"),
            (Provider::Gemini, "/generationConfig/maxOutputTokens"),
            (Provider::Bedrock, "/inferenceConfig/maxTokens"),
        ] {
            let body: Value = serde_json::from_str(&spelling(provider).body(&probe)).unwrap();
            assert_eq!(body.pointer(pointer), Some(&json!(16)), "{provider}: {body}");
        }
    }
}
