//! One question to one server, as every kind of probe begins it: connection, request, head of the answer.
//!
//! Refuses to know what the answer should be. Called by each kind of probe.

use super::classify::{ProbeVerdict, classify, error_in, parse_json};
use super::exchange::{Connection, read_up_to, request};
use super::target::Target;
use super::trust::Trust;
use crate::health::{Load, Outcome, Phase};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest body of an answer.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Longest body of a health path, and of an error.
pub(super) const MAX_SMALL_BODY: usize = 64 << 10;
/// How long the text of an error is waited for: its status has said the most.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// Whom a probe asks, and what it has seen so far.
pub(super) struct Asking<'a> {
    pub(super) target: &'a Target,
    pub(super) trust: &'a Trust,
    /// For name, TCP and TLS together.
    pub(super) connect: Duration,
    pub(super) seen: &'a mut ProbeProgress,
}

/// What a probe has seen so far; outlives a deadline.
pub(super) struct ProbeProgress {
    pub(super) phase: Phase,
    pub(super) first_token: Option<Duration>,
    pub(super) tokens: u64,
    pub(super) load: Option<Load>,
    pub(super) models: Option<Arc<BTreeSet<String>>>,
}

/// The head of an answer, with the connection that its body comes from.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// When the request was handed over.
    pub(super) sent: Instant,
    connection: Connection,
}

impl Asking<'_> {
    /// Sends a request, a POST where it has a body, and waits for the head of the answer; `head` limits that wait where
    /// the total deadline alone does not.
    pub(super) async fn ask(
        &mut self,
        path: &str,
        accept: &str,
        body: Option<String>,
        head: Option<Duration>,
    ) -> Result<Answer, ProbeVerdict> {
        let request = request(self.target, path, accept, body)?;
        self.seen.phase = Phase::Connect;
        let mut connection = Connection::open(self.target, self.trust, Instant::now() + self.connect).await?;
        self.seen.phase = Phase::FirstToken;
        let sent = Instant::now();
        let response = match head {
            None => connection.send(request).await?,
            Some(head) => timeout_at(sent + head, connection.send(request))
                .await
                .map_err(|_| ProbeVerdict::new(Outcome::Timeout(Phase::FirstToken), "no answer to the request"))??,
        };
        Ok(Answer { response, sent, connection })
    }

    /// The answer where its status is 2xx and it is neither a page nor compressed.
    pub(super) async fn success(&mut self, mut answer: Answer) -> Result<Answer, ProbeVerdict> {
        self.seen.phase = Phase::Total;
        if !answer.response.status().is_success() {
            return Err(self.refusal(&mut answer.response).await.0);
        }
        plain_text(&answer.response)?;
        Ok(answer)
    }

    /// The JSON of an answer with status 2xx; `what` names it in complaints.
    pub(super) async fn json(&mut self, answer: Answer, what: &str) -> Result<Value, ProbeVerdict> {
        let mut answer = self.success(answer).await?;
        let mut body = Vec::new();
        if !read_up_to(answer.response.body_mut(), MAX_BODY, &mut body).await? {
            return Err(bad(format!("{what} is longer than 1 MiB")));
        }
        judged_json(&body, what)
    }

    /// Judges an answer that is no success, and returns its text.
    pub(super) async fn refusal(&self, response: &mut Response<Incoming>) -> (ProbeVerdict, String) {
        let mut body = Vec::new();
        // A body that is late, cut or too long takes nothing from what the status says.
        let _ = timeout(ERROR_BODY, read_up_to(response.body_mut(), MAX_SMALL_BODY, &mut body)).await;
        let provider = &self.target.provider;
        let verdict = classify(provider, response.status().as_u16(), response.headers(), &body, SystemTime::now());
        (verdict, String::from_utf8_lossy(&body).into_owned())
    }
}

impl Answer {
    /// Lets the server send so many bytes.
    pub(super) fn allow(&self, bytes: usize) {
        self.connection.allow(bytes);
    }
}

/// The JSON of a whole body, which is no error; `what` names it in complaints.
pub(super) fn judged_json(body: &[u8], what: &str) -> Result<Value, ProbeVerdict> {
    let value = parse_json(body).map_err(|why| bad(format!("{what} is {why}")))?;
    match error_in(&value) {
        Some(message) => Err(bad(format!("an error inside an answer with status 200: {message}"))),
        None => Ok(value),
    }
}

/// Refuses pages and what is compressed although nobody asked for it.
pub(super) fn plain_text(response: &Response<Incoming>) -> Result<(), ProbeVerdict> {
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|e| e.as_bytes() != b"identity") {
        return Err(bad(format!("the body is compressed ({}) unasked", String::from_utf8_lossy(encoding.as_bytes()))));
    }
    if content_type(response).starts_with("text/html") {
        return Err(bad("an HTML page with status 200 (a login page?)"));
    }
    Ok(())
}

pub(super) fn content_type(response: &Response<Incoming>) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(super) fn bad(detail: impl Into<String>) -> ProbeVerdict {
    ProbeVerdict::new(Outcome::BadContent, detail)
}

/// The provider's profile lacks what the probe needs; the reader of the file refuses that.
pub(super) fn without_api(what: &str) -> ProbeVerdict {
    ProbeVerdict::new(Outcome::ProbeConfig, format!("the provider has no {what}"))
}
