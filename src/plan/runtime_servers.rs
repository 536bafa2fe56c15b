//! The servers of a running HAProxy. A copy shares what stays as it is: what one weight costs does not depend on how
//! many other backends there are.

use super::RuntimeServer;
use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

/// Servers by (proxy, server) as HAProxy calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeServers(BTreeMap<String, Arc<BTreeMap<String, RuntimeServer>>>);

impl RuntimeServers {
    /// One of them.
    pub fn get(&self, (proxy, server): &(String, String)) -> Option<&RuntimeServer> {
        self.0.get(proxy)?.get(server)
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, (proxy, server): &(String, String)) -> Option<&mut RuntimeServer> {
        let of_proxy = self.0.get_mut(proxy).filter(|of_proxy| of_proxy.contains_key(server))?;
        Arc::make_mut(of_proxy).get_mut(server)
    }

    /// Adds one; returns who had the name before.
    pub fn insert(&mut self, (proxy, server): (String, String), found: RuntimeServer) -> Option<RuntimeServer> {
        Arc::make_mut(self.0.entry(proxy).or_default()).insert(server, found)
    }

    /// Takes one away.
    pub fn remove(&mut self, (proxy, server): &(String, String)) -> Option<RuntimeServer> {
        Arc::make_mut(self.0.get_mut(proxy)?).remove(server)
    }

    /// Those of one proxy.
    pub fn of_proxy(&self, proxy: &str) -> impl Iterator<Item = (&String, &RuntimeServer)> {
        self.0.get(proxy).into_iter().flat_map(|of_proxy| of_proxy.iter())
    }

    /// All, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String, &RuntimeServer)> {
        self.0.iter().flat_map(|(proxy, of_proxy)| of_proxy.iter().map(move |(server, found)| (proxy, server, found)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|of_proxy| of_proxy.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<((String, String), RuntimeServer)> for RuntimeServers {
    fn from_iter<I: IntoIterator<Item = ((String, String), RuntimeServer)>>(all: I) -> Self {
        let mut servers = Self::default();
        all.into_iter().for_each(|(name, found)| drop(servers.insert(name, found)));
        servers
    }
}

impl Index<&(String, String)> for RuntimeServers {
    type Output = RuntimeServer;

    /// # Panics
    /// There is none of that name.
    fn index(&self, name: &(String, String)) -> &RuntimeServer {
        self.get(name).unwrap_or_else(|| panic!("no server {}/{}", name.0, name.1))
    }
}
