//! Which backends cannot serve, and why: found anew in each picture, told once when it begins and once when it is over.
//!
//! Pure but for the log. Called by the loop with each snapshot.

use super::bulletin::Bulletin;
use super::snapshot::{BackendSnapshot, ServerSnapshot, Snapshot};
use crate::event::{Event, Kind, Severity};
use crate::model::format_duration;
use crate::model::{AdminState, OperState, Weight};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many reasons are told; the rest is counted.
const MAX_REASONS: usize = 3;

/// Why no server of a backend can take a request; `None` where one can, as far as anybody knows.
pub(super) fn of(servers: &[ServerSnapshot]) -> Option<String> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for server in servers {
        let why = is_out(server)?;
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(server.id.server.as_str()),
            None => reasons.push((why, vec![server.id.server.as_str()])),
        }
    }
    let told = reasons.iter().take(MAX_REASONS).map(|(why, names)| match (names.as_slice(), servers.len()) {
        ([name], _) => format!("{name}: {why}"),
        (names, all) if names.len() == all => format!("all {all} servers: {why}"),
        (names, _) if names.len() <= MAX_REASONS => format!("{}: {why}", names.join(", ")),
        (names, _) => format!("{} servers: {why}", names.len()),
    });
    let left: usize = reasons.iter().skip(MAX_REASONS).map(|(_, names)| names.len()).sum();
    let left = (left > 0).then(|| format!("and {left} more"));
    (!servers.is_empty()).then(|| told.chain(left).collect::<Vec<_>>().join("; "))
}

/// Why this server takes no request, by whoever says so first: the operator, HAProxy, health, keys, the weight.
fn is_out(server: &ServerSnapshot) -> Option<String> {
    let ServerSnapshot { admin, runtime, health, word, .. } = server;
    if *admin != AdminState::Ready {
        return Some(word.as_ref().map_or_else(|| format!("{admin} in the file"), Clone::clone));
    }
    if let Some(runtime) = runtime.as_ref().filter(|runtime| runtime.admin != AdminState::Ready) {
        return Some(format!("HAProxy has it in {}", runtime.admin));
    }
    if let Some(health) = health {
        // Real requests that succeed know better than a probe.
        if health.state == "unhealthy" && !health.is_proven_by_traffic {
            return Some(health.reason.clone());
        }
        if let Some(why) = &health.keyless {
            return Some(format!("no usable key: {why}"));
        }
    }
    let runtime = runtime.as_ref()?;
    match runtime.oper {
        OperState::Down => return Some("HAProxy's own check says that it is down".to_owned()),
        OperState::Unresolved => return Some("HAProxy has no address for it: its name does not resolve".to_owned()),
        OperState::Starting | OperState::Up | OperState::Stopping => {}
    }
    (runtime.weight == Weight::ZERO).then(|| word.as_ref().map_or_else(|| "its weight is 0".to_owned(), Clone::clone))
}

/// The outages that the log knows.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<String, Timestamp>);

impl Outages {
    /// Tells what began and what is over, and notes in the picture since when each lasts.
    pub fn tell(&mut self, snapshot: &mut Snapshot, now: Timestamp, bulletin: &Bulletin) {
        // Without a HAProxy no backend serves; that is said as one thing, and not for each backend.
        if snapshot.haproxy.is_none() {
            return;
        }
        for BackendSnapshot { name, outage, .. } in &mut snapshot.backends {
            match (outage, self.0.get(name).copied()) {
                (Some(outage), Some(since)) => outage.since = Some(since),
                (Some(outage), None) => {
                    outage.since = Some(now);
                    self.0.insert(name.clone(), now);
                    let text = format!("backend {name} cannot serve");
                    bulletin.tell(Event::begins(Kind::Outage, Severity::Error, name, text).because(&outage.why));
                }
                (None, Some(since)) => {
                    self.0.remove(name);
                    let lasted = now.duration_since(since).as_secs().unsigned_abs();
                    let text =
                        format!("backend {name} serves again, after {}", format_duration(Duration::from_secs(lasted)));
                    bulletin.tell(Event::ends(Kind::Outage, name, text));
                }
                (None, None) => {}
            }
        }
        let backends = &snapshot.backends;
        self.0.retain(|name, _| backends.iter().any(|backend| backend.name == *name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{HealthParams, ServerHealth};
    use crate::model::Moment;
    use crate::plan::RuntimeServer;

    fn server(name: &str) -> ServerSnapshot {
        let health = ServerHealth::new(HealthParams::default(), Moment::default(), 1).snapshot(Moment::default());
        ServerSnapshot {
            id: format!("chat/{name}").parse().expect("an id"),
            url: "http://127.0.0.1:1".to_owned(),
            tier: 1,
            base: Weight::clamped(100.0),
            admin: AdminState::Ready,
            weight: Weight::clamped(100.0),
            decision: None,
            runtime: Some(RuntimeServer {
                id: 1,
                weight: Weight::clamped(100.0),
                maxconn: 0,
                admin: AdminState::Ready,
                oper: OperState::Up,
                address: "127.0.0.1".to_owned(),
                port: 1,
                fqdn: None,
            }),
            health: Some(health),
            word: None,
            keys: vec![],
            key_rotations: 0,
        }
    }

    fn broken(name: &str, breakage: impl FnOnce(&mut ServerSnapshot)) -> ServerSnapshot {
        let mut server = server(name);
        breakage(&mut server);
        server
    }

    fn refuses(server: &mut ServerSnapshot) {
        let health = server.health.as_mut().expect("a health");
        (health.state, health.reason) = ("unhealthy", "refused".to_owned());
    }

    #[test]
    fn whatever_takes_a_server_out_counts_and_one_that_can_serve_is_enough() {
        let runtime = |server: &mut ServerSnapshot, change: fn(&mut RuntimeServer)| {
            change(server.runtime.as_mut().expect("a runtime"));
        };
        let out = [
            (broken("a", refuses), "a: refused"),
            (broken("a", |s| runtime(s, |r| r.oper = OperState::Down)), "a: HAProxy's own check says that it is down"),
            (
                broken("a", |s| runtime(s, |r| r.oper = OperState::Unresolved)),
                "a: HAProxy has no address for it: its name does not resolve",
            ),
            (broken("a", |s| runtime(s, |r| r.admin = AdminState::Maint)), "a: HAProxy has it in maint"),
            (broken("a", |s| runtime(s, |r| r.weight = Weight::ZERO)), "a: its weight is 0"),
            (broken("a", |s| s.admin = AdminState::Drain), "a: drain in the file"),
            (
                broken("a", |s| s.health.as_mut().expect("a health").keyless = Some("k1 was rejected".to_owned())),
                "a: no usable key: k1 was rejected",
            ),
        ];
        for (server_out, why) in out {
            assert_eq!(of(std::slice::from_ref(&server_out)).as_deref(), Some(why));
            assert_eq!(of(&[server_out, server("b")]), None, "b serves");
        }
    }

    #[test]
    fn a_server_that_clients_are_served_by_is_not_out_because_a_probe_dislikes_it() {
        let served = broken("a", |server| {
            refuses(server);
            server.health.as_mut().expect("a health").is_proven_by_traffic = true;
        });
        assert_eq!(of(&[served]), None);
    }

    #[test]
    fn what_nobody_knows_is_no_outage() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[broken("a", |server| (server.runtime, server.health) = (None, None))]), None);
    }

    #[test]
    fn many_servers_are_told_in_few_words() {
        let all: Vec<_> = (0..1200).map(|n| broken(&format!("s{n}"), refuses)).collect();
        assert_eq!(of(&all).as_deref(), Some("all 1200 servers: refused"));
        let each: Vec<_> = (0..9)
            .map(|n| {
                broken(&format!("s{n}"), |server| {
                    refuses(server);
                    server.health.as_mut().expect("a health").reason = format!("reason {n}");
                })
            })
            .collect();
        assert_eq!(of(&each).as_deref(), Some("s0: reason 0; s1: reason 1; s2: reason 2; and 6 more"));
    }
}
