//! The clients of the file that `clients` names: read and judged; and those that serve already, where it has mistakes.
//!
//! Reads, never writes. Called by `place`.

use crate::agent::tell::refusal::{At, Refusal};
use crate::config::{self, Client, Clients, Config};
use crate::event::{Event, EventKind, Severity};
use crate::model::{Digest, Name, Origin, Sourced};
use crate::render::{CERTIFICATE_MARK, CLIENTS_MAP};
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Largest file of clients, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Largest map of them: 40,000 clients with two keys each and the longest names.
const MAX_MAP: u64 = 20 << 20;
/// So many changes are told one by one; the rest is counted.
const MAX_TOLD: usize = 20;

/// All clients, or why those of the clients' file cannot be served.
pub(super) fn read(file: &Utf8Path, config: &Config) -> Result<Clients, Refusal> {
    let Some(path) = &config.clients_file else { return Ok(Clients::new(&config.clients, vec![])) };
    let text = sys::files::read_limited(path, MAX_FILE).map_err(|e| e.to_string());
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.value)));
    let text = text.map_err(|e| {
        let told = crate::agent::tell::refusal::Objection::new(format!("the clients cannot be read: {e}"));
        let told = told.at(At::origin(file, path.origin));
        let help = "make the file; an empty one lets nobody in until `hapilot client add` adds a client";
        Refusal::from(if path.exists() { told } else { told.help(help) })
    })?;
    let clients = config::parse_clients(path.as_str(), &text, config).map_err(Refusal::mistakes)?;
    Ok(Clients::new(&config.clients, clients))
}

/// Those that HAProxy was given last, as its map has them. `None` where there is no map, or where one of them has a plan
/// that is no more: nobody is shut out by the way.
pub(super) fn serving(config: &Config) -> Option<Clients> {
    let map = config.haproxy.config.value.with_file_name("").join(CLIENTS_MAP);
    let text = String::from_utf8(sys::files::read_limited(&map, MAX_MAP).ok()?).ok()?;
    let mut clients: BTreeMap<Name, Client> = BTreeMap::new();
    let origin = Origin { line: 1, column: 1 };
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(digest), Some(name), Some(plan)) = (words.next(), words.next(), words.next()) else { continue };
        let (digest, is_certificate) = match digest.strip_prefix(CERTIFICATE_MARK) {
            Some(digest) => (digest, true),
            None => (digest, false),
        };
        let (Ok(digest), Ok(name), Ok(plan)) = (digest.parse::<Digest>(), Name::new(name), Name::new(plan)) else {
            continue;
        };
        if config.clients.binary_search_by(|client| client.name.value.cmp(&name)).is_ok() {
            continue;
        }
        if !config.has_plan(&plan) {
            return None;
        }
        let until =
            words.next().and_then(|second| second.parse().ok()).and_then(|second| Timestamp::from_second(second).ok());
        let digest = Sourced::new(digest, origin);
        let client = clients.entry(name.clone()).or_insert_with(|| Client {
            name: Sourced::new(name, origin),
            plan: Sourced::new(plan, origin),
            key: None,
            certificates: vec![],
            old_key: None,
            budget_since: None,
        });
        match until {
            _ if is_certificate => client.certificates.push(digest),
            Some(until) => client.old_key = Some((digest, until)),
            None => client.key = Some(digest),
        }
    }
    Some(Clients::new(&config.clients, clients.into_values().collect()))
}

/// What became of clients, an event each; never a key.
pub(in crate::agent) fn changes(before: &Clients, after: &Clients) -> Vec<Event> {
    // The loop asks at every change of what serves, and mostly nothing is new.
    if before.iter().eq(after.iter()) {
        return vec![];
    }
    fn by_name(clients: &Clients) -> BTreeMap<&Name, &Client> {
        clients.iter().map(|client| (&client.name.value, client)).collect()
    }
    let (before, after) = (by_name(before), by_name(after));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (*name, "it is revoked".to_owned()));
    let others = after.iter().filter_map(|(name, client)| {
        let text = match before.get(name) {
            None => format!("it may ask, with plan {}", client.plan.value),
            Some(known) if known.key != client.key => match &client.old_key {
                Some((_, until)) => format!("it has a new key; the one before is good until {until}"),
                None => "it has a new key; the one before is refused".to_owned(),
            },
            Some(known) if known.certificates != client.certificates => "it is known by another certificate".to_owned(),
            Some(known) if known.plan != client.plan => {
                format!("its plan is {}, and was {}", client.plan.value, known.plan.value)
            }
            Some(known) if known.old_key != client.old_key => {
                "its old key is another, or good until another time".to_owned()
            }
            Some(known) if known.budget_since != client.budget_since && client.budget_since.is_some() => {
                "what it has spent is forgiven: its budget begins anew".to_owned()
            }
            Some(_) => return None,
        };
        Some((*name, text))
    });
    let all: Vec<_> = gone.chain(others).collect();
    let told = all
        .iter()
        .take(MAX_TOLD)
        .map(|(name, text)| Event::once(EventKind::Client, Severity::Info, format!("client/{name}"), text));
    let left = all.len().saturating_sub(MAX_TOLD);
    let rest = (left > 0).then(|| {
        Event::once(
            EventKind::Client,
            Severity::Info,
            "clients",
            format!("{left} more clients were added, changed or revoked"),
        )
    });
    told.chain(rest).collect()
}
