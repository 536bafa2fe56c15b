//! A program of the operator's own: JSON by POST, signed.
//!
//! The signature is HMAC-SHA256, by the shared secret, over the timestamp, a point and the body; who checks it should refuse
//! timestamps that are old. The idempotency key is the same when a notification is sent again.

use super::answer::Delivery;
use super::exchange::{Address, post};
use super::line::{clean, one_line};
use super::words::MAX_HEADLINE;
use crate::alerts::{Line, Notification};
use crate::model::{Endpoint, Secret};
use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::Serialize;
use std::fmt::Write;

/// Of a text, in characters.
const MAX_TEXT: usize = 500;

/// What is sent. Fields are only ever added.
#[derive(Serialize)]
struct Body {
    version: u8,
    id: String,
    key: String,
    event: &'static str,
    severity: &'static str,
    is_over: bool,
    scope: String,
    node: String,
    at: Timestamp,
    since: Timestamp,
    headline: String,
    alerts: Vec<Alert>,
    more: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
}

#[derive(Serialize)]
struct Alert {
    key: String,
    topic: &'static str,
    severity: &'static str,
    subject: String,
    text: String,
    cause: String,
    since: Timestamp,
    is_over: bool,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<Timestamp>,
}

pub(super) async fn deliver(url: &Endpoint, secret: Option<&Secret>, told: &Notification) -> Delivery {
    let json = serde_json::to_vec(&body(told)).unwrap_or_default();
    let timestamp = Timestamp::now().as_second().to_string();
    let mut headers = vec![("idempotency-key", told.id.clone())];
    headers.extend(secret.map(|secret| ("x-hapilot-signature", signature(secret, &timestamp, &json))));
    headers.push(("x-hapilot-timestamp", timestamp));
    match post(&Address::below(url, ""), &headers, json).await {
        Ok(answer) => Delivery::of(&answer),
        Err(why) => Delivery::again(why),
    }
}

/// `sha256=` and 64 hexadecimal digits.
fn signature(secret: &Secret, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, &[timestamp.as_bytes(), b".", body].concat());
    let mut text = String::from("sha256=");
    for byte in tag.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn body(told: &Notification) -> Body {
    let Notification { id, dedup, change, urgency, scope, node, at, since, opened: _, lines, more, hint } = told;
    Body {
        version: 1,
        id: id.clone(),
        key: dedup.clone(),
        event: change.as_str(),
        severity: urgency.as_str(),
        is_over: change.is_over(),
        scope: clean(scope, MAX_TEXT),
        node: node.clone(),
        at: *at,
        since: *since,
        headline: one_line(&told.headline(), MAX_HEADLINE),
        alerts: lines.iter().map(alert).collect(),
        more: *more,
        hint: one_line(hint, MAX_TEXT),
    }
}

fn alert(line: &Line) -> Alert {
    let Line { key, topic, urgency, subject, cause, since, is_over, count, ended, kept_until, .. } = line;
    Alert {
        key: clean(key, MAX_TEXT),
        topic: topic.as_str(),
        severity: urgency.as_str(),
        subject: clean(subject, MAX_TEXT),
        text: clean(&(line.words() + &line.kept()), MAX_TEXT),
        cause: clean(cause, MAX_TEXT),
        since: *since,
        is_over: *is_over,
        count: *count,
        ended: *ended,
        kept_until: *kept_until,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::alerts::{Change, Topic, Urgency};

    /// A page of one alert.
    pub(in crate::alert) fn sample() -> Notification {
        let since = Timestamp::from_second(1_700_000_000).unwrap();
        let line = Line {
            key: "outage/chat".into(),
            topic: Topic::Outage,
            urgency: Urgency::Page,
            subject: "chat".into(),
            text: "backend chat cannot serve".into(),
            cause: "refused".into(),
            since,
            is_over: false,
            count: 1,
            is_news: true,
            is_event: false,
            began: Some(since),
            ended: None,
            kept_until: None,
            over_text: String::new(),
        };
        Notification {
            id: "hapilot/lb1/page/all/chat@1700000060000".into(),
            dedup: "hapilot/lb1/page/all/chat".into(),
            change: Change::Trigger,
            urgency: Urgency::Page,
            scope: "chat".into(),
            node: "lb1".into(),
            at: Timestamp::from_second(1_700_000_060).unwrap(),
            since,
            opened: since,
            lines: vec![line],
            more: 0,
            hint: String::new(),
        }
    }

    #[test]
    fn the_signature_is_over_the_timestamp_and_the_body() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac topsecret
        let secret = Secret::new("topsecret".into()).unwrap();
        let signed = signature(&secret, "1700000000", b"{}");
        assert_eq!(signed, "sha256=9ec0a0b3a9ebf7b4b512e23475f03d264dd11ea5aec41b6acdd5fff59a6a947c");
        assert_ne!(signed, signature(&secret, "1700000001", b"{}"));
    }

    #[test]
    fn the_shape_is_what_the_page_says() {
        let json = serde_json::to_value(body(&sample())).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(
            (&json["event"], &json["severity"], &json["is_over"]),
            (&"trigger".into(), &"page".into(), &false.into())
        );
        assert_eq!(json["alerts"][0]["topic"], "outage");
        assert_eq!(json["at"], "2023-11-14T22:14:20Z");
    }
}
