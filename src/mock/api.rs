//! The healthy half: every provider's API as scripts. Knows no fault.

use super::config::{MockConfig, MockLoad};
use super::dialect::{ChatRequest, Dialect, Mistake};
use super::prefixes::Prefixes;
use super::request::Request;
use super::script::{Act, Reply, Script, chunk};
use serde_json::json;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The words of a completion, over and over.
const WORDS: [&str; 8] = ["ok", " this", " is", " a", " mock", " of", " an", " answer"];
/// Paths that want no key.
const OPEN: [&str; 6] = ["/", "/health", "/metrics", "/api/version", "/v2/health/live", "/v2/health/ready"];

/// What a mock is like while it answers one request.
#[derive(Clone, Copy)]
pub(super) struct Served<'a> {
    pub(super) config: &'a MockConfig,
    pub(super) load: MockLoad,
    pub(super) prefixes: &'a Mutex<Prefixes>,
}

/// Answers a request that no fault befell.
pub(super) fn answer(served: Served<'_>, request: &Request) -> Script {
    let config = served.config;
    let dialect = Dialect::of(request);
    let is_open = OPEN.contains(&request.path.as_str());
    if !is_open && config.key.as_deref().is_some_and(|key| dialect.key(request) != Some(key)) {
        return Script::whole(&signed(config, dialect.error(&Mistake::Key)));
    }
    let reply = match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/health") => Reply::json(200, &json!({"status": "ok", "name": config.name})),
        ("GET" | "HEAD", "/") => Reply::text(200, "text/plain", format!("hapilot mock {}\n", config.name)),
        ("GET", "/metrics") => Reply::text(200, "text/plain; version=0.0.4", metrics(served)),
        ("GET", "/api/version") => Reply::json(200, &json!({"version": "0.0.0-mock"})),
        ("GET", "/v2/health/live" | "/v2/health/ready") => Reply::text(200, "text/plain", ""),
        (_, path) if is_open || dialect.is_models(path) => match request.method.as_str() {
            "GET" => dialect.models(config, |_| true),
            _ => dialect.error(&Mistake::Method),
        },
        ("GET", path) if path.starts_with("/v1/models/") => {
            let id = &path["/v1/models/".len()..];
            match config.models.iter().any(|m| m == id) {
                true => Reply::json(200, &dialect.model(id)),
                false => dialect.error(&Mistake::Model(id.to_owned())),
            }
        }
        (method, path) if dialect.is_chat(path) => match (method, ChatRequest::read(config, request)) {
            ("POST", Ok(mut chat)) => {
                let mut prefixes = served.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
                chat.look_up(&mut prefixes, config.cached_prompts);
                return completion(config, &chat, config.first_token, config.tokens_per_second);
            }
            ("POST", Err(mistake)) => dialect.error(&mistake),
            _ => dialect.error(&Mistake::Method),
        },
        (method, path) if dialect.is_embeddings(path) => match (method, dialect.embedding(config, request)) {
            ("POST", Ok(reply)) => reply,
            ("POST", Err(mistake)) => dialect.error(&mistake),
            _ => dialect.error(&Mistake::Method),
        },
        _ => dialect.error(&Mistake::Path),
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

/// The gauges of every server that hapilot reads.
fn metrics(served: Served<'_>) -> String {
    let model = served.config.models.first().map_or("", String::as_str);
    let MockLoad { waiting, running, cache } = served.load;
    let gauges = [
        ("vllm:num_requests_running", running),
        ("vllm:num_requests_waiting", waiting),
        ("vllm:kv_cache_usage_perc", cache),
        ("sglang:num_queue_reqs", waiting),
        ("sglang:token_usage", cache),
        ("tgi_queue_size", waiting),
        ("llamacpp:requests_deferred", waiting),
        ("nv_inference_pending_request_count", waiting),
    ];
    gauges.map(|(name, value)| format!("# TYPE {name} gauge\n{name}{{model_name=\"{model}\"}} {value}\n")).concat()
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
    let reply = signed(config, Reply::json(200, &chat.whole(config, &text)));
    Script::whole(&reply).after(first_token + gap(rate) * chat.tokens.saturating_sub(1))
}

/// The head of a stream of events.
pub(super) fn stream_head(config: &MockConfig, dialect: Dialect) -> Reply {
    signed(config, Reply::text(200, dialect.stream_type(), "")).header("cache-control", "no-cache")
}

fn stream(config: &MockConfig, chat: &ChatRequest, first_token: Duration, rate: f64) -> Script {
    let gap = gap(rate);
    let token = |i: u32| chunk(&chat.token(config, word(i)));
    // The head goes out with the first token, as with hosted providers.
    let mut head = stream_head(config, chat.dialect).to_stream_head();
    let begin = chat.begin(config);
    if !begin.is_empty() {
        head.extend(chunk(&begin));
    }
    if chat.tokens > 0 {
        head.extend(token(0));
    }
    let mut acts = vec![Act::Wait(first_token), Act::Send(head)];
    for i in 1..chat.tokens {
        acts.extend([Act::Wait(gap), Act::Send(token(i))]);
    }
    let mut end = chunk(&chat.end(config));
    end.extend(chunk(b""));
    acts.push(Act::Send(end));
    Script::new(200, acts)
}
