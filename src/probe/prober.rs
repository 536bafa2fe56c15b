//! Runs one probe from beginning to end, within its deadline.
//!
//! Knows the three kinds of probe and their deadlines; refuses to know when to probe and what an outcome changes.
//! Called by `agent` and by `cli` (`hapilot probe`).

use super::classify::{Verdict, classify, error_in, parse_json};
use super::completion::{Completion, Dialect, Progress};
use super::detail::detail_line;
use super::exchange::{Connection, next_piece, read_up_to, request};
use super::lag::with_lag;
use super::sse::{SseError, SseParser};
use super::target::{Probe, Target};
use super::trust::Trust;
use crate::config::{ChatProbe, HttpProbe, ModelsProbe};
use crate::health::{Observation, Outcome, Phase};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest body of a list of models and of a stream.
const MAX_BODY: usize = 1 << 20;
/// Longest body of a health path, and of an error.
const MAX_SMALL_BODY: usize = 64 << 10;
/// How long the text of an error is waited for: its status has said the most.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// Deadlines that the operator's file does not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Name, TCP and TLS together.
    pub connect: Duration,
    /// A whole `models` or `http` probe.
    pub cheap_total: Duration,
    /// Lag of our own scheduling beyond which a time-out is our own fault.
    pub lag: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), cheap_total: Duration::from_secs(5), lag: Duration::from_millis(250) }
    }
}

/// Probes servers. One is enough for all; it holds no connection.
#[derive(Default)]
pub struct Prober {
    limits: Limits,
    trust: Trust,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a probe has seen so far; outlives a deadline.
struct Seen {
    phase: Phase,
    first_token: Option<Duration>,
    tokens: u64,
}

impl Prober {
    /// A prober with the usual deadlines.
    pub fn new() -> Self {
        Self::default()
    }

    /// A prober with other deadlines.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, trust: Trust::default() }
    }

    /// Probes once. Never longer than the probe's total deadline by more than scheduling takes, never more than 1 MiB
    /// of body; dropping the future closes the connection.
    pub async fn probe(&self, target: &Target, what: &Probe) -> Observation {
        self.probe_within(target, what, self.limits.cheap_total).await
    }

    /// As [`Self::probe`], with another total deadline for a cheap probe; a chat probe brings its own.
    pub async fn probe_within(&self, target: &Target, what: &Probe, cheap_total: Duration) -> Observation {
        let started = Instant::now();
        let total = match what {
            Probe::Chat(chat) => chat.total,
            Probe::Models(_) | Probe::Http(_) => cheap_total,
        };
        let mut seen = Seen { phase: Phase::Connect, first_token: None, tokens: 0 };
        let run = async {
            let connect_by = started + self.limits.connect.min(total);
            match what {
                Probe::Models(models) => self.models(target, models, connect_by, &mut seen).await,
                Probe::Chat(chat) => self.chat(target, chat, connect_by, &mut seen).await,
                Probe::Http(http) => self.http(target, http, connect_by, &mut seen).await,
            }
        };
        let (result, lag) = Box::pin(with_lag(timeout_at(started + total, run))).await;
        let mut verdict = match result {
            Ok(Ok(detail)) => Verdict::new(Outcome::Ok, detail),
            Ok(Err(verdict)) => verdict,
            Err(_) => Verdict::new(Outcome::Timeout(seen.phase), waited_for(seen.phase, what)),
        };
        if let (Probe::Chat(chat), Outcome::Ok, Some(first)) = (what, verdict.outcome, seen.first_token)
            && first > chat.first_token_soft
        {
            verdict = Verdict::new(
                Outcome::Slow,
                format!("first token after {} ms, {} ms allowed", first.as_millis(), chat.first_token_soft.as_millis()),
            );
        }
        if lag > self.limits.lag {
            // What was measured is our own delay. What the server said stays true.
            seen.first_token = None;
            if matches!(verdict.outcome, Outcome::Slow | Outcome::Timeout(_)) {
                verdict = Verdict::new(
                    Outcome::SelfCaused,
                    format!("this machine lagged by {} ms during the probe", lag.as_millis()),
                );
            }
        }
        Observation {
            kind: what.kind(),
            outcome: verdict.outcome,
            retry_after: verdict.retry_after,
            is_billing: verdict.is_billing,
            first_token: seen.first_token,
            total: started.elapsed(),
            tokens: seen.tokens,
            load: None,
            detail: detail_line(&verdict.detail, target.key.as_ref()),
        }
    }

    async fn models(
        &self,
        target: &Target,
        probe: &ModelsProbe,
        connect_by: Instant,
        seen: &mut Seen,
    ) -> Result<String, Verdict> {
        let request = request(target, &target.api_path("models"), "application/json", None)?;
        let mut connection = Connection::open(target, &self.trust, connect_by).await?;
        seen.phase = Phase::FirstToken;
        let mut response = connection.send(request).await?;
        seen.phase = Phase::Total;
        if !response.status().is_success() {
            return Err(refusal(&mut response).await.0);
        }
        plain_text(&response)?;
        let mut body = Vec::new();
        if !read_up_to(response.body_mut(), MAX_BODY, &mut body).await? {
            return Err(bad("the list of models is longer than 1 MiB"));
        }
        let list = parse_json(&body).map_err(|why| bad(format!("the list of models is {why}")))?;
        if let Some(message) = error_in(&list) {
            return Err(bad(format!("an error inside an answer with status 200: {message}")));
        }
        // `{"data":[…]}`; Ollama without a model says `null`, Together has the bare list.
        let data = if list.is_array() { Some(&list) } else { list.get("data").or_else(|| list.get("models")) };
        let ids: Vec<&str> = match data {
            Some(serde_json::Value::Array(models)) => {
                models.iter().filter_map(|model| model["id"].as_str().or_else(|| model["name"].as_str())).collect()
            }
            Some(serde_json::Value::Null) => Vec::new(),
            _ => return Err(bad("not a list of models")),
        };
        let listed = |model: &str| {
            ids.iter().any(|id| *id == model || id.strip_prefix(model).is_some_and(|tag| tag == ":latest"))
        };
        match probe.expect.iter().find(|model| !listed(model)) {
            Some(model) => Err(bad(format!("{model} is not among the {} models listed", ids.len()))),
            None => Ok(String::new()),
        }
    }

    async fn http(
        &self,
        target: &Target,
        probe: &HttpProbe,
        connect_by: Instant,
        seen: &mut Seen,
    ) -> Result<String, Verdict> {
        let request = request(target, &probe.path, "*/*", None)?;
        let mut connection = Connection::open(target, &self.trust, connect_by).await?;
        seen.phase = Phase::FirstToken;
        let mut response = connection.send(request).await?;
        seen.phase = Phase::Total;
        if !probe.status.contains(&response.status().as_u16()) {
            let mut verdict = refusal(&mut response).await.0;
            if response.status().is_success() {
                verdict.outcome = Outcome::BadContent;
            }
            return Err(verdict);
        }
        if !probe.json.is_empty() {
            plain_text(&response)?;
        }
        let mut body = Vec::new();
        let whole = read_up_to(response.body_mut(), MAX_SMALL_BODY, &mut body).await?;
        if probe.json.is_empty() {
            // A long page is as alive as a short one.
            return Ok(String::new());
        }
        if !whole {
            return Err(bad("the body is longer than 64 KiB"));
        }
        let value = parse_json(&body).map_err(|why| bad(format!("the body is {why}")))?;
        match probe.json.iter().find(|(pointer, expected)| value.pointer(pointer) != Some(expected)) {
            Some((pointer, expected)) => {
                let found = value.pointer(pointer).map_or_else(|| "nothing".to_owned(), ToString::to_string);
                Err(bad(format!("{pointer} is {found}, not {expected}")))
            }
            None => Ok(String::new()),
        }
    }

    async fn chat(
        &self,
        target: &Target,
        probe: &ChatProbe,
        connect_by: Instant,
        seen: &mut Seen,
    ) -> Result<String, Verdict> {
        let path = target.api_path("chat/completions");
        let mut dialect = Dialect::of(target.provider);
        let mut connect_by = connect_by;
        // Two spellings of one parameter and one that may be left out: three refusals at most.
        for last in [false, false, true] {
            let request = request(target, &path, "text/event-stream", Some(dialect.body(probe)))?;
            seen.phase = Phase::Connect;
            let mut connection = Connection::open(target, &self.trust, connect_by).await?;
            seen.phase = Phase::FirstToken;
            let sent = Instant::now();
            let first_by = sent + probe.first_token;
            let late = |_| Verdict::new(Outcome::Timeout(Phase::FirstToken), "no answer to the request");
            let mut response = timeout_at(first_by, connection.send(request)).await.map_err(late)??;
            if response.status().is_success() {
                return stream(&mut response, target, probe, sent, seen).await;
            }
            let status = response.status().as_u16();
            let (verdict, text) = refusal(&mut response).await;
            match dialect.instead(&text).filter(|_| matches!(status, 400 | 422) && !last) {
                Some(other) => dialect = other,
                None => return Err(verdict),
            }
            connect_by = Instant::now() + self.limits.connect;
        }
        Err(Verdict::new(Outcome::ProbeConfig, "the server refuses every spelling of the request"))
    }
}

/// Reads the stream of a completion; deadlines for the first token and for silence.
async fn stream(
    response: &mut Response<Incoming>,
    target: &Target,
    probe: &ChatProbe,
    sent: Instant,
    seen: &mut Seen,
) -> Result<String, Verdict> {
    plain_text(response)?;
    let mut completion = Completion::default();
    let first_by = sent + probe.first_token;
    if content_type(response).starts_with("application/json") {
        let mut body = Vec::new();
        let late = |_| Verdict::new(Outcome::Timeout(Phase::FirstToken), "no whole completion");
        if !timeout_at(first_by, read_up_to(response.body_mut(), MAX_BODY, &mut body)).await.map_err(late)?? {
            return Err(bad("the completion is longer than 1 MiB"));
        }
        completion.whole(&body)?;
        seen.first_token = Some(sent.elapsed());
        seen.tokens = completion.tokens;
        return completion.judge(probe, target.provider);
    }
    let unreadable = |e: SseError| bad(format!("not a stream of events: {e}"));
    let mut parser = SseParser::default();
    let mut deadline = first_by;
    let mut size = 0;
    loop {
        let piece = match timeout_at(deadline, next_piece(response.body_mut())).await {
            Ok(piece) => piece?,
            Err(_) if seen.first_token.is_none() => {
                let detail = format!("no token within {} ms", probe.first_token.as_millis());
                return Err(Verdict::new(Outcome::Timeout(Phase::FirstToken), detail));
            }
            Err(_) => {
                let detail = format!("the stream fell silent for {} ms", probe.stall.as_millis());
                return Err(Verdict::new(Outcome::Timeout(Phase::Stall), detail));
            }
        };
        let ended = piece.is_none();
        let events = match &piece {
            Some(piece) => parser.feed(piece).map_err(unreadable)?,
            None => parser.finish().map_err(unreadable)?.into_iter().collect(),
        };
        size += piece.map_or(0, |piece| piece.len());
        for event in events {
            let progress = completion.event(&event)?;
            seen.tokens = completion.tokens;
            if progress == Progress::Token && seen.first_token.is_none() {
                seen.first_token = Some(sent.elapsed());
                seen.phase = Phase::Total;
            }
            if progress == Progress::Done {
                return completion.judge(probe, target.provider);
            }
            if seen.first_token.is_some() {
                deadline = Instant::now() + probe.stall;
            }
        }
        if ended {
            return completion.judge(probe, target.provider);
        }
        if size > MAX_BODY {
            return Err(bad("the stream is longer than 1 MiB"));
        }
    }
}

/// Judges an answer that is no success, and returns its text.
async fn refusal(response: &mut Response<Incoming>) -> (Verdict, String) {
    let mut body = Vec::new();
    // A body that is late, cut or too long takes nothing from what the status says.
    let _ = timeout(ERROR_BODY, read_up_to(response.body_mut(), MAX_SMALL_BODY, &mut body)).await;
    let verdict = classify(response.status().as_u16(), response.headers(), &body, SystemTime::now());
    (verdict, String::from_utf8_lossy(&body).into_owned())
}

/// Refuses pages and what is compressed although nobody asked for it.
fn plain_text(response: &Response<Incoming>) -> Result<(), Verdict> {
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|e| e.as_bytes() != b"identity") {
        return Err(bad(format!("the body is compressed ({}) unasked", String::from_utf8_lossy(encoding.as_bytes()))));
    }
    if content_type(response).starts_with("text/html") {
        return Err(bad("an HTML page with status 200 (a login page?)"));
    }
    Ok(())
}

fn content_type(response: &Response<Incoming>) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn bad(detail: impl Into<String>) -> Verdict {
    Verdict::new(Outcome::BadContent, detail)
}

fn waited_for(phase: Phase, what: &Probe) -> &'static str {
    match (phase, what) {
        (Phase::Connect, _) => "no connection before the total deadline",
        (Phase::FirstToken, Probe::Chat(_)) => "no token before the total deadline",
        (Phase::FirstToken, _) => "no head of an answer before the total deadline",
        (Phase::Stall | Phase::Total, _) => "no end before the total deadline",
    }
}
