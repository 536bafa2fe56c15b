//! What must hold when nothing is disturbed any more.

use super::loaded::{Admin, Key, Loaded, Server};
use super::model::Deeds;
use super::watch::Files;
use super::world::{Broken, World};
use hapilot::agent::{Node, render_files};
use hapilot::desired::Desired;
use hapilot::model::{AdminState, Host, ServerId, Weight};
use hapilot::render;
use std::collections::{BTreeMap, BTreeSet};

/// Refuses with words.
macro_rules! demand {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
pub(super) use demand;

/// What each server should be like: by its name for weight and state, and by its name for the address.
pub struct Target {
    pub weights: BTreeMap<Key, (u16, Admin)>,
    pub addresses: BTreeMap<Key, (String, u16)>,
    /// By the same name as the weight; 0 is no limit.
    pub limits: BTreeMap<Key, u32>,
}

impl Target {
    /// Backends of which at least one server should take traffic.
    pub fn usable(&self) -> BTreeSet<String> {
        let takes = |(_, (weight, admin)): &(&Key, &(u16, Admin))| *weight > 0 && *admin == Admin::Ready;
        self.weights.iter().filter(takes).map(|((backend, _), _)| backend.clone()).collect()
    }
}

fn desired(node: &Node) -> Desired {
    let decided = |id: ServerId| node.steering.fleet.view().decision(&id).map(|decision| (id, decision.weight));
    let ids = node.serving.config.servers().map(|(backend, s)| ServerId::new(backend.name.clone(), s.name.clone()));
    let weights: BTreeMap<ServerId, Weight> = ids.filter_map(decided).collect();
    let sources = &node.serving;
    let (secrets, certificates) = (sources.secrets.clone(), sources.certificates.clone());
    let mut desired =
        Desired::new(sources.config.clone(), &weights, &node.steering.overrides.wishes(), secrets, certificates);
    desired.active_keys = node.steering.keyring.active_keys();
    desired.spread_keys = node.steering.keyring.spread_keys();
    desired
}

/// What should be served, by what the operator wrote and said and by what health decided last.
pub fn target(node: &Node) -> Target {
    let desired = desired(node);
    let names = render::runtime_names(&desired.config);
    let (mut weights, mut addresses, mut limits) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (backend, server) in desired.config.servers() {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let (wish, names) = (desired.servers[&id], &names[&id]);
        let admin = match wish.state {
            AdminState::Ready => Admin::Ready,
            AdminState::Drain => Admin::Drain,
            AdminState::Maint => Admin::Maint,
        };
        weights.insert(names.weight.clone(), (wish.weight.get(), admin));
        limits.insert(names.weight.clone(), server.maxconn.as_ref().map_or(0, |limit| limit.value));
        if let Host::Ip(ip) = server.url.host {
            addresses.insert(names.address.clone(), (ip.to_string(), server.url.port));
        }
    }
    Target { weights, addresses, limits }
}

/// Everything is as it should be: HAProxy, the files, and both alike.
pub async fn converged(world: &World) -> Result<(), Broken> {
    let node = world.node.as_ref().expect("an agent runs");
    let text = fs_err::read_to_string(world.directory.join("hapilot.toml")).expect("the operator's file");
    demand!(node.serving.toml == text, "another file serves than the operator's");
    let disk = Loaded::read(&world.directory)?;
    let rendered = render_files(&node.serving, &desired(node)).await.map_err(|e| e.to_string())?;
    let maps = rendered.maps.iter().map(|(path, map)| (world.directory.join(path), map.text().into_bytes()));
    let mut files: Files = maps.collect();
    files.insert(world.directory.join("haproxy.cfg"), rendered.haproxy_cfg.clone().into_bytes());
    for (path, found) in world.files() {
        demand!(files.remove(&path).as_ref() == Some(&found), "{path} on disk is not what is rendered");
    }
    demand!(files.is_empty(), "files are missing on disk: {:?}", files.keys());

    let mut haproxy = world.haproxy.borrow_mut();
    let worker = haproxy.worker();
    let target = target(node);
    for (key, (weight, admin)) in &target.weights {
        let found = worker.loaded.servers.get(key).ok_or_else(|| format!("HAProxy has no server {key:?}"))?;
        let is_so = (found.weight, found.admin) == (*weight, *admin);
        demand!(is_so, "{key:?} is {} {:?}, wanted {weight} {admin:?}", found.weight, found.admin);
    }
    for (key, limit) in &target.limits {
        let found = worker.loaded.servers[key].maxconn;
        demand!(found == *limit, "{key:?} has maxconn {found}, wanted {limit}");
    }
    for (key, (address, port)) in &target.addresses {
        let found = &worker.loaded.servers[key];
        let is_so = (&found.address, found.port) == (address, *port);
        demand!(is_so, "{key:?} is at {}:{}, wanted {address}:{port}", found.address, found.port);
    }
    let key = worker.loaded.maps.get("maps/keys.map").and_then(|map| map.iter().find(|(key, _)| key == "keyed/k0"));
    let wanted = format!("k1 sk-0-{}", world.wanted.key);
    demand!(key.is_some_and(|(_, value)| *value == wanted), "the key of keyed/k0 is not {wanted}");
    for (key, server) in &worker.loaded.servers {
        let is_known = disk.servers.contains_key(key);
        demand!(is_known || server.admin == Admin::Maint, "{key:?} is nobody's server and takes traffic");
        demand!(is_known || worker.is_busy, "{key:?} is nobody's server and was not removed");
    }
    reload_changes_nothing(&worker.loaded, &disk)
}

/// The files give the same HAProxy as the one that runs.
fn reload_changes_nothing(runs: &Loaded, disk: &Loaded) -> Result<(), Broken> {
    demand!(runs.description == disk.description, "runs {}, on disk is {}", runs.description, disk.description);
    demand!(runs.maxconn == disk.maxconn, "the process has maxconn {}, on disk is {}", runs.maxconn, disk.maxconn);
    for (map, content) in &disk.maps {
        demand!(runs.maps.get(map) == Some(content), "{map}: {:?} runs, on disk is {content:?}", runs.maps.get(map));
    }
    let differs = runs.structure.iter().zip(&disk.structure).find(|(a, b)| a != b);
    demand!(differs.is_none(), "the structure differs: {differs:?}");
    let served = |server: &Server| {
        // A drained server is one with weight 0 in the file.
        let is_out = server.admin == Admin::Maint;
        (server.share(), is_out, server.maxconn, server.clone().words, server.is_checked)
    };
    for (key, after) in &disk.servers {
        let before = runs.servers.get(key).ok_or_else(|| format!("{key:?} is on disk only"))?;
        let (a, b) = (served(before), served(after));
        demand!(a == b, "a reload changes {key:?} from {a:?} to {b:?}");
        let place = |server: &Server| (server.address.clone(), server.port, server.fqdn.clone());
        demand!(place(before) == place(after), "a reload moves {key:?} from {:?} to {:?}", place(before), place(after));
        let has_shape = after.words.iter().any(|word| word == "id") || before.id == after.id || before.fqdn.is_some();
        demand!(has_shape, "{key:?} has the id {} and {} on disk", before.id, after.id);
    }
    Ok(())
}

/// Traffic was safe all the way: what could serve before and after, could serve in between.
pub fn traffic_was_safe(usable: &[String], target: &Target, deeds: &Deeds) -> Result<(), Broken> {
    let after = target.usable();
    // A server that HAProxy does not make ready keeps no other from going: that may be broken.
    let is_helpless = deeds.refused.iter().any(|refused| refused.starts_with("set server "));
    for (backend, command) in &deeds.emptied {
        let had_to_serve = usable.contains(backend) && after.contains(backend) && !is_helpless;
        demand!(!had_to_serve, "`{command}` left backend {backend} without a server, among {:#?}", deeds.changes);
    }
    let is_unlimited = deeds.refused.iter().any(|refused| refused.starts_with("set maxconn "));
    for (key, Server { address, port, maxconn, .. }) in &deeds.let_in {
        let wanted = target.addresses.get(key);
        let is_right = wanted.is_none_or(|wanted| *wanted == (address.clone(), *port));
        demand!(is_right, "{key:?} took traffic at {address}:{port}, wanted {wanted:?}: {:#?}", deeds.changes);
        let wanted = target.limits.get(key);
        let is_right = is_unlimited || wanted.is_none_or(|wanted| wanted == maxconn);
        demand!(is_right, "{key:?} took traffic with maxconn {maxconn}, wanted {wanted:?}: {:#?}", deeds.changes);
    }
    Ok(())
}
