//! What makes a completion valid, streamed or whole, in any dialect. Pure: fed with events, never with bytes or time.

use super::asking::bad;
use super::classify::{ProbeVerdict, parse_json};
use super::dialect::{self, Brought};
use super::sse::SseEvent;
use crate::model::{ChatApi, Dialect};

/// What an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It brought a token.
    Token,
    /// It brought something else of the protocol.
    Other,
    /// A sign of life, no more.
    Idle,
    /// It was the last one.
    Done,
}

/// What is known of a completion so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Completion {
    dialect: Dialect,
    events: u64,
    has_token: bool,
    finish: Option<String>,
    limited: bool,
    done: bool,
    model: Option<String>,
    input: u64,
    output: u64,
    total: u64,
}

impl Completion {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, ..Self::default() }
    }

    /// Takes one event of the stream.
    pub(super) fn event(&mut self, event: &SseEvent) -> Result<Progress, ProbeVerdict> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.done = true;
            return Ok(Progress::Done);
        }
        if event.name == "error" {
            return Err(bad(format!("an error event inside the stream: {data}")));
        }
        if data.is_empty() {
            return Ok(Progress::Idle);
        }
        let value = parse_json(data.as_bytes()).map_err(|why| bad(format!("an event of the stream is {why}")))?;
        let brought = dialect::event(self.dialect, &event.name, &value)?;
        Ok(self.take(brought))
    }

    /// Takes a completion that was not streamed although we asked for it.
    pub(super) fn whole(&mut self, body: &[u8]) -> Result<(), ProbeVerdict> {
        let value = parse_json(body).map_err(|why| bad(format!("the completion is {why}")))?;
        let brought = dialect::whole(self.dialect, &value)?;
        self.take(brought);
        Ok(())
    }

    fn take(&mut self, brought: Brought) -> Progress {
        let Brought { token, idle, done, finish, limited, model, input, output, total } = brought;
        self.events += u64::from(!idle);
        self.has_token |= token;
        self.done |= done;
        if finish.is_some() {
            (self.finish, self.limited) = (finish, limited);
        }
        self.model = model.or(self.model.take());
        // Counts come more than once, and grow.
        self.input = self.input.max(input);
        self.output = self.output.max(output);
        self.total = self.total.max(total);
        match () {
            () if done => Progress::Done,
            () if token => Progress::Token,
            () if idle => Progress::Idle,
            () => Progress::Other,
        }
    }

    /// All tokens that the server says it charged.
    pub(super) fn tokens(&self) -> u64 {
        self.total.max(self.input.saturating_add(self.output))
    }

    /// Judges the completion after its end.
    pub(super) fn judge(&self, asked: &str, api: &ChatApi) -> Result<String, ProbeVerdict> {
        if self.events == 0 {
            return Err(bad("the stream has no event"));
        }
        if !self.done && self.finish.is_none() {
            return Err(bad("the stream is cut: neither its end nor a finish reason"));
        }
        if let Some(model) = &self.model
            && api.checks_model
            && !same_model(asked, model)
        {
            return Err(bad(format!("another model answered: {model}, not {asked}")));
        }
        if self.has_token {
            return Ok(String::new());
        }
        // A reasoning model may spend the whole limit on thoughts that it does not show: it works.
        if self.limited && self.output > 0 {
            return Ok("all tokens went into hidden reasoning".into());
        }
        Err(bad(match &self.finish {
            Some(reason) => format!("the completion is empty ({reason})"),
            None => "the completion is empty".to_owned(),
        }))
    }
}

/// Whether an answer's model can be the one that was asked for: an alias is answered by a dated name
/// (`gpt-4o-mini-2024-07-18`, `claude-sonnet-4-20250514` for `claude-sonnet-4-0`), a bare name by one with its owner or
/// tag (`org/name`, `name:latest`).
fn same_model(asked: &str, answered: &str) -> bool {
    let stem = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let name = name.strip_suffix("-0").unwrap_or(&name);
        name.trim_end_matches("latest").trim_end_matches(['-', ':']).to_owned()
    };
    let (asked, answered) = (stem(asked), stem(answered));
    asked.starts_with(&answered) || answered.starts_with(&asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile;
    use crate::health::Outcome;
    use crate::model::Provider;

    #[test]
    fn an_alias_is_the_same_model_and_a_stranger_is_not() {
        for (asked, answered, same) in [
            ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", true),
            ("mistral-small-latest", "mistral-small-2409", true),
            ("claude-sonnet-4-0", "claude-sonnet-4-20250514", true),
            ("llama3", "llama3:latest", true),
            ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B", true),
            ("gpt-4o-mini", "another-model", false),
            ("claude-3", "gpt-4o", false),
        ] {
            assert_eq!(same_model(asked, answered), same, "{asked} {answered}");
        }
    }

    /// Outcome and tokens of a stream whose events are `name|data`, or data alone.
    fn judge(provider: Provider, events: &[&str]) -> (Outcome, u64) {
        let profile = profile(provider);
        let api = profile.chat.as_ref().unwrap();
        let mut completion = Completion::new(api.dialect);
        for event in events {
            let (name, data) = event.split_once('|').filter(|(name, _)| !name.starts_with('{')).unwrap_or(("", event));
            match completion.event(&SseEvent { name: name.to_owned(), data: data.to_owned() }) {
                Ok(Progress::Done) => break,
                Ok(_) => {}
                Err(verdict) => return (verdict.outcome, completion.tokens()),
            }
        }
        let outcome = completion.judge("m", api).map_or_else(|verdict| verdict.outcome, |_| Outcome::Ok);
        (outcome, completion.tokens())
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
            assert_eq!(judge(Provider::OpenAi, events).0, expected, "{events:?}");
        }
    }

    #[test]
    fn anthropics_messages_are_read_and_a_ping_is_no_progress() {
        let start = r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":12,"output_tokens":1}}}"#;
        let token = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ok"}}"#;
        let thought = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
        let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#;
        let limit = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":16}}"#;
        let stop = r#"{"type":"message_stop"}"#;
        let ping = r#"{"type":"ping"}"#;
        let error = r#"error|{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        for (events, expected) in [
            (&[start, ping, token, end, stop][..], (Outcome::Ok, 16)),
            (&[start, thought, limit, stop], (Outcome::Ok, 28)),
            (&[start, limit, stop], (Outcome::Ok, 28)),
            (&[start, end, stop], (Outcome::BadContent, 16)),
            (&[start, token], (Outcome::BadContent, 13)),
            (&[start, token, error], (Outcome::BadContent, 13)),
            (&[ping, ping], (Outcome::BadContent, 0)),
        ] {
            assert_eq!(judge(Provider::Anthropic, events), expected, "{events:?}");
        }
        let mut completion = Completion::new(Dialect::Anthropic);
        let progress = |data: &str| SseEvent { name: "ping".into(), data: data.into() };
        assert_eq!(completion.event(&progress(ping)), Ok(Progress::Idle));
    }

    #[test]
    fn geminis_chunks_end_with_a_reason_and_no_mark() {
        let token = r#"{"candidates":[{"content":{"parts":[{"text":"ok"}]}}],"modelVersion":"other"}"#;
        let stop = r#"{"candidates":[{"content":{"parts":[{"text":"."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"totalTokenCount":9}}"#;
        let limit = r#"{"candidates":[{"finishReason":"MAX_TOKENS"}],"usageMetadata":{"promptTokenCount":7,"thoughtsTokenCount":16,"totalTokenCount":23}}"#;
        let safety = r#"{"candidates":[{"finishReason":"SAFETY"}]}"#;
        let blocked = r#"{"promptFeedback":{"blockReason":"OTHER"}}"#;
        for (events, expected) in [
            (&[token, stop][..], (Outcome::Ok, 9)),
            (&[limit], (Outcome::Ok, 23)),
            (&[token], (Outcome::BadContent, 0)),
            (&[safety], (Outcome::BadContent, 0)),
            (&[blocked], (Outcome::BadContent, 0)),
        ] {
            assert_eq!(judge(Provider::Gemini, events), expected, "{events:?}");
        }
    }

    #[test]
    fn bedrocks_events_are_told_apart_by_the_type_of_their_frame() {
        let token = r#"contentBlockDelta|{"delta":{"text":"ok"},"contentBlockIndex":0}"#;
        let stop = r#"messageStop|{"stopReason":"end_turn"}"#;
        let limit = r#"messageStop|{"stopReason":"max_tokens"}"#;
        let usage = r#"metadata|{"usage":{"inputTokens":5,"outputTokens":3,"totalTokens":8}}"#;
        for (events, expected) in [
            (&["messageStart|{\"role\":\"assistant\"}", token, stop, usage][..], (Outcome::Ok, 8)),
            (&[token, stop], (Outcome::Ok, 0)),
            (&[limit, usage], (Outcome::Ok, 8)),
            (&[stop, usage], (Outcome::BadContent, 8)),
            (&[token], (Outcome::BadContent, 0)),
            (&[token, "error|{\"message\":\"throttled\"}"], (Outcome::BadContent, 0)),
        ] {
            assert_eq!(judge(Provider::Bedrock, events), expected, "{events:?}");
        }
    }
}
