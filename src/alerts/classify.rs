//! What an event means to people: by the symptom, not by the cause.
//!
//! A page: clients are hurt, or the next failure hurts them and nobody else will mend it. A warning: the rest still
//! carries. Everything else is for who asks for it.

use super::topic::{Topic, Urgency};
use crate::event::{Event, EventKind, Phase, Severity};
use serde::{Deserialize, Serialize};

/// Whose matter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// Every node sees it: one of them tells it.
    Shared,
    /// This node's own: no other would tell it.
    Node,
}

/// What one event opens, repeats or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The same from beginning to end, on all nodes.
    pub key: String,
    /// What it is about.
    pub topic: Topic,
    /// How soon somebody must look.
    pub urgency: Urgency,
    /// What is told together: a backend, `haproxy`, `budget`.
    pub scope: String,
    /// Whose matter it is.
    pub home: Home,
    /// Whether it lasts.
    pub phase: Phase,
}

/// What an event means: mostly one thing, nothing where nobody wants to know, two where it ends another matter as well.
pub fn classify(event: &Event) -> Vec<Finding> {
    let Event { kind, subject, phase, .. } = event;
    let by_severity = match event.severity {
        Severity::Info => Urgency::Info,
        Severity::Warning => Urgency::Warning,
        Severity::Error => Urgency::Page,
    };
    let of = |topic, urgency, scope: &str, home| Finding {
        key: event.key.clone(),
        topic,
        urgency,
        scope: scope.to_owned(),
        home,
        phase: *phase,
    };
    let pool = subject.split('/').next().unwrap_or(subject);
    let finding = match kind {
        EventKind::Weight => return vec![],
        EventKind::Vip => return vip(event, by_severity),
        // It is no matter that lasts: it began, or ended.
        EventKind::Agent => Finding { phase: Phase::Once, ..of(Topic::Agent, Urgency::Info, "agent", Home::Node) },
        EventKind::Health => of(Topic::Server, Urgency::Warning, pool, Home::Shared),
        EventKind::Override => of(Topic::Server, Urgency::Info, pool, Home::Node),
        EventKind::Guard => match matter(event) {
            "fail_open" => of(Topic::PoolPanic, Urgency::Page, pool, Home::Shared),
            _ => of(Topic::Guard, Urgency::Warning, pool, Home::Node),
        },
        EventKind::Outage => of(Topic::Outage, Urgency::Page, pool, Home::Shared),
        EventKind::Fallback => of(Topic::Fallback, Urgency::Warning, pool, Home::Shared),
        // One that only rests, or serves in the place of another, is no news; one that is rejected is.
        EventKind::Key if event.severity == Severity::Info && *phase != Phase::Ends => return vec![],
        EventKind::Key => of(Topic::Credential, Urgency::Page, pool, Home::Shared),
        EventKind::Client => of(Topic::Client, Urgency::Info, "clients", Home::Node),
        EventKind::Budget => match matter(event) {
            SPENT => of(Topic::Budget, Urgency::Page, "budget", Home::Shared),
            _ => of(Topic::Budget, by_severity, "budget", Home::Shared),
        },
        EventKind::Drift => of(Topic::Drift, by_severity, "drift", Home::Node),
        EventKind::Revision => of(Topic::Change, Urgency::Info, "change", Home::Node),
        EventKind::Trial if event.severity == Severity::Info => of(Topic::Change, Urgency::Info, "change", Home::Node),
        EventKind::Trial => of(Topic::Rollback, Urgency::Page, "rollback", Home::Node),
        EventKind::Refused if subject == "rollback" => of(Topic::Rollback, Urgency::Page, "rollback", Home::Node),
        EventKind::Refused => of(Topic::Change, Urgency::Warning, "change", Home::Node),
        // What HAProxy was sent is told one by one.
        EventKind::Haproxy if event.severity == Severity::Info && *phase == Phase::Once => return vec![],
        EventKind::Haproxy => of(Topic::Haproxy, by_severity, "haproxy", Home::Node),
        EventKind::Certificate => of(Topic::Certificate, by_severity, "certificates", Home::Node),
        EventKind::Problem if matter(event) == "certificate" => {
            of(Topic::Certificate, Urgency::Warning, "certificates", Home::Node)
        }
        EventKind::Problem if matter(event) == "way-back" => of(Topic::Rollback, Urgency::Page, "rollback", Home::Node),
        EventKind::Problem => of(Topic::Agent, Urgency::Warning, "agent", Home::Node),
        EventKind::Canary => of(Topic::Canary, by_severity, &format!("canary/{pool}"), Home::Node),
        EventKind::Rule => of(Topic::Rule, by_severity, &format!("rule/{}", matter(event)), Home::Shared),
    };
    vec![finding]
}

/// The matter of a budget that is spent, see `agent`: the part of it in whole numbers.
const SPENT: &str = "1.0";

/// What stands last in its key.
fn matter(event: &Event) -> &str {
    event.key.rsplit('/').next().unwrap_or_default()
}

/// Events of addresses are told in pairs of words, each once.
fn vip(event: &Event, by_severity: Urgency) -> Vec<Finding> {
    let matter = matter(event);
    let of = |matter: &str, urgency, home, phase| Finding {
        key: format!("vip/{}/{matter}", event.subject),
        topic: Topic::Vip,
        urgency,
        // Told with what else is told of HAProxy.
        scope: if matter == "haproxy" { "haproxy" } else { "vip" }.to_owned(),
        home,
        phase,
    };
    let (begins, ends) = (Phase::Begins, Phase::Ends);
    // Its text begins with the name of the other node.
    let peer = format!("peer/{}", event.text.split(' ').next().unwrap_or_default());
    match matter {
        "two_masters" => vec![of("two_masters", Urgency::Page, Home::Shared, begins)],
        "healed" => vec![of("two_masters", Urgency::Page, Home::Shared, ends)],
        "haproxy_lost" => vec![of("haproxy", Urgency::Page, Home::Node, begins)],
        "haproxy_back" => vec![of("haproxy", Urgency::Page, Home::Node, ends)],
        "keepalived_lost" => vec![of("keepalived", Urgency::Warning, Home::Node, begins)],
        "keepalived_seen" => vec![of("keepalived", Urgency::Warning, Home::Node, ends)],
        "peer_lost" => vec![of(&peer, Urgency::Warning, Home::Node, begins)],
        "peer_heard" => vec![of(&peer, Urgency::Warning, Home::Node, ends)],
        "fault" => vec![of("fault", Urgency::Warning, Home::Node, begins)],
        "master" | "backup" => {
            vec![of("fault", Urgency::Warning, Home::Node, ends), of("state", Urgency::Info, Home::Node, Phase::Once)]
        }
        _ => vec![of(matter, by_severity, Home::Node, event.phase)],
    }
}
