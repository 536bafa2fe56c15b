//! Slack's incoming webhooks.
//!
//! **Source**: api.slack.com/messaging/webhooks; the escapes are those of "Formatting text for app surfaces".

use super::answer::{Delivery, Fault};
use super::exchange::{Address, post};
use super::line::cut;
use super::words::{body_below, headline};
use crate::alerts::Notification;
use crate::model::Secret;
use serde_json::json;

/// Of a message, in characters: Slack shows 4,000 of a text.
const MAX_TEXT: usize = 3_500;

pub(super) async fn deliver(url: &Secret, told: &Notification) -> Delivery {
    let address = match Address::secret(url.expose()) {
        Ok(address) => address,
        Err(why) => return Delivery::refused(Fault::Sink, why),
    };
    let json = message(told).to_string().into_bytes();
    match post(&address, &[], json).await {
        Ok(answer) if answer.status == 200 && answer.body.trim_start().starts_with('<') => Delivery::refused(
            Fault::Sink,
            "it answered 200 with a page for people: nobody there understands Slack's webhooks",
        ),
        Ok(answer) => Delivery::of(&answer),
        Err(why) => Delivery::again(why),
    }
}

fn message(told: &Notification) -> serde_json::Value {
    let text = format!("{}\n{}", headline(told), body_below(told));
    // No word of a backend makes a link, calls a channel or is bold.
    json!({ "text": escaped(&cut(&text, MAX_TEXT)), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::webhook::tests::sample;

    #[test]
    fn no_word_of_a_backend_calls_a_channel() {
        let mut told = sample();
        told.lines[0].cause = format!("<!channel> & <https://evil|x> {}", "<".repeat(9_000));
        let text = message(&told)["text"].as_str().unwrap().to_owned();
        assert!(
            text.starts_with("PAGE: backend chat cannot serve\n  because &lt;!channel&gt; &amp; &lt;https"),
            "{text}"
        );
        assert!(!text.contains('<') && text.chars().count() < 4 * MAX_TEXT);
        assert!(text.ends_with("told by lb1 at 2023-11-14 22:14:20 UTC") || text.ends_with('…'));
    }
}
