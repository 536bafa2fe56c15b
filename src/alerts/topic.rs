//! The words by which an operator chooses what a sink is told: `on = ["pool-panic", "page"]`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What an alert is about, as an operator would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// So little is left of a pool that everybody in it takes requests again.
    PoolPanic,
    /// A revision was rolled back, or could not be.
    Rollback,
    /// Virtual addresses.
    Vip,
    /// A provider's key.
    Credential,
    /// A client's money.
    Budget,
    /// A certificate.
    Certificate,
    /// One server.
    Server,
    /// A backend that cannot serve.
    Outage,
    /// HAProxy is gone, or does not follow.
    Haproxy,
    /// hapilot itself, and what it needs of its machine.
    Agent,
    /// A canary.
    Canary,
    /// A backend whose requests go to another tier.
    Fallback,
    /// A guard holds weights back.
    Guard,
    /// Something had been changed by hand, and was put right.
    Drift,
    /// Another revision serves, or one was refused.
    Change,
    /// Clients came, went, or have other keys.
    Client,
    /// A threshold of `[alert.rule.NAME]`.
    Rule,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::PoolPanic,
        Self::Rollback,
        Self::Vip,
        Self::Credential,
        Self::Budget,
        Self::Certificate,
        Self::Server,
        Self::Outage,
        Self::Haproxy,
        Self::Agent,
        Self::Canary,
        Self::Fallback,
        Self::Guard,
        Self::Drift,
        Self::Change,
        Self::Client,
        Self::Rule,
    ];

    /// As in the file and in notifications.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolPanic => "pool-panic",
            Self::Rollback => "rollback",
            Self::Vip => "vip",
            Self::Credential => "credential",
            Self::Budget => "budget",
            Self::Certificate => "certificate",
            Self::Server => "server",
            Self::Outage => "outage",
            Self::Haproxy => "haproxy",
            Self::Agent => "agent",
            Self::Canary => "canary",
            Self::Fallback => "fallback",
            Self::Guard => "guard",
            Self::Drift => "drift",
            Self::Change => "change",
            Self::Client => "client",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How soon somebody must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Whenever.
    Info,
    /// Today.
    Warning,
    /// Now: clients are hurt by it, or nearly.
    Page,
}

impl Urgency {
    /// All of them, the worst first.
    pub const ALL: [Self; 3] = [Self::Page, Self::Warning, Self::Info];

    /// As in the file and in notifications.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Every word of `on`.
pub const WORDS: [&str; 20] = [
    "page",
    "warning",
    "info",
    "pool-panic",
    "rollback",
    "vip",
    "credential",
    "budget",
    "certificate",
    "server",
    "outage",
    "haproxy",
    "agent",
    "canary",
    "fallback",
    "guard",
    "drift",
    "change",
    "client",
    "rule",
];

/// What a sink is told: of which topics, and how urgent it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Empty: all.
    topics: BTreeSet<Topic>,
    urgencies: BTreeSet<Urgency>,
}

impl Default for Selection {
    /// Whatever is a page or a warning.
    fn default() -> Self {
        Self::of([])
    }
}

impl Selection {
    /// What these words select. Topics alone: their pages and warnings. Urgencies alone: those of every topic.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: BTreeSet<&str> = words.into_iter().collect();
        let topics = Topic::ALL.into_iter().filter(|topic| words.contains(topic.as_str())).collect();
        let mut urgencies: BTreeSet<_> =
            Urgency::ALL.into_iter().filter(|urgency| words.contains(urgency.as_str())).collect();
        if urgencies.is_empty() {
            urgencies.extend([Urgency::Page, Urgency::Warning]);
        }
        Self { topics, urgencies }
    }

    /// Whether it is told.
    pub fn takes(&self, topic: Topic, urgency: Urgency) -> bool {
        (self.topics.is_empty() || self.topics.contains(&topic)) && self.urgencies.contains(&urgency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_file_are_those_of_topics_and_urgencies() {
        let all =
            Urgency::ALL.iter().map(|urgency| urgency.as_str()).chain(Topic::ALL.iter().map(|topic| topic.as_str()));
        assert_eq!(all.collect::<Vec<_>>(), WORDS);
        for topic in Topic::ALL {
            assert_eq!(serde_json::to_string(&topic).unwrap(), format!("\"{topic}\""));
        }
    }

    #[test]
    fn topics_and_urgencies_both_select() {
        let takes = |words: &[&str], topic, urgency| Selection::of(words.iter().copied()).takes(topic, urgency);
        assert!(takes(&[], Topic::Server, Urgency::Warning) && !takes(&[], Topic::Server, Urgency::Info));
        assert!(takes(&["page"], Topic::Outage, Urgency::Page) && !takes(&["page"], Topic::Server, Urgency::Warning));
        assert!(takes(&["vip"], Topic::Vip, Urgency::Warning) && !takes(&["vip"], Topic::Vip, Urgency::Info));
        assert!(!takes(&["vip"], Topic::Outage, Urgency::Page) && takes(&["vip", "info"], Topic::Vip, Urgency::Info));
        assert!(!takes(&["vip", "info"], Topic::Vip, Urgency::Page));
    }
}
