//! PagerDuty's Events API v2: what lasts, and changes.
//!
//! **Source**: developer.pagerduty.com, "Send an event" and "Send a change event".

use super::answer::{Delivery, Fault};
use super::exchange::{Address, post};
use super::line::{clean, cut, one_line};
use super::words::{MAX_HEADLINE, body};
use crate::alerts::{Change, Notification, Urgency};
use crate::model::{Endpoint, Secret};
use serde_json::{Value, json};

/// Of an event, in bytes.
const MAX_EVENT: usize = 512 << 10;
/// Of a dedup key, in characters.
const MAX_KEY: usize = 255;
/// Of the details, in characters.
const MAX_DETAILS: usize = 16_000;

pub(super) async fn deliver(url: &Endpoint, key: &Secret, told: &Notification) -> Delivery {
    let path = if told.change == Change::Applied { "/v2/change/enqueue" } else { "/v2/enqueue" };
    let mut event = event(told);
    event["routing_key"] = key.expose().into();
    let json = event.to_string().into_bytes();
    if json.len() > MAX_EVENT {
        return Delivery::refused(Fault::Message, "the event is larger than PagerDuty takes");
    }
    match post(&Address::below(url, path), &[], json).await {
        Ok(answer) if (200..300).contains(&answer.status) && !is_taken(&answer.body) => {
            Delivery::refused(Fault::Sink, format!("it answered {} in words that are not PagerDuty's", answer.status))
        }
        Ok(answer) => Delivery::of(&answer),
        Err(why) => Delivery::again(why),
    }
}

fn is_taken(body: &str) -> bool {
    serde_json::from_str::<Value>(body).is_ok_and(|body| body["status"] == "success")
}

/// Without its key.
fn event(told: &Notification) -> Value {
    let (summary, source) = (one_line(&told.headline(), MAX_HEADLINE), one_line(&told.node, 64));
    let timestamp = told.at.to_string();
    let details = json!({ "text": cut(&body(told), MAX_DETAILS), "scope": clean(&told.scope, 200) });
    if told.change == Change::Applied {
        return json!({
            "payload": { "summary": summary, "source": source, "timestamp": timestamp, "custom_details": details },
        });
    }
    let severity = match told.urgency {
        Urgency::Page => "critical",
        Urgency::Warning => "warning",
        Urgency::Info => "info",
    };
    let topic = told.lines.first().map(|line| line.topic.as_str()).unwrap_or_default();
    json!({
        "event_action": if told.change.is_over() { "resolve" } else { "trigger" },
        "dedup_key": cut(&told.dedup, MAX_KEY - 1),
        "client": "hapilot",
        "payload": {
            "summary": summary,
            "source": source,
            "severity": severity,
            "timestamp": timestamp,
            "component": clean(&told.scope, 200),
            "group": "haproxy",
            "class": topic,
            "custom_details": details,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::webhook::tests::sample;

    #[test]
    fn a_trigger_and_its_end_have_one_key_and_a_change_has_none() {
        let trigger = event(&sample());
        let resolve = event(&Notification { change: Change::Resolve, ..sample() });
        assert_eq!((&trigger["event_action"], &resolve["event_action"]), (&"trigger".into(), &"resolve".into()));
        assert_eq!(
            (&trigger["dedup_key"], &trigger["payload"]["severity"]),
            (&resolve["dedup_key"], &"critical".into())
        );
        let change = event(&Notification { change: Change::Applied, ..sample() });
        assert_eq!((&change["dedup_key"], &change["event_action"]), (&Value::Null, &Value::Null));
        assert_eq!(change["payload"]["summary"], "backend chat cannot serve");
    }
}
