//! What an answer that is not a success means: status, headers and body in; outcome and pause out. Pure.
//!
//! Refuses to know which probe asked; the provider's words are its profile's. Called by `asking`.
//!
//! **Source**: the providers' error references; RFC 9110 15.

use super::retry_after::{lasting, pause_in_words, retry_after};
use crate::health::Outcome;
use crate::model::{ErrorWords, Profile};
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeVerdict {
    /// The class.
    pub outcome: Outcome,
    /// How long the server wants silence.
    pub retry_after: Option<Duration>,
    /// A rejection that means the key's account: 402, a quota.
    pub is_billing: bool,
    /// For people; not yet cleaned, it may hold anything that the server sent.
    pub detail: String,
}

impl ProbeVerdict {
    /// A verdict without a pause.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, retry_after: None, is_billing: false, detail: detail.into() }
    }
}

/// Most strings of an error's details that are looked at.
const MAX_DETAILS: usize = 64;

/// Judges an answer whose status is not the one that was expected.
pub fn classify(
    provider: &Profile,
    status: u16,
    headers: &HeaderMap<HeaderValue>,
    body: &[u8],
    now: SystemTime,
) -> ProbeVerdict {
    let mut error = ErrorBody::read(body);
    if let Some(kind) = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()) {
        error.codes.push(' ');
        error.codes.push_str(&kind.to_lowercase());
    }
    let words = &provider.errors;
    let pause = retry_after(&provider.limits, headers, now)
        .or(error.pause)
        .or_else(|| pause_in_words(&provider.limits, &error.message));
    let outcome = match status {
        401..=403 => Outcome::Credential,
        429 if error.means_account(words) => Outcome::Credential,
        429 => Outcome::RateLimited,
        529 => Outcome::Overloaded,
        503 if pause.is_some() || error.has(&words.overloaded) => Outcome::Overloaded,
        400 if error.means_account(words) || error.has(&words.rejected) => Outcome::Credential,
        300..=399 | 400 | 404 | 405 | 413 | 415 | 422 => Outcome::ProbeConfig,
        _ => Outcome::ServerError,
    };
    // A pause belongs to an answer that asks for one; a 401 is not mended by waiting.
    let retry_after =
        pause.filter(|_| matches!(outcome, Outcome::RateLimited | Outcome::Overloaded | Outcome::ServerError));
    let mut detail = format!("HTTP {status}");
    if let Some(to) = headers.get("location").filter(|_| (300..400).contains(&status)) {
        detail += &format!(" to {}", String::from_utf8_lossy(to.as_bytes()));
    }
    if !error.message.is_empty() {
        detail += ": ";
        detail += &error.message;
    }
    let is_billing = outcome == Outcome::Credential && (status == 402 || error.means_account(words));
    ProbeVerdict { outcome, retry_after, is_billing, detail }
}

/// The parts of an error that matter.
struct ErrorBody {
    /// `code`, `type`, `status` and the texts of `details` in lower case, a blank between.
    codes: String,
    message: String,
    /// What `RetryInfo` asks for.
    pause: Option<Duration>,
}

impl ErrorBody {
    fn read(body: &[u8]) -> Self {
        match parse_json(body) {
            Ok(value) => Self::of(&value),
            Err(_) => {
                let message = String::from_utf8_lossy(&body[..body.len().min(1024)]).into();
                Self { codes: String::new(), message, pause: None }
            }
        }
    }

    fn of(value: &Value) -> Self {
        // `{"error":{…}}`, `[{"error":{…}}]` (Gemini's streams), `{"error":"text"}` or the bare object.
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").unwrap_or(value);
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let field = |name: &str| error.get(name).filter(|v| !v.is_null()).map(text);
        let mut codes: Vec<String> =
            ["code", "type", "status", "error_type", "__type"].into_iter().filter_map(field).collect();
        // TGI says what kind of error it is beside the message.
        codes.extend(value.get("error_type").filter(|_| error.is_string()).map(text));
        let mut pause = None;
        if let Some(details) = error.get("details") {
            gather(details, &mut codes);
            let delays = details.as_array().into_iter().flatten().filter_map(|detail| detail["retryDelay"].as_str());
            pause = { delays }.find_map(lasting);
        }
        let message = error.as_str().map(str::to_owned);
        let message = message.or_else(|| ["message", "Message", "detail", "error_msg"].into_iter().find_map(field));
        Self { codes: codes.join(" ").to_lowercase(), message: message.unwrap_or_default(), pause }
    }

    /// Whether one of the words is in it: one with a blank in the message, one without in the codes.
    fn has(&self, words: &[String]) -> bool {
        let message = self.message.to_lowercase();
        words.iter().any(|word| if word.contains(' ') { message.contains(word) } else { self.codes.contains(word) })
    }

    /// Quota, credit or billing: waiting does not help. A code is surer than a message, which may speak of billing in
    /// its advice on a limit that passes.
    fn means_account(&self, words: &ErrorWords) -> bool {
        let by_code: Vec<String> = words.account.iter().filter(|word| !word.contains(' ')).cloned().collect();
        self.has(&by_code) || (self.has(&words.account) && !self.has(&words.passing))
    }
}

/// Fields of details that name a reason; others hold advice and links, which may name anything.
const REASONS: [&str; 7] = ["reason", "quotaId", "error_code", "code", "type", "status", "error_type"];

/// Gathers the reasons of an error's details.
fn gather(details: &Value, codes: &mut Vec<String>) {
    match details {
        Value::String(text) if codes.len() < MAX_DETAILS => codes.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| gather(item, codes)),
        Value::Object(fields) => {
            let is_wanted = |name: &str, value: &Value| REASONS.contains(&name) || !value.is_string();
            fields.iter().filter(|(name, value)| is_wanted(name, value)).for_each(|(_, value)| gather(value, codes));
        }
        _ => {}
    }
}

/// The message of an error object in a body that should have been something else; none where there is no error.
pub fn error_in(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|error| !matches!(error, Value::Null | Value::Bool(false)))?;
    let body = ErrorBody::of(value);
    Some(if body.message.is_empty() { error.to_string() } else { body.message })
}

/// Deepest JSON that is read.
pub const MAX_DEPTH: usize = 64;

/// Parses JSON that nests at most [`MAX_DEPTH`] deep.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_json(text: &[u8]) -> Result<Value, String> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("JSON nests more than {MAX_DEPTH} deep"));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    use crate::config::profile;
    use crate::model::Provider;

    fn of(provider: Provider, status: u16, headers: &[(&'static str, &str)], body: &str) -> ProbeVerdict {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        classify(&profile(provider), status, &headers, body.as_bytes(), SystemTime::UNIX_EPOCH)
    }

    fn check(status: u16, retry: Option<&'static str>, body: &str, expected: Outcome) -> ProbeVerdict {
        let headers: Vec<_> = retry.iter().map(|value| ("retry-after", *value)).collect();
        let verdict = of(Provider::OpenAi, status, &headers, body);
        assert_eq!(verdict.outcome, expected, "{status} {retry:?} {body}");
        verdict
    }

    #[test]
    fn each_status_has_its_meaning() {
        for status in [301, 302, 304, 307, 308, 400, 404, 405, 413, 415, 422] {
            check(status, None, "", Outcome::ProbeConfig);
        }
        for status in [401, 402, 403] {
            check(status, Some("10"), "", Outcome::Credential);
        }
        for status in [408, 409, 418, 424, 499, 500, 501, 502, 503, 504, 520, 599] {
            check(status, None, "", Outcome::ServerError);
        }
        check(529, None, "", Outcome::Overloaded);
        check(503, Some("5"), "", Outcome::Overloaded);
        check(503, Some("tomorrow"), "", Outcome::ServerError);
        check(503, None, r#"{"error":{"code":"server_is_overloaded"}}"#, Outcome::Overloaded);
        check(429, None, "", Outcome::RateLimited);
    }

    #[test]
    fn quota_and_billing_are_the_keys_fault_whatever_their_status() {
        for (status, body) in [
            (429, r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"You exceeded"}}"#),
            (429, r#"{"error":{"code":"organization_usage_limit_exceeded"}}"#),
            (429, r#"{"error":{"code":"project_spend_limit_exceeded"}}"#),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details."}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            ),
        ] {
            let verdict = check(status, Some("10"), body, Outcome::Credential);
            assert_eq!(verdict.retry_after, None);
            assert_eq!(verdict.is_billing, !body.contains("not valid"), "{body}");
        }
        assert!(check(402, None, "", Outcome::Credential).is_billing);
        assert!(!check(401, None, "", Outcome::Credential).is_billing);
        check(429, None, r#"{"error":{"type":"requests","code":"rate_limit_exceeded"}}"#, Outcome::RateLimited);
        check(400, None, r#"{"error":{"message":"max_tokens is too small"}}"#, Outcome::ProbeConfig);
    }

    #[test]
    fn the_line_for_people_quotes_the_servers_own_words() {
        let verdict = check(500, None, r#"{"error":{"message":"CUDA out of memory"}}"#, Outcome::ServerError);
        assert_eq!(verdict.detail, "HTTP 500: CUDA out of memory");
        assert_eq!(check(502, None, "bad gateway", Outcome::ServerError).detail, "HTTP 502: bad gateway");
        assert_eq!(check(500, None, r#"{"error":"plain"}"#, Outcome::ServerError).detail, "HTTP 500: plain");
    }

    #[test]
    fn deep_json_is_refused_before_it_is_parsed() {
        assert!(parse_json("[".repeat(10_000).as_bytes()).is_err());
        assert!(parse_json(("[".repeat(64) + &"]".repeat(64)).as_bytes()).is_ok());
        assert!(
            parse_json(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#).is_ok()
        );
        assert!(parse_json(b"\xff").is_err());
    }
}
