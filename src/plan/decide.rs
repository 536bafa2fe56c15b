//! The decision: which files, which runtime commands, or which reload and why.

use super::certificates::{certificate_steps, trust_steps};
use super::reshaped::Reshaped;
use super::{Observed, ReloadReason, Runtime, RuntimeServer, Step, marker, reload_reasons};
use crate::desired::{Desired, DesiredServer};
use crate::model::{AdminState, Digest, Host, ServerId, Weight};
use crate::render::{Maxconn, Rendered, RuntimeNames};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Everything that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What should be served.
    pub desired: &'a Desired,
    /// The same as files.
    pub rendered: &'a Rendered,
    /// What each server is called in HAProxy.
    pub names: &'a BTreeMap<ServerId, RuntimeNames>,
    /// What is there now.
    pub observed: &'a Observed,
    /// The masked text that was loaded last, to name the reasons of a reload; `None` where it is not known.
    pub loaded_structure: Option<&'a str>,
    /// haproxy.cfg on disk, to name what differs in a server's line; empty where there is none.
    pub live_config: &'a str,
    /// The operator allows hapilot to replace a file that is not its own, or that was edited by hand.
    pub may_replace_foreign_file: bool,
    /// Why a reload is needed whatever the structures say: HAProxy refused a runtime change of this apply, or may run an
    /// edit by hand.
    pub reload_instead: Option<&'a str>,
}

/// The smallest change, as a value. Made from one observation; a later one makes it stale.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The worker that was observed; `None` where none ran.
    pub based_on_pid: Option<u32>,
    /// haproxy.cfg as it was observed.
    pub based_on_config: Option<Digest>,
    /// Files that differ, by path relative to the configuration's directory; haproxy.cfg comes last.
    pub files: Vec<FileChange>,
    /// What happens to the running HAProxy.
    pub action: Action,
    /// Why the plan must not be carried out.
    pub obstacles: Vec<Obstacle>,
}

/// One file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// Is not there yet.
    Create(String),
    /// Has other content.
    Replace(String),
    /// Is rendered no more.
    Remove(String),
}

impl FileChange {
    /// The file's path relative to the configuration's directory.
    pub fn path(&self) -> &str {
        match self {
            Self::Create(path) | Self::Replace(path) | Self::Remove(path) => path,
        }
    }
}

/// What happens to the running HAProxy.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It already runs what it should.
    Nothing,
    /// Commands on the admin socket, in this order.
    Runtime(Vec<Step>),
    /// A reload, and why nothing less will do.
    Reload(Vec<ReloadReason>),
    /// Nothing answers on the admin socket: the operator starts it.
    Start,
}

/// A reason not to carry the plan out; each names the way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// haproxy.cfg was not written by hapilot.
    ForeignConfig,
    /// haproxy.cfg was written by hapilot and changed since.
    EditedByHand,
}

impl Plan {
    /// Whether there is nothing to do at all: no file, no command.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && matches!(self.action, Action::Nothing)
    }

    /// A foreign or hand-edited file is about to be replaced.
    pub fn overrules_an_obstacle(&self, observed: &Observed) -> bool {
        let config_changes =
            self.files.iter().any(|file| matches!(file, FileChange::Replace(path) if path == "haproxy.cfg"));
        config_changes && observed.config.as_ref().is_some_and(|file| !file.is_ours || !file.is_intact)
    }

    /// Whether nothing is left but servers that are out already and finish their requests.
    pub fn only_waits(&self) -> bool {
        let waits = |step: &Step| matches!(step, Step::RemoveServer { is_out: true, .. });
        self.files.is_empty() && matches!(&self.action, Action::Runtime(steps) if steps.iter().all(waits))
    }
}

/// Finds the smallest change.
pub fn decide(question: &Question<'_>) -> Plan {
    let Question { rendered, observed, .. } = question;
    let action = match &observed.runtime {
        None => Action::Start,
        Some(runtime) => action_for(question, runtime),
    };
    Plan {
        based_on_pid: observed.runtime.as_ref().map(|runtime| runtime.pid),
        based_on_config: observed.config.as_ref().map(|file| file.digest),
        files: files_that_differ(rendered, observed),
        action,
        obstacles: obstacles(question),
    }
}

fn obstacles(question: &Question<'_>) -> Vec<Obstacle> {
    match &question.observed.config {
        _ if question.may_replace_foreign_file => vec![],
        Some(file) if !file.is_ours => vec![Obstacle::ForeignConfig],
        Some(file) if !file.is_intact => vec![Obstacle::EditedByHand],
        Some(_) | None => vec![],
    }
}

/// Maps, certificates and lists first: a cold start between two writes then finds maps that the configuration may not use
/// yet, never a configuration without its maps.
fn files_that_differ(rendered: &Rendered, observed: &Observed) -> Vec<FileChange> {
    let mut files = Vec::new();
    let maps = rendered.maps.iter().map(|(path, map)| (path, map.text(), observed.maps.get(path)));
    let beside = rendered.beside();
    let maps = maps.map(|(path, text, now)| (path, Digest::of(text), now));
    let lists = beside.iter().map(|(path, bytes)| (path, Digest::of(bytes), observed.lists.get(path)));
    let scripts = rendered.scripts.iter().map(|(path, text)| (path, Digest::of(text), observed.scripts.get(path)));
    for (path, wanted, now) in maps.chain(lists).chain(scripts) {
        match now {
            None => files.push(FileChange::Create(path.clone())),
            Some(digest) if *digest != wanted => files.push(FileChange::Replace(path.clone())),
            Some(_) => {}
        }
    }
    let config = "haproxy.cfg".to_owned();
    match &observed.config {
        None => files.push(FileChange::Create(config)),
        Some(file) if file.digest != rendered.digest() => files.push(FileChange::Replace(config)),
        Some(_) => {}
    }
    let maps = observed.maps.keys().filter(|path| !rendered.maps.contains_key(*path));
    let lists = observed.lists.keys().filter(|path| !beside.contains_key(*path));
    let scripts = observed.scripts.keys().filter(|path| !rendered.scripts.contains_key(*path));
    files.extend(maps.chain(lists).chain(scripts).cloned().map(FileChange::Remove));
    files
}

fn action_for(question: &Question<'_>, runtime: &Runtime) -> Action {
    let mut reasons = structure_reasons(question, runtime);
    reasons.extend(question.reload_instead.map(ReloadReason::whole));
    let mut steps = if reasons.is_empty() { runtime_steps(question, runtime, &mut reasons) } else { vec![] };
    if reasons.is_empty() {
        let buffer = usize::try_from(question.desired.config.haproxy.buffer_bytes.value).unwrap_or(usize::MAX);
        let certificates = &question.observed.certificates;
        let changes = certificate_steps(&question.rendered.lists, certificates, buffer, &mut reasons);
        let trust = trust_steps(&question.rendered.trust, certificates, &mut reasons);
        steps.extend(trust.into_iter().chain(changes).map(Step::Certificate));
    }
    match (reasons.is_empty(), steps.is_empty()) {
        (false, _) => Action::Reload(reasons),
        (true, false) => Action::Runtime(steps),
        (true, true) => Action::Nothing,
    }
}

fn structure_reasons(question: &Question<'_>, runtime: &Runtime) -> Vec<ReloadReason> {
    let wanted = marker(&question.rendered.structure.digest);
    match runtime.description.as_deref() {
        Some(description) if description == wanted => vec![],
        Some(description) if description.starts_with("hapilot ") => match question.loaded_structure {
            Some(loaded) if marker(&Digest::of(loaded)) == description => {
                reload_reasons(loaded, &question.rendered.structure.text())
            }
            Some(_) | None => vec![ReloadReason::whole(format!(
                "the running HAProxy has the structure {}, wanted is {}",
                description.trim_start_matches("hapilot "),
                question.rendered.structure.digest.short()
            ))],
        },
        Some(_) | None => vec![ReloadReason::whole("the running HAProxy was not configured by hapilot")],
    }
}

/// Commands in a safe order: first what lets traffic in (a server that is out gets its address, weight and limit before
/// its state), then data, then what takes traffic away, and last what only tidies up. A backend whose one server
/// replaces another is never without both.
fn runtime_steps(question: &Question<'_>, runtime: &Runtime, reasons: &mut Vec<ReloadReason>) -> Vec<Step> {
    let (mut ready, mut back, mut away, mut later) = (vec![], vec![], vec![], vec![]);
    ready.extend(process_maxconn_step(question, runtime, reasons));
    let mut reshaped = Reshaped::beside(question.live_config);
    for (backend, server) in question.desired.config.servers() {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let (Some(names), Some(wish)) = (question.names.get(&id), question.desired.servers.get(&id)) else { continue };
        let dynamic = question.rendered.dynamic.get(&names.weight).copied();
        let find = |key: &(String, String)| runtime.servers.get(key);
        let (Some(balanced), Some(reached)) = (find(&names.weight), find(&names.address)) else {
            match dynamic {
                Some(_) => back.push(add_step(&names.weight, question.rendered, wish.state)),
                // An operator's template may leave one out: no reload would bring it.
                None if !question.rendered.has_server(&names.weight) => {}
                None => reasons.push(ReloadReason::whole(format!("server {id} is missing in the running HAProxy"))),
            }
            continue;
        };
        if dynamic.is_some_and(|wanted| wanted != balanced.id) {
            reshaped.push(id, &names.weight, balanced.id, question.rendered.words_of(&names.weight));
            continue;
        }
        if let Some(step) = state_step(&names.weight, balanced.admin, wish.state) {
            if wish.state == AdminState::Ready { back.push(step) } else { away.push(step) }
        }
        // Of a server that takes nothing now, everything is set before it may; a weight that rises is help.
        let takes_nothing = balanced.admin != AdminState::Ready || balanced.weight == Weight::ZERO;
        let comes_in = wish.state == AdminState::Ready && takes_nothing;
        let address = match server.url.host {
            Host::Ip(ip) => address_step(&names.address, reached, ip, server.url.port),
            Host::Dns(_) => None,
        };
        let limit = maxconn_step(&names.weight, balanced.maxconn, question.rendered.maxconn.of_server(&names.weight));
        if comes_in { &mut ready } else { &mut later }.extend(address.into_iter().chain(limit));
        let helps = comes_in || (wish.state == AdminState::Ready && wish.weight > balanced.weight);
        let weight = weight_step(&names.weight, balanced.weight, wish.weight);
        if helps { &mut ready } else { &mut later }.extend(weight);
    }
    reasons.extend(reshaped.reasons());
    let maps = question.rendered.maps.iter().filter_map(|(map, file)| {
        let now = runtime.maps.get(map).map(|entries| entries.as_slice()).unwrap_or_default();
        (now != file.entries).then(|| Step::ReplaceMap {
            map: map.clone(),
            from_entries: now.len(),
            entries: file.entries.clone(),
            is_secret: file.is_secret,
        })
    });
    let surplus = surplus_steps(question, runtime);
    ready.into_iter().chain(back).chain(maps).chain(away).chain(later).chain(surplus).collect()
}

/// The weights alone, for what cannot wait for a whole plan: a broken server goes out before the files are written. The
/// last one that takes traffic waits for the plan, which may let another in first.
pub fn weight_steps(
    wishes: &BTreeMap<ServerId, DesiredServer>,
    names: &BTreeMap<ServerId, RuntimeNames>,
    runtime: &Runtime,
) -> Vec<Step> {
    let step = |(id, wish): (&ServerId, &DesiredServer)| {
        let name = &names.get(id)?.weight;
        let now = runtime.servers.get(name)?;
        // Another state is a change of its own, with an order of its own.
        (now.admin == wish.state).then(|| weight_step(name, now.weight, wish.weight))?
    };
    let mut steps: Vec<Step> = wishes.iter().filter_map(step).collect();
    let served = served_after(&steps, runtime);
    steps.retain(|step| match step {
        Step::SetWeight { proxy, to: Weight::ZERO, .. } => served.contains(proxy.as_str()),
        _ => true,
    });
    // Who takes over before who goes.
    steps.sort_by_key(|step| matches!(step, Step::SetWeight { from, to, .. } if to < from));
    steps
}

/// An operator's word on one server, likewise: he asked for it, so it is not weighed against the others.
pub fn word_steps(
    id: &ServerId,
    wish: DesiredServer,
    names: &BTreeMap<ServerId, RuntimeNames>,
    runtime: &Runtime,
) -> Vec<Step> {
    let seen = names.get(id).and_then(|names| Some((&names.weight, runtime.servers.get(&names.weight)?)));
    let Some((name, now)) = seen else { return vec![] };
    let Some(state) = state_step(name, now.admin, wish.state) else { return vec![] };
    let weight = weight_step(name, now.weight, wish.weight);
    // Who comes in has its weight before, who goes has it behind.
    let (before, behind) = if wish.state == AdminState::Ready { (weight, None) } else { (None, weight) };
    before.into_iter().chain([state]).chain(behind).collect()
}

/// The keys alone, likewise: each request with a key that is limited or rejected is an answer that nobody wants. Only
/// where the map has the entries and the form that the templates read; else the plan decides.
pub fn keys_step(map: &str, entries: Vec<(String, String)>, runtime: &Runtime) -> Option<Step> {
    let now = runtime.maps.get(map).filter(|now| ***now != entries)?;
    let has_id =
        |value: &str| value.strip_prefix('k').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_alike = |(now, wanted): (&(String, String), &(String, String))| now.0 == wanted.0 && has_id(&now.1);
    let fits = now.len() == entries.len() && now.iter().zip(&entries).all(is_alike);
    fits.then(|| Step::ReplaceMap { map: map.to_owned(), from_entries: now.len(), entries, is_secret: true })
}

/// The step that gives a map other values, where it has the same keys and is known.
pub fn map_step(map: &str, entries: Vec<(String, String)>, runtime: &Runtime) -> Option<Step> {
    let now = runtime.maps.get(map).filter(|now| ***now != entries)?;
    let fits = now.len() == entries.len() && now.iter().zip(&entries).all(|(now, wanted)| now.0 == wanted.0);
    fits.then(|| Step::ReplaceMap { map: map.to_owned(), from_entries: now.len(), entries, is_secret: false })
}

/// Of the backends that these weights are in, those of which a server takes traffic when they are set.
fn served_after(steps: &[Step], runtime: &Runtime) -> BTreeSet<String> {
    let set = |step: &Step| match step {
        Step::SetWeight { proxy, server, to, .. } => Some(((proxy.clone(), server.clone()), *to)),
        _ => None,
    };
    let set: BTreeMap<(String, String), Weight> = steps.iter().filter_map(set).collect();
    let proxies: BTreeSet<&String> = set.keys().map(|(proxy, _)| proxy).collect();
    let is_served = |proxy: &&String| {
        runtime.servers.of_proxy(proxy).any(|(server, now)| {
            let set = set.get(&((*proxy).clone(), server.clone())).copied();
            now.admin == AdminState::Ready && set.unwrap_or(now.weight) > Weight::ZERO
        })
    };
    proxies.into_iter().filter(is_served).cloned().collect()
}

/// Servers that run in our backends and that nobody wants (any more).
fn surplus_steps<'a>(question: &'a Question<'_>, runtime: &'a Runtime) -> impl Iterator<Item = Step> + 'a {
    let wanted: BTreeSet<(&str, &str)> = question
        .names
        .values()
        .flat_map(|names| [&names.weight, &names.address])
        .map(|(proxy, server)| (proxy.as_str(), server.as_str()))
        .collect();
    let ours: BTreeSet<&str> = question.desired.config.backends.iter().map(|backend| backend.name.as_str()).collect();
    let is_surplus = move |proxy: &str, server: &str| ours.contains(proxy) && !wanted.contains(&(proxy, server));
    let surplus = runtime.servers.iter().filter(move |(proxy, server, _)| is_surplus(proxy, server));
    surplus.map(|(proxy, server, now)| Step::RemoveServer {
        proxy: proxy.clone(),
        server: server.clone(),
        is_out: now.admin == AdminState::Maint,
    })
}

fn add_step(name: &(String, String), rendered: &Rendered, state: AdminState) -> Step {
    let (proxy, server) = name.clone();
    Step::AddServer { proxy, server, words: rendered.words_of(name).to_vec(), state }
}

fn state_step(name: &(String, String), from: AdminState, to: AdminState) -> Option<Step> {
    let (proxy, server) = name.clone();
    (from != to).then_some(Step::SetState { proxy, server, from, to })
}

fn weight_step(name: &(String, String), from: Weight, to: Weight) -> Option<Step> {
    let (proxy, server) = name.clone();
    (from != to).then_some(Step::SetWeight { proxy, server, from, to })
}

fn maxconn_step(name: &(String, String), from: u32, to: Option<u32>) -> Option<Step> {
    let (proxy, server) = name.clone();
    to.filter(|to| *to != from).map(|to| Step::SetMaxconn { proxy, server, from, to })
}

/// HAProxy reserves what its connections need when it starts, so it takes any number up to the one that it began with.
fn process_maxconn_step(question: &Question<'_>, now: &Runtime, reasons: &mut Vec<ReloadReason>) -> Option<Step> {
    let to = question.rendered.maxconn.process.filter(|to| *to != now.maxconn)?;
    if to > now.most_maxconn {
        // Began with this very file and less all the same (`haproxy -n`): a reload would not change it.
        if Maxconn::stated_in(question.live_config).process == Some(to) {
            return None;
        }
        reasons.push(ReloadReason::whole(format!(
            "maxconn of the process becomes {to}: without a reload it only goes up to the {} that it started with",
            now.most_maxconn
        )));
        return None;
    }
    Some(Step::SetProcessMaxconn { from: now.maxconn, to })
}

fn address_step(name: &(String, String), now: &RuntimeServer, to: IpAddr, port: u16) -> Option<Step> {
    if now.address.parse() == Ok(to) && now.port == port {
        return None;
    }
    let (proxy, server) = name.clone();
    let from = match now.address.parse::<IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, now.port).to_string(),
        Err(_) => format!("{}:{}", now.address, now.port),
    };
    Some(Step::SetAddress { proxy, server, from, to, port })
}
