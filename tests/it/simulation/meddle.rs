//! Somebody at the admin socket beside the agent.

use super::loaded::{Admin, Key, Loaded, Server};
use super::model::Haproxy;

impl Haproxy {
    /// Somebody changes one thing of the running worker by hand; answers what drift is to name.
    pub fn meddle(&mut self) -> Option<String> {
        let mut chance = self.chance.clone();
        // Where the file gives none a limit, one set by hand is looked for now and then only.
        let limits = Loaded::read(&self.directory).is_ok_and(|disk| disk.servers.values().any(|s| s.maxconn > 0));
        let worker = self.worker();
        let keys: Vec<Key> = worker.loaded.servers.keys().filter(|(proxy, _)| !proxy.contains(':')).cloned().collect();
        let key = chance.pick(&keys).clone();
        let (proxy, name) = key.clone();
        let maps: Vec<String> = worker.loaded.maps.keys().cloned().collect();
        let server = worker.loaded.servers.get_mut(&key).expect("a server that was listed");
        let told = match chance.below(9) {
            0 => {
                server.weight = (server.weight + 1 + chance.below(200) as u16) % 257;
                format!("weight {proxy}/{name}")
            }
            1 => {
                server.admin = match server.admin {
                    Admin::Ready => *chance.pick(&[Admin::Drain, Admin::Maint]),
                    Admin::Drain => *chance.pick(&[Admin::Ready, Admin::Maint]),
                    Admin::Maint => *chance.pick(&[Admin::Ready, Admin::Drain]),
                };
                format!("state {proxy}/{name}")
            }
            2 if !server.address.is_empty() => {
                server.address = "192.0.2.250".to_owned();
                server.port = 1 + chance.below(60_000) as u16;
                format!("address {proxy}/{name}")
            }
            3 if !server.address.is_empty() => {
                server.port = server.port % 60_000 + 1;
                format!("address {proxy}/{name}")
            }
            4 if !server.address.is_empty() => {
                worker.loaded.servers.remove(&key);
                format!("server {proxy}/{name}: HAProxy lacks it")
            }
            5 if limits => {
                server.maxconn = if server.maxconn == 0 { 9 } else { *chance.pick(&[0, server.maxconn + 1]) };
                format!("maxconn {proxy}/{name}")
            }
            6 => {
                worker.loaded.maxconn -= 1 + chance.below(100) as u32;
                "maxconn of the process".to_owned()
            }
            7 => {
                let stranger = Server { address: "192.0.2.251".to_owned(), fqdn: None, ..server.clone() };
                let name = format!("stranger{}", chance.below(100));
                worker.loaded.servers.insert((proxy.clone(), name.clone()), stranger);
                format!("server {proxy}/{name}: somebody added it")
            }
            _ => {
                let map = chance.pick(&maps).clone();
                worker
                    .loaded
                    .maps
                    .get_mut(&map)
                    .expect("a map that was listed")
                    .push(("by-hand".into(), "chat".into()));
                format!("map {map}")
            }
        };
        self.chance = chance;
        Some(told)
    }
}
