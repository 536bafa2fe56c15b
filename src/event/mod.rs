//! What happened, in one form: for the log, for the history of events, and for whoever reads that later.
//!
//! Words only. Made by whoever notices, told by `agent::bulletin`, kept by `store`. Knows no log, no file, no clock.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text and longest cause, in characters; what is beyond is cut.
const MAX_TEXT: usize = 2_000;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was noticed.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: EventKind,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it befell: `chat/openai-1`, `chat`, `main` (an address), `haproxy`, `agent`, a file.
    pub subject: String,
    /// The same for all events of one matter, from its beginning to its end: `outage/chat`.
    pub key: String,
    /// Whether something lasts from here on.
    pub phase: Phase,
    /// One line for people. No secret.
    pub text: String,
    /// Why, as far as it is known and not in the text. No secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The agent began or ended.
    Agent,
    /// The health of a server changed.
    Health,
    /// A weight changed in HAProxy.
    Weight,
    /// An operator set a server's weight or state, or that ended.
    Override,
    /// A pool guard began or ended.
    Guard,
    /// A backend cannot serve, or can again.
    Outage,
    /// Servers of another tier take a backend's requests, or those of the first one do again.
    Fallback,
    /// A provider's key changed.
    Key,
    /// A client with a key of its own was added, changed or revoked.
    Client,
    /// A client spent so much of its budget.
    Budget,
    /// A virtual address moved, or its watch noticed something.
    Vip,
    /// Something had changed what hapilot had set, and it was put right.
    Drift,
    /// Another revision serves.
    Revision,
    /// A revision was confirmed, or rolled back.
    Trial,
    /// A canary has more of the clients, waits, or was rolled back.
    Canary,
    /// A change was refused.
    Refused,
    /// HAProxy went, came or does not follow.
    Haproxy,
    /// A certificate was renewed, or nears its end.
    Certificate,
    /// Something about this node needs a look, or is mended.
    Problem,
    /// A threshold of `[alert.rule.NAME]` is crossed, or no longer.
    Rule,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It should be known.
    Info,
    /// It should be looked at.
    Warning,
    /// Somebody is hurt by it, or nearly.
    Error,
}

/// Whether something lasts from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It happened, and that is all.
    Once,
    /// It lasts until an event with the same key says otherwise.
    Begins,
    /// What began is over.
    Ends,
}

impl Event {
    /// Something that happened, of which nothing lasts.
    pub fn once(kind: EventKind, severity: Severity, subject: impl fmt::Display, text: impl fmt::Display) -> Self {
        let subject = subject.to_string();
        Self {
            at: Timestamp::UNIX_EPOCH,
            kind,
            severity,
            key: format!("{kind}/{subject}"),
            subject,
            phase: Phase::Once,
            text: text.to_string(),
            cause: String::new(),
        }
    }

    /// Something begins to last.
    pub fn begins(kind: EventKind, severity: Severity, subject: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self { phase: Phase::Begins, ..Self::once(kind, severity, subject, text) }
    }

    /// What began is over.
    pub fn ends(kind: EventKind, subject: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self { phase: Phase::Ends, ..Self::once(kind, Severity::Info, subject, text) }
    }

    /// Why.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = cause.to_string();
        self
    }

    /// Where one subject has several matters of one kind: `KIND/SUBJECT/MATTER`.
    #[must_use]
    pub fn about(mut self, matter: impl fmt::Display) -> Self {
        self.key = format!("{}/{}/{matter}", self.kind, self.subject);
        self
    }

    /// The same, happened then, and no longer than it may be.
    #[must_use]
    pub fn at(self, at: Timestamp) -> Self {
        Self { at, text: cut(self.text), cause: cut(self.cause), ..self }
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Agent,
        Self::Health,
        Self::Weight,
        Self::Override,
        Self::Guard,
        Self::Outage,
        Self::Fallback,
        Self::Key,
        Self::Client,
        Self::Budget,
        Self::Vip,
        Self::Drift,
        Self::Revision,
        Self::Trial,
        Self::Canary,
        Self::Refused,
        Self::Haproxy,
        Self::Certificate,
        Self::Problem,
        Self::Rule,
    ];

    /// As in files, filters and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Health => "health",
            Self::Weight => "weight",
            Self::Override => "override",
            Self::Guard => "guard",
            Self::Outage => "outage",
            Self::Fallback => "fallback",
            Self::Key => "key",
            Self::Client => "client",
            Self::Budget => "budget",
            Self::Vip => "vip",
            Self::Drift => "drift",
            Self::Revision => "revision",
            Self::Trial => "trial",
            Self::Canary => "canary",
            Self::Refused => "refused",
            Self::Haproxy => "haproxy",
            Self::Certificate => "certificate",
            Self::Problem => "problem",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_have_one_key_and_long_words_are_cut() {
        let begins =
            Event::begins(EventKind::Outage, Severity::Error, "chat", "backend chat cannot serve").because("refused");
        let ends = Event::ends(EventKind::Outage, "chat", "backend chat serves again");
        assert_eq!((begins.key.as_str(), ends.key.as_str()), ("outage/chat", "outage/chat"));
        assert_eq!(begins.clone().about("x").key, "outage/chat/x");
        let long = Event { text: "ä".repeat(3_000), ..begins }.at(Timestamp::UNIX_EPOCH);
        assert_eq!((long.text.chars().count(), long.cause.as_str()), (MAX_TEXT + 1, "refused"));
    }

    #[test]
    fn a_line_of_json_has_the_words_of_the_filters() {
        let event = Event::once(EventKind::Haproxy, Severity::Warning, "haproxy", "it is gone");
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            "{\"at\":\"1970-01-01T00:00:00Z\",\"kind\":\"haproxy\",\"severity\":\"warning\",\"subject\":\"haproxy\",\
             \"key\":\"haproxy/haproxy\",\"phase\":\"once\",\"text\":\"it is gone\"}"
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        // None is missing: the last one has its place.
        assert_eq!(EventKind::Rule as usize + 1, EventKind::ALL.len());
        for (at, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
