//! What becomes of a canary's servers where the file takes them out of it: a word before, an event after.

use super::telling::event;
use super::watched::Watched;
use crate::config::Config;
use crate::event::{Event, Severity};
use crate::model::Name;
use crate::rollout::Percent;
use std::time::SystemTime;

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

/// It has other servers or models, and begins anew.
pub(super) fn another(name: &Name, before: &Watched) -> Option<Event> {
    let had = before.percent();
    let text = || {
        format!("the servers or models of the canary {name} are others: it begins anew, and had {had} of the clients")
    };
    (had > Percent::NONE).then(|| event(name, Severity::Info, text()))
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
