//! One adapter for each kind of sink: how it is reached, how it spells a notification, what its answer means.
//!
//! Knows the wire alone. Refuses to know when something is told, and what waits: that is `alerts` and the agent. Nothing of
//! what it sends has a secret in it, nor a character that a terminal or Slack would obey.

mod alertmanager;
mod answer;
mod exchange;
mod line;
mod mail;
mod pagerduty;
mod slack;
mod smtp;
mod stream;
mod tls;
mod webhook;
mod words;

pub use answer::{Delivery, Fault};

use crate::alerts::{Change, Notification};
use crate::config::{AlertSink, SinkKind};
use crate::model::Secret;
use std::time::Duration;
use tokio::time::timeout;

/// One try, from the name to the end of the answer.
pub const TOTAL: Duration = Duration::from_secs(20);

/// Sends one notification. Never longer than [`TOTAL`]; dropping the future ends it.
pub async fn deliver(sink: &AlertSink, secret: Option<&Secret>, told: &Notification) -> Delivery {
    if is_nothing_for(&sink.kind, told.change) {
        return Delivery::Done("nothing is sent of it".to_owned());
    }
    let sending = async {
        match (&sink.kind, secret) {
            (SinkKind::Slack { .. }, Some(url)) => slack::deliver(url, told).await,
            (SinkKind::Pagerduty { url, .. }, Some(key)) => pagerduty::deliver(url, key, told).await,
            (SinkKind::Email(email), password) => mail::deliver(email, password, told).await,
            (SinkKind::Webhook { url, .. }, secret) => webhook::deliver(url, secret, told).await,
            (SinkKind::Alertmanager { url }, _) => alertmanager::deliver(url, told).await,
            (SinkKind::Slack { .. } | SinkKind::Pagerduty { .. }, None) => {
                Delivery::refused(Fault::Sink, "its secret is missing")
            }
        }
    };
    let late = || Delivery::again(format!("no end of an answer within {} s", TOTAL.as_secs()));
    timeout(TOTAL, Box::pin(sending)).await.unwrap_or_else(|_| late())
}

/// What a sink has no use for.
fn is_nothing_for(kind: &SinkKind, change: Change) -> bool {
    match change {
        // Whoever reads has read that it happened.
        Change::Expire => matches!(kind, SinkKind::Slack { .. } | SinkKind::Email(_)),
        Change::Refresh => !matches!(kind, SinkKind::Alertmanager { .. }),
        Change::Applied => !matches!(kind, SinkKind::Pagerduty { .. }),
        Change::Trigger | Change::Update | Change::Repeat | Change::Resolve => false,
    }
}
