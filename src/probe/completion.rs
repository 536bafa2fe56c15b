//! What makes a completion valid, streamed or whole. Pure: fed with events, never with bytes or time.

use super::classify::{Verdict, error_in, parse_json};
use super::sse::Event;
use crate::config::ChatProbe;
use crate::health::Outcome;
use crate::model::Provider;
use serde_json::{Value, json};

/// What an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It brought a token.
    Token,
    /// It brought something else of the protocol.
    Other,
    /// It was the last one.
    Done,
}

/// What is known of a completion so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Completion {
    events: u64,
    has_token: bool,
    finish_reason: Option<String>,
    done: bool,
    model: Option<String>,
    completion_tokens: u64,
    /// All tokens that the server says it charged.
    pub(super) tokens: u64,
}

impl Completion {
    /// Takes one event of the stream.
    pub(super) fn event(&mut self, event: &Event) -> Result<Progress, Verdict> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.done = true;
            return Ok(Progress::Done);
        }
        if event.name == "error" {
            return Err(bad(format!("an error event inside the stream: {data}")));
        }
        if data.is_empty() {
            return Ok(Progress::Other);
        }
        let value = parse_json(data.as_bytes()).map_err(|why| bad(format!("an event of the stream is {why}")))?;
        self.events += 1;
        self.take(&value, "delta")
    }

    /// Takes a completion that was not streamed although we asked for it; some servers know no streams.
    pub(super) fn whole(&mut self, body: &[u8]) -> Result<(), Verdict> {
        let value = parse_json(body).map_err(|why| bad(format!("the completion is {why}")))?;
        self.events += 1;
        self.take(&value, "message")?;
        self.done = true;
        Ok(())
    }

    fn take(&mut self, value: &Value, part: &str) -> Result<Progress, Verdict> {
        if let Some(message) = error_in(value) {
            return Err(bad(format!("an error inside an answer with status 200: {message}")));
        }
        if !value.is_object() {
            return Err(bad("a completion is a JSON object"));
        }
        if let Some(model) = value["model"].as_str().filter(|model| !model.is_empty()) {
            self.model = Some(model.to_owned());
        }
        let usage = &value["usage"];
        let count = |name: &str| usage[name].as_u64().unwrap_or(0);
        self.completion_tokens = self.completion_tokens.max(count("completion_tokens"));
        let sum = count("prompt_tokens").saturating_add(count("completion_tokens"));
        self.tokens = self.tokens.max(count("total_tokens")).max(sum);
        let mut token = false;
        for choice in value["choices"].as_array().into_iter().flatten() {
            token |= has_token(&choice[part]) || choice["text"].as_str().is_some_and(|text| !text.is_empty());
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish_reason = Some(reason.to_owned());
            }
        }
        self.has_token |= token;
        Ok(if token { Progress::Token } else { Progress::Other })
    }

    /// Judges the completion after its end.
    pub(super) fn judge(&self, probe: &ChatProbe, provider: Provider) -> Result<String, Verdict> {
        if self.events == 0 {
            return Err(bad("the stream has no event"));
        }
        if !self.done && self.finish_reason.is_none() {
            return Err(bad("the stream is cut: neither [DONE] nor a finish reason"));
        }
        if let Some(model) = &self.model
            && names_models(provider)
            && !same_model(&probe.model, model)
        {
            return Err(bad(format!("another model answered: {model}, not {}", probe.model)));
        }
        if self.has_token {
            return Ok(String::new());
        }
        // A reasoning model may spend the whole limit on thoughts that it does not show: it works.
        if self.finish_reason.as_deref() == Some("length") && self.completion_tokens > 0 {
            return Ok("all tokens went into hidden reasoning".into());
        }
        Err(bad("the completion is empty"))
    }
}

fn bad(detail: impl Into<String>) -> Verdict {
    Verdict::new(Outcome::BadContent, detail)
}

/// Whether a delta or message holds anything that a user would wait for.
fn has_token(delta: &Value) -> bool {
    ["content", "reasoning_content", "reasoning", "refusal"]
        .into_iter()
        .any(|name| delta[name].as_str().is_some_and(|text| !text.is_empty()))
        || delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
}

/// llama.cpp and TGI serve one model under any name.
fn names_models(provider: Provider) -> bool {
    !matches!(provider, Provider::LlamaCpp | Provider::Tgi | Provider::Http)
}

/// Whether an answer's model can be the one that was asked for: an alias is answered by a dated name
/// (`gpt-4o-mini-2024-07-18`), a bare name by one with its owner or tag (`org/name`, `name:latest`).
fn same_model(asked: &str, answered: &str) -> bool {
    let stem = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        name.trim_end_matches("latest").trim_end_matches(['-', ':']).to_owned()
    };
    let (asked, answered) = (stem(asked), stem(answered));
    asked.starts_with(&answered) || answered.starts_with(&asked)
}

/// How a server wants to be asked; most take one of two spellings of the token limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    limit: &'static str,
    stream_options: bool,
}

impl Dialect {
    /// The dialect to begin with.
    pub(super) fn of(provider: Provider) -> Self {
        let limit = if provider == Provider::OpenAi { "max_completion_tokens" } else { "max_tokens" };
        Self { limit, stream_options: true }
    }

    /// Another dialect, where a refusal (400 or 422) complains about this one.
    pub(super) fn instead(self, refusal: &str) -> Option<Self> {
        if self.stream_options && refusal.contains("stream_options") {
            return Some(Self { stream_options: false, ..self });
        }
        let other = if self.limit == "max_tokens" { "max_completion_tokens" } else { "max_tokens" };
        // Each name holds the other's only in the sense of a message that names both, which is a complaint too.
        refusal.contains(self.limit).then_some(Self { limit: other, ..self })
    }

    /// The body of the request.
    pub(super) fn body(self, probe: &ChatProbe) -> String {
        let mut body = json!({
            "model": probe.model,
            "messages": [{"role": "user", "content": "Reply with the single word: ok"}],
            "stream": true,
        });
        body[self.limit] = json!(probe.max_tokens);
        if self.stream_options {
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_alias_is_the_same_model_and_a_stranger_is_not() {
        for (asked, answered, same) in [
            ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", true),
            ("mistral-small-latest", "mistral-small-2409", true),
            ("llama3", "llama3:latest", true),
            ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B", true),
            ("gpt-4o-mini", "another-model", false),
            ("claude-3", "gpt-4o", false),
        ] {
            assert_eq!(same_model(asked, answered), same, "{asked} {answered}");
        }
    }

    fn judge(events: &[&str]) -> Outcome {
        let probe = ChatProbe {
            model: "m".into(),
            every: Duration::from_secs(1),
            max_tokens: 16,
            first_token_soft: Duration::from_secs(1),
            first_token: Duration::from_secs(1),
            stall: Duration::from_secs(1),
            total: Duration::from_secs(1),
            budget: Default::default(),
        };
        let mut completion = Completion::default();
        for data in events {
            match completion.event(&Event { name: String::new(), data: (*data).to_owned() }) {
                Ok(Progress::Done) => break,
                Ok(_) => {}
                Err(verdict) => return verdict.outcome,
            }
        }
        completion.judge(&probe, Provider::OpenAi).map_or_else(|verdict| verdict.outcome, |_| Outcome::Ok)
    }

    #[test]
    fn a_completion_is_valid_when_it_says_something_and_ends() {
        let token = r#"{"model":"m","choices":[{"delta":{"content":"ok"},"finish_reason":null}]}"#;
        let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
        let call = r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#;
        let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let limit = r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":16,"total_tokens":24}}"#;
        for (events, expected) in [
            (&[token, stop, "[DONE]"][..], Outcome::Ok),
            (&[token, stop], Outcome::Ok),
            (&[token, "[DONE]"], Outcome::Ok),
            (&[thought, limit, "[DONE]"], Outcome::Ok),
            (&[call, stop, "[DONE]"], Outcome::Ok),
            // A reasoning model that hides its thoughts has spent the limit: alive.
            (&[limit, usage, "[DONE]"], Outcome::Ok),
            (&[limit, "[DONE]"], Outcome::BadContent),
            (&[stop, usage, "[DONE]"], Outcome::BadContent),
            (&[token], Outcome::BadContent),
            (&["[DONE]"], Outcome::BadContent),
            (&[], Outcome::BadContent),
            (&[token, r#"{"error":{"message":"died"}}"#], Outcome::BadContent),
            (&[r#"{"error":null,"choices":[{"delta":{"content":"ok"}}]}"#, "[DONE]"], Outcome::Ok),
            (&["7", "[DONE]"], Outcome::BadContent),
        ] {
            assert_eq!(judge(events), expected, "{events:?}");
        }
    }

    #[test]
    fn a_refused_parameter_is_spelt_the_other_way_once() {
        let first = Dialect::of(Provider::OpenAi);
        let second = first.instead(r#"{"detail":[{"loc":["body","max_completion_tokens"],"msg":"Extra inputs"}]}"#);
        assert_eq!(second.map(|d| d.limit), Some("max_tokens"));
        assert_eq!(first.instead("messages is missing"), None);
        assert!(!first.instead("unknown field stream_options").unwrap().stream_options);
    }
}
