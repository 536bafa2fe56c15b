//! Prometheus' Alertmanager, API v2. It groups, silences and routes by itself: each alert is one of its own, and is over
//! when it is not told again in time, so that a hapilot that is dead leaves none behind.
//!
//! **Source**: github.com/prometheus/alertmanager, api/v2/openapi.yaml.

use super::answer::Delivery;
use super::exchange::{Address, post};
use super::line::clean;
use crate::alerts::{Line, Notification};
use crate::config::AlertSink;
use crate::model::Endpoint;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Of a text, in characters.
const MAX_TEXT: usize = 500;

pub(super) async fn deliver(url: &Endpoint, told: &Notification) -> Delivery {
    let json = Value::from(alerts(told, Timestamp::now())).to_string().into_bytes();
    match post(&Address::below(url, "/api/v2/alerts"), &[], json).await {
        Ok(answer) => Delivery::of(&answer),
        Err(why) => Delivery::again(why),
    }
}

fn alerts(told: &Notification, now: Timestamp) -> Vec<Value> {
    let ends = now.checked_add(AlertSink::FORGOTTEN).unwrap_or(Timestamp::MAX);
    let alert = |line: &Line| {
        let is_over = line.is_over || told.change.is_over();
        json!({
            "labels": {
                "alertname": format!("hapilot_{}", line.topic.as_str().replace('-', "_")),
                "severity": line.urgency.as_str(),
                "scope": clean(&told.scope, MAX_TEXT),
                "subject": clean(&line.subject, MAX_TEXT),
                "key": clean(&line.key, MAX_TEXT),
                "hapilot": told.teller(),
            },
            "annotations": { "summary": clean(&(line.words() + &line.kept()), MAX_TEXT), "description": clean(&line.cause, MAX_TEXT) },
            "startsAt": line.since.min(now).to_string(),
            "endsAt": if is_over { now } else { ends }.to_string(),
        })
    };
    told.lines.iter().map(alert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::webhook::tests::sample;
    use crate::alerts::Change;
    use crate::config::SinkKind;

    #[test]
    fn its_url_may_be_that_of_its_api() {
        for url in [
            "http://127.0.0.1:9093/x",
            "http://127.0.0.1:9093/x/api/v2/alerts",
            "http://127.0.0.1:9093/x/api/v2/alerts/",
        ] {
            let file = format!(
                "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n\
                                [alert.prom]\nalertmanager = {{ url = \"{url}\" }}\n"
            );
            let config = crate::config::parse("f", &file, "lb1").unwrap();
            let SinkKind::Alertmanager { url } = &config.alerts.sinks[0].kind else { panic!("its kind") };
            assert_eq!(url.path, "/x");
        }
    }

    #[test]
    fn what_is_kept_open_says_so() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let mut told = sample();
        (told.lines[0].ended, told.lines[0].kept_until) = (Some(now), Some(now));
        told.lines[0].over_text = "backend chat serves again".into();
        let summary = alerts(&told, now)[0]["annotations"]["summary"].as_str().unwrap().to_owned();
        assert!(
            summary.starts_with("backend chat serves again since ") && summary.ends_with("because it flaps"),
            "{summary}"
        );
    }

    #[test]
    fn what_lasts_ends_by_itself_and_what_is_over_ends_now() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let lasts = &alerts(&sample(), now)[0];
        assert_eq!(
            (&lasts["startsAt"], &lasts["endsAt"]),
            (&"2023-11-14T22:13:20Z".into(), &"2023-11-14T22:20:00Z".into())
        );
        assert_eq!(lasts["labels"]["hapilot"], "lb1");
        let over = &alerts(&Notification { change: Change::Resolve, ..sample() }, now)[0];
        assert_eq!((&over["labels"], &over["endsAt"]), (&lasts["labels"], &"2023-11-14T22:15:00Z".into()));
    }
}
