//! One worker process: its state in memory, and what each command on the admin socket does to it.
//!
//! The replies are those that real workers give; a command that is not known here is a mistake of the model or of the
//! code, and ends the test.

use super::loaded::{Admin, Key, Loaded, Map, entries, server};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Worker {
    pub loaded: Loaded,
    /// The process's maxconn at its start: it goes up no further.
    pub most_maxconn: u32,
    /// On its way out.
    pub is_stopping: bool,
    /// Requests keep removed servers busy: they cannot be deleted.
    pub is_busy: bool,
    /// Map versions that are prepared and not committed.
    prepared: BTreeMap<(String, u32), Map>,
    next_version: u32,
}

/// What a command does.
pub enum Effect {
    Asks,
    Changes,
}

impl Worker {
    pub fn new(loaded: Loaded) -> Self {
        let most_maxconn = loaded.maxconn;
        Self { loaded, most_maxconn, is_stopping: false, is_busy: false, prepared: BTreeMap::new(), next_version: 1 }
    }

    /// Whether a command only asks.
    pub fn effect(words: &[String]) -> Effect {
        if matches!(words[0].as_str(), "show" | "prompt") { Effect::Asks } else { Effect::Changes }
    }

    /// Backends of which at least one server takes traffic.
    pub fn usable(&self) -> Vec<String> {
        let takes = |proxy: &&String| self.loaded.servers.iter().any(|((of, _), s)| of == *proxy && s.share() > 0);
        self.loaded.proxies.iter().filter(takes).cloned().collect()
    }

    /// Whether a server takes no traffic, whatever its weight.
    pub fn is_out(&self, name: &str) -> bool {
        self.loaded.servers.get(&key(name)).is_some_and(|server| server.admin != Admin::Ready)
    }

    /// Executes a command; answers the reply without its last blank line.
    pub fn execute(&mut self, words: &[String], payload: Option<&str>) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["show", "servers", "state"] => self.show_servers(),
            ["show", "stat", "-1", "4", "-1"] => self.show_stat(),
            ["show", "peers"] => String::new(),
            ["show", "map", map] => match self.loaded.maps.get(*map) {
                Some(map) => map.iter().map(|(key, value)| format!("0x55d0 {key} {value}\n")).collect(),
                None => UNKNOWN_MAP.to_owned(),
            },
            ["set" | "enable" | "add" | "del", "server" | "health" | "maxconn", ..] if self.is_stopping => {
                "Proxy is disabled.\n".to_owned()
            }
            ["set", "server", name, what @ ..] => self.set_server(name, what),
            ["set", "maxconn", "global", limit] => match limit.parse() {
                Ok(limit) if (1..=self.most_maxconn).contains(&limit) => {
                    self.loaded.maxconn = limit;
                    String::new()
                }
                _ => "Value out of range.\n".to_owned(),
            },
            ["set", "maxconn", "server", name, limit] => {
                let limit = limit.parse().expect("a number");
                self.with(name, |server| {
                    server.maxconn = limit;
                    String::new()
                })
            }
            ["enable", "health", name] => self.with(name, |server| {
                server.is_checked = true;
                String::new()
            }),
            ["add", "server", name, line @ ..] => self.add_server(name, line),
            ["del", "server", name] => self.delete(name),
            ["prepare", "map", map] if self.loaded.maps.contains_key(*map) => {
                let version = self.next_version;
                self.next_version += 1;
                self.prepared.insert(((*map).to_owned(), version), vec![]);
                format!("New version created: {version}\n")
            }
            [verb @ ("add" | "commit" | "clear"), "map", version, map] => self.version(verb, version, map, payload),
            ["prepare", "map", _] => UNKNOWN_MAP.to_owned(),
            other => panic!("the model knows no command {other:?}"),
        }
    }

    fn version(&mut self, verb: &str, version: &str, map: &str, payload: Option<&str>) -> String {
        let number = version.strip_prefix('@').and_then(|n| n.parse().ok()).expect("a version");
        let key = (map.to_owned(), number);
        match (verb, self.prepared.get_mut(&key), payload) {
            ("add", Some(content), Some(payload)) => content.extend(entries(payload)),
            ("clear", Some(_), None) => drop(self.prepared.remove(&key)),
            ("commit", Some(content), None) => {
                self.loaded.maps.insert(map.to_owned(), std::mem::take(content));
                self.prepared.remove(&key);
            }
            _ => return "Version number out of range.\n".to_owned(),
        }
        String::new()
    }

    fn with(&mut self, name: &str, act: impl FnOnce(&mut super::loaded::Server) -> String) -> String {
        match self.loaded.servers.get_mut(&key(name)) {
            Some(server) => act(server),
            None => "No such server.\n".to_owned(),
        }
    }

    fn set_server(&mut self, name: &str, what: &[&str]) -> String {
        self.with(name, |server| match what {
            ["state", state] => {
                server.admin = match *state {
                    "ready" => Admin::Ready,
                    "drain" => Admin::Drain,
                    "maint" => Admin::Maint,
                    other => panic!("no state {other:?}"),
                };
                String::new()
            }
            ["weight", weight] => match weight.parse::<u16>() {
                Ok(weight) if weight <= 256 => {
                    server.weight = weight;
                    String::new()
                }
                _ => "Absolute weight can only be between 0 and 256 inclusive.\n".to_owned(),
            },
            ["addr", address, "port", port] => {
                assert!(server.fqdn.is_none(), "an address for a server by name");
                let (address, port) = (address.parse::<std::net::IpAddr>().expect("an address").to_string(), *port);
                let port: u16 = port.parse().expect("a port");
                let mut said = vec![];
                said.extend(
                    (server.address != address).then(|| format!("IP changed from '{}' to '{address}'", server.address)),
                );
                said.extend((server.port != port).then(|| format!("port changed from '{}' to '{port}'", server.port)));
                (server.address, server.port) = (address, port);
                if said.is_empty() {
                    "nothing changed\n".to_owned()
                } else {
                    said.join(", ") + " by 'stats socket command'\n"
                }
            }
            other => panic!("the model cannot set {other:?}"),
        })
    }

    fn add_server(&mut self, name: &str, line: &[&str]) -> String {
        let key = key(name);
        if !self.loaded.proxies.contains(&key.0) {
            return "No such backend.\n".to_owned();
        }
        if self.loaded.servers.contains_key(&key) {
            return "Already exists a server with the same name in backend.\n".to_owned();
        }
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        match server(&line, 1) {
            Ok(mut server) if server.fqdn.is_none() => {
                (server.admin, server.is_checked) = (Admin::Maint, false);
                self.loaded.servers.insert(key, server);
                "New server registered.\n".to_owned()
            }
            Ok(_) => panic!("a server by name has no address when it is added: {line:?}"),
            Err(problem) => panic!("`add server {name} {line:?}`: {problem}"),
        }
    }

    fn delete(&mut self, name: &str) -> String {
        match self.loaded.servers.get(&key(name)) {
            None => "No such server.\n".to_owned(),
            Some(server) if server.admin != Admin::Maint => {
                "Only servers in maintenance mode can be deleted.\n".to_owned()
            }
            Some(_) if self.is_busy => "Server still has connections attached to it, cannot remove it.\n".to_owned(),
            Some(_) => {
                self.loaded.servers.remove(&key(name));
                "Server deleted.\n".to_owned()
            }
        }
    }

    /// The columns that the agent reads, among others.
    fn show_stat(&self) -> String {
        let mut text =
            "# pxname,svname,qcur,scur,slim,stot,econ,eresp,status,weight,type,check_status,hrsp_5xx,\n".to_owned();
        for ((proxy, name), server) in &self.loaded.servers {
            // An empty cell where there is no limit.
            let limit = if server.maxconn == 0 { String::new() } else { server.maxconn.to_string() };
            text += &format!("{proxy},{name},0,0,{limit},0,0,0,UP,{},2,,0,\n", server.weight);
        }
        text
    }

    fn show_servers(&self) -> String {
        let mut text =
            "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
            srv_time_since_last_change srv_fqdn srv_port\n"
                .to_owned();
        for ((proxy, name), server) in &self.loaded.servers {
            let flags = match server.admin {
                Admin::Ready => 0,
                Admin::Drain => 8,
                Admin::Maint => 1,
            };
            let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let (address, fqdn) = (dash(&server.address), dash(server.fqdn.as_deref().unwrap_or_default()));
            let (id, weight, port) = (server.id, server.weight, server.port);
            text += &format!("3 {proxy} {id} {name} {address} 2 {flags} {weight} 1 0 {fqdn} {port}\n");
        }
        text
    }
}

const UNKNOWN_MAP: &str = "Unknown map identifier. Please use #<id> or <name>.\n";

/// `backend/server`; a hop's proxy has a `:` but no `/` in its name.
pub fn key(name: &str) -> Key {
    let (proxy, server) = name.split_once('/').expect("backend/server");
    (proxy.to_owned(), server.to_owned())
}
