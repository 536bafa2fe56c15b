//! What canaries do, as events.

use super::watched::Watched;
use crate::config::Config;
use crate::event::{Event, EventKind, Severity};
use crate::model::Name;
use crate::rollout::{Change, Hold, Percent, Phase, Rollout};
use std::time::SystemTime;

pub(super) fn event(name: &Name, severity: Severity, text: String) -> Event {
    Event::once(EventKind::Canary, severity, name, text)
}

pub(super) fn told(name: &Name, change: &Change) -> Event {
    let once = |severity, text: String| event(name, severity, text);
    match change {
        Change::Stage { stage, percent } => {
            once(Severity::Info, format!("the canary {name} has {percent} of the clients (stage {})", stage + 1))
        }
        Change::Gate { stage } => {
            let text = format!("the canary {name} waits for `hapilot canary promote {name}` (stage {})", stage + 1);
            once(Severity::Warning, text)
        }
        Change::Held(hold) => {
            let severity = match hold {
                Hold::Operator | Hold::TooLittleData { .. } | Hold::Unproven { .. } => Severity::Info,
                Hold::MetricsLost { .. } | Hold::SharedCause { .. } => Severity::Warning,
            };
            once(severity, format!("the canary {name} is held: {}", hold.in_words()))
        }
        Change::WentOn => once(Severity::Info, format!("the canary {name} goes on")),
        Change::Baking => once(Severity::Info, format!("the canary {name} has all clients, and is watched")),
        Change::Done => {
            let text = format!("the canary {name} is promoted: it has all clients, and nobody watches it any more");
            once(Severity::Info, text)
        }
        Change::RolledBack { reason } => {
            once(Severity::Error, format!("the canary {name} was rolled back: {reason}")).about("rollback")
        }
    }
}

/// Its rules are others: what became of its part.
pub(super) fn edited(name: &Name, rollout: &Rollout, before: Percent) -> Event {
    let (now, stages) = (rollout.percent(), rollout.rules().stages.len());
    let place = match rollout.phase() {
        Phase::Stage(at) | Phase::Gate(at) => format!("stage {} of {stages}", at + 1),
        Phase::Baking => "the bake".to_owned(),
        Phase::Done => "promoted".to_owned(),
        Phase::RolledBack { .. } => "rolled back".to_owned(),
    };
    if now == before {
        let text = format!("the rules of the canary {name} are others: it goes on with {now} of the clients ({place})");
        return event(name, Severity::Info, text);
    }
    let (moved, severity) = match now < before {
        true => ("falls", Severity::Warning),
        false => ("rises", Severity::Info),
    };
    let text = format!(
        "the rules of the canary {name} are others: it {moved} from {before} to {now} of the clients ({place}), since no \
         stage has {before} any more"
    );
    event(name, severity, text)
}

/// It is gone from the file, or has other servers: what becomes of those that it had.
pub(super) fn gone(name: &Name, watched: &Watched, config: &Config) -> Event {
    let freed: Vec<&str> = watched.freed(config).map(Name::as_str).collect();
    let severity = match watched.is_rolled_back() && !freed.is_empty() {
        true => Severity::Warning,
        false => Severity::Info,
    };
    event(name, severity, format!("the canary {name} is gone from the file: {}", becomes(watched, &freed)))
}

/// Only some of its servers are others' now.
pub(super) fn freed(name: &Name, watched: &Watched, config: &Config) -> Option<Event> {
    let freed: Vec<&str> = watched.freed(config).map(Name::as_str).collect();
    let text = || format!("the canary {name} has other servers: {}", becomes(watched, &freed));
    (!freed.is_empty()).then(|| event(name, Severity::Warning, text()))
}

/// A word before an apply of this file, on servers that clients were kept from until now.
pub(super) fn note(name: &Name, watched: &Watched, config: &Config, today: SystemTime) -> Option<String> {
    let freed: Vec<&str> = watched.freed(config).map(Name::as_str).collect();
    if freed.is_empty() || watched.is_promoted() {
        return None;
    }
    let was = match watched.ended_at.and_then(|at| today.duration_since(at).ok()) {
        Some(ago) if watched.is_rolled_back() => format!("rolled back {} ago", ago_text(ago.as_secs())),
        _ if watched.is_rolled_back() => "rolled back".to_owned(),
        _ => format!("{} of the clients until now", watched.percent()),
    };
    let what = becomes(watched, &freed);
    Some(format!(
        "the canary {name} ({was}): {what}; take the server out of the file too, where clients should not have it"
    ))
}

fn becomes(watched: &Watched, freed: &[&str]) -> String {
    let backend = &watched.backend;
    match freed {
        [] if watched.servers.is_empty() => format!("clients of {backend} get the models that they ask for"),
        [] => format!("all clients of {backend} are the control group's"),
        [one] => format!("{one} becomes an ordinary server of {backend}, with its whole share of the clients"),
        many => {
            format!("{} become ordinary servers of {backend}, with their whole share of the clients", many.join(", "))
        }
    }
}

fn ago_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
