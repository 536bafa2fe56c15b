//! The dialects of the mock: whose API a request speaks is seen by its path, and everything about the answer follows.
//!
//! Refuses to know pace and faults. Called by `api` and `twist`.

mod anthropic;
mod bedrock;
mod errors;
mod gemini;
mod openai;

use super::config::MockConfig;
use super::prefixes::Prefixes;
use super::request::Request;
use super::script::Reply;
use serde_json::{Value, json};

/// Most tokens of one completion.
const MAX_TOKENS: u32 = 100_000;

/// Whose API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Bedrock,
}

/// What is wrong, whatever a provider calls it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mistake {
    /// 400: what.
    Request(String),
    /// The key is not the right one.
    Key,
    /// There is no such model.
    Model(String),
    /// There is no such path.
    Path,
    /// The path takes another method.
    Method,
    /// The account's quota is spent.
    Quota,
    /// The account's credit is spent.
    Credit,
    /// Too much to do.
    Overloaded,
    /// Anything else, with its status; 429 is a limit that passes by itself.
    Status(u16),
}

impl Dialect {
    /// By the path; two providers share `/v1/models`, and are told apart by their headers.
    pub(super) fn of(request: &Request) -> Self {
        let is_anthropics = || {
            request.header("authorization").is_none()
                && (request.header("x-api-key").is_some() || request.header("anthropic-version").is_some())
        };
        match request.path.as_str() {
            path if path.starts_with("/v1/messages") => Self::Anthropic,
            // Gemini's other version.
            path if path.starts_with("/v1/models/") && request.method == "POST" => Self::Gemini,
            path if path.starts_with("/v1/models") && is_anthropics() => Self::Anthropic,
            path if path.starts_with("/v1beta") => Self::Gemini,
            path if path.starts_with("/openai/") => Self::Azure,
            path if path.starts_with("/model/") => Self::Bedrock,
            _ => Self::OpenAi,
        }
    }

    /// The key, where this provider looks for it.
    pub(super) fn key(self, request: &Request) -> Option<&str> {
        match self {
            Self::OpenAi | Self::Bedrock => request.bearer(),
            Self::Azure => request.header("api-key").or_else(|| request.bearer()),
            Self::Anthropic => request.header("x-api-key"),
            Self::Gemini => request.header("x-goog-api-key"),
        }
    }

    pub(super) fn is_models(self, path: &str) -> bool {
        match self {
            Self::OpenAi | Self::Anthropic => path == "/v1/models",
            Self::Azure => path == "/openai/models" || path == "/openai/v1/models",
            Self::Gemini => path == "/v1beta/models",
            Self::Bedrock => false,
        }
    }

    pub(super) fn is_chat(self, path: &str) -> bool {
        match self {
            Self::OpenAi => path == "/v1/chat/completions",
            Self::Azure => path.ends_with("/chat/completions"),
            Self::Anthropic => path == "/v1/messages",
            Self::Gemini => path.ends_with(":streamGenerateContent") || path.ends_with(":generateContent"),
            Self::Bedrock => path.ends_with("/converse-stream") || path.ends_with("/converse"),
        }
    }

    pub(super) fn is_embeddings(self, path: &str) -> bool {
        match self {
            Self::OpenAi => path == "/v1/embeddings",
            Self::Azure => path.ends_with("/embeddings"),
            Self::Gemini => path.ends_with(":embedContent"),
            Self::Anthropic | Self::Bedrock => false,
        }
    }

    /// The model that a path names.
    fn model_in(self, path: &str) -> Option<String> {
        let (start, end) = match self {
            Self::Azure => ("/openai/deployments/", '/'),
            Self::Gemini if path.starts_with("/v1/") => ("/v1/models/", ':'),
            Self::Gemini => ("/v1beta/models/", ':'),
            Self::Bedrock => ("/model/", '/'),
            Self::OpenAi | Self::Anthropic => return None,
        };
        let (model, _) = path.strip_prefix(start)?.split_once(end)?;
        Some(decoded(model))
    }

    pub(super) fn stream_type(self) -> &'static str {
        if self == Self::Bedrock { "application/vnd.amazon.eventstream" } else { "text/event-stream" }
    }

    /// An entry of the list of models.
    pub(super) fn model(self, id: &str) -> Value {
        match self {
            Self::OpenAi | Self::Azure | Self::Bedrock => {
                json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock"})
            }
            Self::Anthropic => {
                json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"})
            }
            Self::Gemini => json!({"name": format!("models/{id}"), "displayName": id}),
        }
    }

    /// The list of models that `keep` keeps.
    pub(super) fn models(self, config: &MockConfig, keep: impl Fn(&str) -> bool) -> Reply {
        let data: Vec<Value> = config.models.iter().filter(|id| keep(id)).map(|id| self.model(id)).collect();
        let list = match self {
            Self::Gemini => json!({"models": data}),
            Self::Anthropic => json!({"data": data, "has_more": false}),
            _ => json!({"object": "list", "data": data}),
        };
        Reply::json(200, &list)
    }

    /// An embedding for each input.
    pub(super) fn embedding(self, config: &MockConfig, request: &Request) -> Result<Reply, Mistake> {
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|e| Mistake::Request(format!("the body is not JSON: {e}")))?;
        let name = self.model_in(&request.path).or_else(|| body["model"].as_str().map(str::to_owned));
        let name = name.unwrap_or_default();
        if !config.models.contains(&name) {
            return Err(Mistake::Model(name));
        }
        let vector: Vec<f64> = (0..8).map(|i| f64::from(i) / 8.0).collect();
        if self == Self::Gemini {
            return Ok(Reply::json(200, &json!({"embedding": {"values": vector}})));
        }
        let inputs = body["input"].as_array().map_or(1, |list| list.len().min(2048));
        let data: Vec<Value> =
            (0..inputs).map(|i| json!({"object": "embedding", "index": i, "embedding": vector})).collect();
        let tokens = prompt_tokens(&body["input"]);
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Ok(Reply::json(200, &json!({"object": "list", "model": name, "data": data, "usage": usage})))
    }

    /// One event of a stream with this data, as it stands on the wire; `name` where the dialect names its events.
    pub(super) fn event(self, name: &str, data: &[u8]) -> Vec<u8> {
        match self {
            Self::OpenAi | Self::Azure | Self::Gemini => [b"data: ".as_slice(), data, b"\n\n"].concat(),
            Self::Anthropic => [format!("event: {name}\ndata: ").as_bytes(), data, b"\n\n"].concat(),
            Self::Bedrock => bedrock::frame(&[(":event-type", name), (":message-type", "event")], data),
        }
    }

    /// An error inside a stream.
    pub(super) fn error_event(self) -> Vec<u8> {
        match self {
            Self::OpenAi | Self::Azure => {
                let data = json!({"error": {"message": "EngineCore died", "type": "server_error", "code": 500}});
                [self.event("", data.to_string().as_bytes()), self.event("", b"[DONE]")].concat()
            }
            Self::Anthropic => self.event("error", &self.error(&Mistake::Overloaded).body),
            Self::Gemini => self.event("", &self.error(&Mistake::Overloaded).body),
            Self::Bedrock => bedrock::frame(
                &[(":exception-type", "modelStreamErrorException"), (":message-type", "exception")],
                br#"{"message":"The model died."}"#,
            ),
        }
    }
}

/// What a chat request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChatRequest {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// How many tokens the answer has.
    pub(super) tokens: u32,
    pub(super) prompt_tokens: u64,
    /// Those of the prompt that were in the cache.
    pub(super) cached_tokens: u64,
    messages: Vec<Value>,
    /// The limit of the request ended the answer.
    pub(super) limited: bool,
}

impl ChatRequest {
    pub(super) fn read(config: &MockConfig, request: &Request) -> Result<Self, Mistake> {
        let wrong = |what: &str| Mistake::Request(what.to_owned());
        let dialect = Dialect::of(request);
        if dialect == Dialect::Anthropic && request.header("anthropic-version").is_none() {
            return Err(wrong("anthropic-version: header is required"));
        }
        if dialect == Dialect::Azure && !request.query.contains("api-version=") && !request.path.contains("/v1/") {
            return Err(Mistake::Path);
        }
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|e| Mistake::Request(format!("the body is not JSON: {e}")))?;
        let model = dialect.model_in(&request.path).or_else(|| body["model"].as_str().map(str::to_owned));
        let model = model.ok_or_else(|| wrong("you must provide a model"))?;
        if !config.models.contains(&model) {
            return Err(Mistake::Model(model));
        }
        let messages = if dialect == Dialect::Gemini { &body["contents"] } else { &body["messages"] };
        if messages.as_array().is_none_or(Vec::is_empty) {
            return Err(wrong("messages is a list with at least one message"));
        }
        let limit = match dialect {
            Dialect::OpenAi | Dialect::Azure => {
                ["max_completion_tokens", "max_tokens"].into_iter().find_map(|name| body[name].as_u64())
            }
            Dialect::Anthropic => Some(body["max_tokens"].as_u64().ok_or_else(|| wrong("max_tokens: Field required"))?),
            Dialect::Gemini => body["generationConfig"]["maxOutputTokens"].as_u64(),
            Dialect::Bedrock => body["inferenceConfig"]["maxTokens"].as_u64(),
        };
        let wanted = config.tokens.min(MAX_TOKENS);
        let tokens = limit.map_or(wanted, |limit| wanted.min(u32::try_from(limit).unwrap_or(u32::MAX)));
        Ok(Self {
            dialect,
            model,
            stream: match dialect {
                Dialect::Gemini => request.path.ends_with(":streamGenerateContent"),
                Dialect::Bedrock => request.path.ends_with("-stream"),
                _ => body["stream"].as_bool().unwrap_or(false),
            },
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            tokens,
            prompt_tokens: prompt_tokens(messages),
            cached_tokens: 0,
            messages: messages.as_array().cloned().unwrap_or_default(),
            limited: tokens < wanted,
        })
    }

    /// Looks its prompt up in the server's cache, and leaves it there.
    pub(super) fn look_up(&mut self, prefixes: &mut Prefixes, most: usize) {
        let found = prefixes.take(&self.messages, most);
        if found > 0 {
            self.cached_tokens = prompt_tokens(&Value::from(&self.messages[..found])).min(self.prompt_tokens);
        }
    }

    fn total_tokens(&self) -> u64 {
        self.prompt_tokens + u64::from(self.tokens)
    }

    /// The body of a completion that is not streamed.
    pub(super) fn whole(&self, config: &MockConfig, text: &str) -> Value {
        match self.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::whole(config, self, text),
            Dialect::Anthropic => anthropic::whole(self, text),
            Dialect::Gemini => gemini::whole(self, text),
            Dialect::Bedrock => bedrock::whole(self, text),
        }
    }

    /// What comes before the first token, on the wire.
    pub(super) fn begin(&self, config: &MockConfig) -> Vec<u8> {
        match self.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::begin(config, self),
            Dialect::Anthropic => anthropic::begin(self),
            Dialect::Gemini => Vec::new(),
            Dialect::Bedrock => bedrock::begin(),
        }
    }

    /// One token, on the wire.
    pub(super) fn token(&self, config: &MockConfig, word: &str) -> Vec<u8> {
        match self.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::token(config, self, word),
            Dialect::Anthropic => anthropic::token(word),
            Dialect::Gemini => gemini::token(self, word),
            Dialect::Bedrock => bedrock::token(word),
        }
    }

    /// What comes after the last token, on the wire.
    pub(super) fn end(&self, config: &MockConfig) -> Vec<u8> {
        match self.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::end(config, self),
            Dialect::Anthropic => anthropic::end(self),
            Dialect::Gemini => gemini::end(self),
            Dialect::Bedrock => bedrock::end(self),
        }
    }
}

/// A rough count: four characters to a token.
fn prompt_tokens(prompt: &Value) -> u64 {
    prompt.to_string().len() as u64 / 4 + 1
}

/// A segment of a path without its escapes; what is wrongly escaped stays.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
