//! What somebody else changed in the running HAProxy, or in the files, since we last left them as they should be.
//!
//! Pure. A step is our own news where HAProxy still has what we left; it corrects drift where HAProxy has something
//! else. Called by `agent` before it carries a plan out (invariant I12).

use super::decide::Action;
use super::step::limit;
use super::{FileChange, Observed, Plan, Runtime, Step};
use crate::model::Digest;
use std::collections::BTreeMap;

/// What HAProxy and the maps on disk were like when nothing was left to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    runtime: Option<Runtime>,
    files: BTreeMap<String, Digest>,
}

impl Expectation {
    /// As it was observed when the plan was empty.
    pub fn of(observed: &Observed) -> Self {
        Self { runtime: observed.runtime.clone(), files: files(observed) }
    }

    /// Notes steps of our own that the worker has taken over since: going on from them corrects nobody.
    pub fn took(&mut self, steps: &[Step]) {
        if let Some(runtime) = &mut self.runtime {
            runtime.took(steps);
        }
    }
}

/// Maps, lists and certificates on disk.
fn files(observed: &Observed) -> BTreeMap<String, Digest> {
    observed
        .maps
        .iter()
        .chain(&observed.lists)
        .chain(&observed.scripts)
        .map(|(path, digest)| (path.clone(), *digest))
        .collect()
}

/// One line for each correction that the plan makes, without secrets: who differs and where.
pub fn drift(expected: &Expectation, observed: &Observed, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Action::Runtime(steps), Some(left), Some(now)) = (&plan.action, &expected.runtime, &observed.runtime) {
        lines.extend(steps.iter().filter_map(|step| correction(step, left, now)));
    }
    let now = files(observed);
    let by_hand = plan.files.iter().filter_map(|change| {
        let path = change.path();
        let is_whole = path != "haproxy.cfg" && expected.files.get(path) != now.get(path);
        is_whole.then(|| match change {
            FileChange::Create(_) => format!("file {path}: it was removed, put back"),
            FileChange::Replace(_) => format!("file {path}: it was edited by hand, put back"),
            FileChange::Remove(_) => format!("file {path}: it is not one of hapilot's, removed"),
        })
    });
    lines.extend(by_hand);
    lines
}

fn correction(step: &Step, left: &Runtime, now: &Runtime) -> Option<String> {
    let before = |proxy: &String, server: &String| left.servers.get(&(proxy.clone(), server.clone()));
    match step {
        Step::SetWeight { proxy, server, from, to } => {
            let is_ours = before(proxy, server).is_none_or(|before| before.weight == *from);
            (!is_ours).then(|| format!("weight {proxy}/{server}: HAProxy {from}, wanted {to}"))
        }
        Step::SetState { proxy, server, from, to } => {
            let is_ours = before(proxy, server).is_none_or(|before| before.admin == *from);
            (!is_ours).then(|| format!("state {proxy}/{server}: HAProxy {from}, wanted {to}"))
        }
        Step::SetMaxconn { proxy, server, from, to } => {
            let is_ours = before(proxy, server).is_none_or(|before| before.maxconn == *from);
            (!is_ours).then(|| format!("maxconn {proxy}/{server}: HAProxy {}, wanted {}", limit(*from), limit(*to)))
        }
        Step::SetProcessMaxconn { from, to } => {
            (left.maxconn != *from).then(|| format!("maxconn of the process: HAProxy {from}, wanted {to}"))
        }
        Step::SetAddress { proxy, server, from, to, port } => {
            let current = now.servers.get(&(proxy.clone(), server.clone()));
            let is_same = |before: &super::RuntimeServer| {
                current.is_some_and(|now| (&now.address, now.port) == (&before.address, before.port))
            };
            let wanted = std::net::SocketAddr::new(*to, *port);
            let is_ours = before(proxy, server).is_none_or(is_same);
            (!is_ours).then(|| format!("address {proxy}/{server}: HAProxy {from}, wanted {wanted}"))
        }
        // A renewed file is the operator's news; what runs is compared with it, not with what ran.
        Step::Certificate(_) => None,
        Step::AddServer { proxy, server, .. } => {
            before(proxy, server).map(|_| format!("server {proxy}/{server}: HAProxy lacks it, added again"))
        }
        Step::RemoveServer { proxy, server, .. } => match before(proxy, server) {
            Some(_) => None,
            None => Some(format!("server {proxy}/{server}: somebody added it, removed")),
        },
        Step::ReplaceMap { map, is_secret, .. } => {
            let (before, now) = (left.maps.get(map)?, now.maps.get(map)?);
            (before != now).then(|| format!("map {map}: {}", entries(before, now, *is_secret)))
        }
    }
}

/// What differs between two contents of a map: the first key, where it is no secret.
fn entries(left: &[(String, String)], now: &[(String, String)], is_secret: bool) -> String {
    let (added, missing) = (not_in(now, left), not_in(left, now));
    let first = added.first().map(|key| ("has", key)).or_else(|| missing.first().map(|key| ("lacks", key)));
    match first {
        Some((word, key)) if !is_secret => {
            let more = (added.len() + missing.len()).saturating_sub(1);
            let more = if more == 0 { String::new() } else { format!(" and {more} more differ") };
            format!("HAProxy {word} {key}{more}")
        }
        Some(_) => format!("HAProxy differs in {} entries (secret)", added.len().max(missing.len())),
        None => "HAProxy has another order".to_owned(),
    }
}

/// Entries of the first that the second has not, as `key → value`.
fn not_in(first: &[(String, String)], second: &[(String, String)]) -> Vec<String> {
    let known: std::collections::BTreeSet<_> = second.iter().collect();
    first.iter().filter(|entry| !known.contains(entry)).map(|(key, value)| format!("{key} → {value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AdminState, OperState, Weight};
    use crate::plan::{RuntimeServer, RuntimeServers};
    use std::sync::Arc;

    fn observed(weight: u16, admin: AdminState, entries: &[(&str, &str)]) -> Observed {
        let server = RuntimeServer {
            id: 1,
            weight: Weight::new(weight).unwrap(),
            maxconn: 0,
            admin,
            oper: OperState::Up,
            address: "192.0.2.1".to_owned(),
            port: 80,
            fqdn: None,
        };
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let map = "maps/routes.map".to_owned();
        Observed {
            scripts: BTreeMap::new(),
            config: None,
            lists: BTreeMap::new(),
            certificates: crate::plan::RuntimeCertificates::default(),
            maps: BTreeMap::from([(map.clone(), Digest::of("map"))]),
            runtime: Some(Runtime {
                pid: 1,
                version: "3.2.0".parse().unwrap(),
                description: None,
                uptime_s: 1,
                maxconn: 1000,
                most_maxconn: 1000,
                servers: RuntimeServers::from_iter([(("chat".to_owned(), "a".to_owned()), server)]),
                maps: BTreeMap::from([(map, Arc::new(entries))]),
                master: None,
            }),
        }
    }

    fn plan(steps: Vec<Step>, files: Vec<FileChange>) -> Plan {
        let action = if steps.is_empty() { Action::Nothing } else { Action::Runtime(steps) };
        Plan { based_on_pid: Some(1), based_on_config: None, files, action, obstacles: vec![] }
    }

    fn weight(from: u16, to: u16) -> Step {
        let [from, to] = [from, to].map(|weight| Weight::new(weight).unwrap());
        Step::SetWeight { proxy: "chat".to_owned(), server: "a".to_owned(), from, to }
    }

    fn map(is_secret: bool) -> Step {
        Step::ReplaceMap { map: "maps/routes.map".to_owned(), from_entries: 1, entries: vec![], is_secret }
    }

    #[test]
    fn a_step_from_what_we_left_is_our_own_news() {
        let left = observed(100, AdminState::Ready, &[("/v1", "chat")]);
        let expected = Expectation::of(&left);
        assert!(drift(&expected, &left, &plan(vec![weight(100, 40), map(false)], vec![])).is_empty());
    }

    #[test]
    fn a_step_from_what_was_sent_ahead_is_our_own_news() {
        let mut expected = Expectation::of(&observed(100, AdminState::Ready, &[("/v1", "chat")]));
        let ahead = Step::ReplaceMap {
            map: "maps/routes.map".to_owned(),
            from_entries: 1,
            entries: vec![("/v1".to_owned(), "other".to_owned())],
            is_secret: true,
        };
        expected.took(&[weight(100, 40), ahead]);
        let now = observed(40, AdminState::Ready, &[("/v1", "other")]);
        assert!(drift(&expected, &now, &plan(vec![weight(40, 70), map(true)], vec![])).is_empty());
        let by_hand = observed(5, AdminState::Ready, &[("/v1", "chat")]);
        assert_eq!(drift(&expected, &by_hand, &plan(vec![weight(5, 70), map(true)], vec![])).len(), 2);
    }

    #[test]
    fn a_step_from_something_else_names_what_differs() {
        let expected = Expectation::of(&observed(100, AdminState::Ready, &[("/v1", "chat")]));
        let now = observed(5, AdminState::Drain, &[("/v1", "other")]);
        let state = Step::SetState {
            proxy: "chat".to_owned(),
            server: "a".to_owned(),
            from: AdminState::Drain,
            to: AdminState::Ready,
        };
        let lines = drift(&expected, &now, &plan(vec![weight(5, 100), state, map(false)], vec![]));
        assert_eq!(
            lines,
            [
                "weight chat/a: HAProxy 5, wanted 100",
                "state chat/a: HAProxy drain, wanted ready",
                "map maps/routes.map: HAProxy has /v1 → other and 1 more differ",
            ]
        );
        let name = |text: &str| text.to_owned();
        let limits = vec![
            Step::SetMaxconn { proxy: name("chat"), server: name("a"), from: 9, to: 0 },
            Step::SetProcessMaxconn { from: 500, to: 1000 },
        ];
        let lines = drift(&expected, &now, &plan(limits, vec![]));
        assert_eq!(
            lines,
            ["maxconn chat/a: HAProxy 9, wanted none", "maxconn of the process: HAProxy 500, wanted 1000"]
        );
        let secret = drift(&expected, &now, &plan(vec![map(true)], vec![]));
        assert_eq!(secret, ["map maps/routes.map: HAProxy differs in 1 entries (secret)"]);
    }

    #[test]
    fn a_map_that_was_edited_on_disk_is_named_and_our_own_change_is_not() {
        let mut now = observed(100, AdminState::Ready, &[]);
        let expected = Expectation::of(&now);
        let replace = vec![FileChange::Replace("maps/routes.map".to_owned())];
        assert!(drift(&expected, &now, &plan(vec![], replace.clone())).is_empty());
        now.maps.insert("maps/routes.map".to_owned(), Digest::of("by hand"));
        let lines = drift(&expected, &now, &plan(vec![], replace));
        assert_eq!(lines, ["file maps/routes.map: it was edited by hand, put back"]);
    }
}
