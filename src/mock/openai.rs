//! The healthy half: OpenAI's API as scripts. Knows no fault.

use super::config::MockConfig;
use super::request::Request;
use super::script::{Act, Reply, Script, chunk};
use serde_json::{Value, json};
use std::time::Duration;

/// Most tokens of one completion.
const MAX_TOKENS: u32 = 100_000;

/// The words of a completion, over and over.
const WORDS: [&str; 8] = ["ok", " this", " is", " a", " mock", " of", " an", " answer"];

/// What a chat request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// How many tokens the answer has.
    pub(super) tokens: u32,
    pub(super) prompt_tokens: u64,
    /// The limit of the request ended the answer.
    pub(super) limited: bool,
}

impl ChatRequest {
    pub(super) fn read(config: &MockConfig, body: &[u8]) -> Result<Self, Box<Reply>> {
        let body: Value =
            serde_json::from_slice(body).map_err(|e| bad_request(&format!("the body is not JSON: {e}")))?;
        let model = body["model"].as_str().ok_or_else(|| bad_request("you must provide a model"))?.to_owned();
        if !config.models.contains(&model) {
            return Err(Box::new(model_not_found(&model)));
        }
        if body["messages"].as_array().is_none_or(Vec::is_empty) {
            return Err(bad_request("messages is a list with at least one message"));
        }
        let limit = ["max_completion_tokens", "max_tokens"].into_iter().find_map(|name| body[name].as_u64());
        let wanted = config.tokens.min(MAX_TOKENS);
        let tokens = limit.map_or(wanted, |limit| wanted.min(u32::try_from(limit).unwrap_or(u32::MAX)));
        Ok(Self {
            model,
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            tokens,
            prompt_tokens: prompt_tokens(&body["messages"]),
            limited: tokens < wanted,
        })
    }

    fn finish_reason(&self) -> &'static str {
        if self.limited { "length" } else { "stop" }
    }

    pub(super) fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + u64::from(self.tokens),
        })
    }
}

/// Answers a request that no fault befell.
pub(super) fn answer(config: &MockConfig, request: &Request) -> Script {
    let open = matches!(request.path.as_str(), "/health" | "/metrics" | "/");
    if !open && config.key.as_deref().is_some_and(|key| request.key() != Some(key)) {
        return Script::whole(&signed(config, invalid_api_key()));
    }
    let reply = match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/health") => Reply::json(200, &json!({"status": "ok", "name": config.name})),
        ("GET" | "HEAD", "/") => Reply::text(200, "text/plain", format!("hapilot mock {}\n", config.name)),
        ("GET", "/metrics") => Reply::text(200, "text/plain; version=0.0.4", metrics(config)),
        ("GET", "/v1/models") => models(config, |_| true),
        ("GET", path) if path.starts_with("/v1/models/") => {
            let id = &path["/v1/models/".len()..];
            if config.models.iter().any(|m| m == id) { Reply::json(200, &model(id)) } else { model_not_found(id) }
        }
        ("POST", "/v1/chat/completions") => match ChatRequest::read(config, &request.body) {
            Ok(chat) => return completion(config, &chat, config.first_token, config.tokens_per_second),
            Err(reply) => *reply,
        },
        ("POST", "/v1/embeddings") => embeddings(config, &request.body),
        (_, "/health" | "/metrics" | "/" | "/v1/models" | "/v1/chat/completions" | "/v1/embeddings") => {
            error(405, "method not allowed", "invalid_request_error", "method_not_allowed")
        }
        _ => error(404, "unknown path", "invalid_request_error", "unknown_url"),
    };
    let mut reply = signed(config, reply);
    if request.method == "HEAD" {
        reply.body.clear();
    }
    Script::whole(&reply)
}

/// Marks an answer with the mock's name.
pub(super) fn signed(config: &MockConfig, reply: Reply) -> Reply {
    reply.header("x-mock", &*config.name).header("x-request-id", format!("req_{:016x}", rand::random::<u64>()))
}

/// An error in OpenAI's shape.
pub(super) fn error(status: u16, message: &str, kind: &str, code: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
}

pub(super) fn invalid_api_key() -> Reply {
    error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
}

fn bad_request(message: &str) -> Box<Reply> {
    Box::new(error(400, message, "invalid_request_error", "invalid_request"))
}

fn model_not_found(model: &str) -> Reply {
    error(404, &format!("The model `{model}` does not exist"), "invalid_request_error", "model_not_found")
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock"})
}

/// The list of models that `keep` keeps.
pub(super) fn models(config: &MockConfig, keep: impl Fn(&str) -> bool) -> Reply {
    let data: Vec<Value> = config.models.iter().filter(|id| keep(id)).map(|id| model(id)).collect();
    Reply::json(200, &json!({"object": "list", "data": data}))
}

fn embeddings(config: &MockConfig, body: &[u8]) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return *bad_request("the body is not JSON") };
    let name = body["model"].as_str().unwrap_or_default();
    if !config.models.iter().any(|m| m == name) {
        return model_not_found(name);
    }
    let inputs = body["input"].as_array().map_or(1, |list| list.len().min(2048));
    let vector: Vec<f64> = (0..8).map(|i| f64::from(i) / 8.0).collect();
    let data: Vec<Value> =
        (0..inputs).map(|i| json!({"object": "embedding", "index": i, "embedding": vector})).collect();
    let tokens = prompt_tokens(&body["input"]);
    Reply::json(
        200,
        &json!({"object": "list", "model": name, "data": data,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
    )
}

fn metrics(config: &MockConfig) -> String {
    let model = config.models.first().map_or("", String::as_str);
    let gauge = |name: &str, value: f64| format!("# TYPE {name} gauge\n{name}{{model_name=\"{model}\"}} {value}\n");
    gauge("vllm:num_requests_running", 0.0)
        + &gauge("vllm:num_requests_waiting", 0.0)
        + &gauge("vllm:kv_cache_usage_perc", 0.0)
}

/// A rough count: four characters to a token.
fn prompt_tokens(prompt: &Value) -> u64 {
    prompt.to_string().len() as u64 / 4 + 1
}

/// The text of token number `i`.
fn word(i: u32) -> &'static str {
    WORDS[i as usize % WORDS.len()]
}

/// Time between two tokens.
fn gap(rate: f64) -> Duration {
    if rate > 0.0 { Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::ZERO) } else { Duration::ZERO }
}

/// A completion, streamed or whole, at this pace.
pub(super) fn completion(config: &MockConfig, chat: &ChatRequest, first_token: Duration, rate: f64) -> Script {
    if chat.stream {
        return stream(config, chat, first_token, rate);
    }
    let text: String = (0..chat.tokens).map(word).collect();
    let reply = signed(config, Reply::json(200, &whole(config, chat, &chat.model, &text)));
    Script::whole(&reply).after(first_token + gap(rate) * chat.tokens.saturating_sub(1))
}

/// The body of a completion that is not streamed.
pub(super) fn whole(config: &MockConfig, chat: &ChatRequest, model: &str, text: &str) -> Value {
    json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "system_fingerprint": config.name,
        "choices": [{"index": 0, "finish_reason": chat.finish_reason(),
                     "message": {"role": "assistant", "content": text}}],
        "usage": chat.usage(),
    })
}

/// One event of a stream, with its empty line.
pub(super) fn event(data: &str) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// One chunk of a completion as the data of an event.
pub(super) fn delta(config: &MockConfig, model: &str, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
        "system_fingerprint": config.name,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
}

/// The head of a stream of events.
pub(super) fn stream_head(config: &MockConfig) -> Reply {
    signed(config, Reply::text(200, "text/event-stream", "")).header("cache-control", "no-cache")
}

fn stream(config: &MockConfig, chat: &ChatRequest, first_token: Duration, rate: f64) -> Script {
    let gap = gap(rate);
    let token = |i: u32| event(&delta(config, &chat.model, &json!({"content": word(i)}), None).to_string());
    // The head goes out with the first token, as with hosted providers.
    let mut head = stream_head(config).to_stream_head();
    let role = delta(config, &chat.model, &json!({"role": "assistant", "content": ""}), None);
    head.extend(chunk(&event(&role.to_string())));
    if chat.tokens > 0 {
        head.extend(chunk(&token(0)));
    }
    let mut acts = vec![Act::Wait(first_token), Act::Send(head)];
    for i in 1..chat.tokens {
        acts.extend([Act::Wait(gap), Act::Send(chunk(&token(i)))]);
    }
    let finish = delta(config, &chat.model, &json!({}), Some(chat.finish_reason()));
    let mut end = chunk(&event(&finish.to_string()));
    if chat.include_usage {
        let mut usage = delta(config, &chat.model, &json!({}), None);
        usage["choices"] = json!([]);
        usage["usage"] = chat.usage();
        end.extend(chunk(&event(&usage.to_string())));
    }
    end.extend(chunk(&event("[DONE]")));
    end.extend(chunk(b""));
    acts.push(Act::Send(end));
    Script::new(200, acts)
}
