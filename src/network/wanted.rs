//! Config → what this node's network must be like. Pure.

use crate::config::{Config, Vip};
use crate::model::{Interface, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// What this node's network must be like. The default is nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedNetwork {
    /// The virtual addresses, and the interface that bears each at its owner. Every node has them on `lo` too.
    pub(super) addresses: BTreeMap<IpAddr, Interface>,
    /// From whom VRRP is taken; empty: no firewall.
    pub(super) adverts: Vec<Adverts>,
    /// Where packets go that nobody here knows.
    pub(super) chances: Vec<Chance>,
}

/// Who may send adverts of one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Adverts {
    /// Where they come in.
    pub(super) interface: Interface,
    /// The other nodes; `None`: whoever is in this very network.
    pub(super) from: Option<BTreeSet<IpAddr>>,
    /// The family of the adverts.
    pub(super) is_ipv4: bool,
    /// Sent to the group, by the interface's first address, which only in its own network is the node's address.
    pub(super) is_multicast: bool,
}

/// The other node that may know a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chance {
    /// Which VIP, for messages.
    pub(super) vip: Name,
    /// Where both nodes are.
    pub(super) interface: Interface,
    /// The other node.
    pub(super) peer: Ipv4Addr,
    /// The addresses.
    pub(super) addresses: BTreeSet<Ipv4Addr>,
}

impl WantedNetwork {
    /// The interfaces that bear addresses which ARP is asked for.
    pub(super) fn interfaces(&self) -> BTreeSet<Interface> {
        let ipv4 = self.addresses.iter().filter(|(ip, _)| ip.is_ipv4());
        ipv4.map(|(_, interface)| interface.clone()).collect()
    }
}

/// What this node's network must be like; nothing where it takes part in no VIP.
pub fn wanted(config: &Config) -> WantedNetwork {
    let own = &config.node.name.value;
    let mut wanted = WantedNetwork::default();
    for vip in config.vips.iter().filter(|vip| vip.priority.contains_key(own)) {
        let interface = &vip.interface.value;
        wanted.addresses.extend(vip.addresses.iter().map(|address| (address.value.ip, interface.clone())));
        if config.keepalived.firewall {
            wanted.adverts.extend(adverts(config, vip));
        }
        wanted.chances.extend(chance(config, vip));
    }
    wanted
}

/// The nodes of a VIP without this one, and where each is.
fn others<'a>(config: &'a Config, vip: &'a Vip) -> impl Iterator<Item = Option<IpAddr>> + 'a {
    let others = vip.priority.keys().filter(|node| **node != config.node.name.value);
    others.map(|node| config.node.peers.get(node).map(|ip| ip.value))
}

/// `None` where the VIP has no address, which the reader of the file refuses.
fn adverts(config: &Config, vip: &Vip) -> Option<Adverts> {
    let known: BTreeSet<IpAddr> = others(config, vip).flatten().collect();
    let first = vip.addresses.first()?.ip;
    let family = if vip.multicast { first } else { known.first().copied().unwrap_or(first) };
    let is_ipv4 = family.is_ipv4();
    // To IPv6's group a node speaks from its link-local address, which the file does not know.
    let is_known = others(config, vip).all(|ip| ip.is_some_and(|ip| ip.is_ipv4() == is_ipv4));
    let from = (is_known && (is_ipv4 || !vip.multicast)).then_some(known);
    Some(Adverts { interface: vip.interface.value.clone(), from, is_ipv4, is_multicast: vip.multicast })
}

fn chance(config: &Config, vip: &Vip) -> Option<Chance> {
    let Some(Some(IpAddr::V4(peer))) = others(config, vip).next().filter(|_| vip.second_chance) else { return None };
    let addresses = vip.addresses.iter().filter_map(|address| match address.value.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    let (vip_name, interface) = (vip.name.clone(), vip.interface.value.clone());
    Some(Chance { vip: vip_name, interface, peer, addresses: addresses.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn of(node: &str, more: &str, vip: &str) -> WantedNetwork {
        let toml = format!(
            "[node]\nname = \"{node}\"\npeers = {{ a = \"198.51.100.11\", b = \"198.51.100.12\" }}\n{more}\
             [frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n\
             [backend.chat.server.s]\nurl = \"http://127.0.0.1:9000\"\n\
             [vip.public]\ninterface = \"eth0\"\nrouter_id = 51\n{vip}"
        );
        wanted(&parse("test.toml", &toml, "host").unwrap_or_else(|e| panic!("{}", e.render(false))))
    }

    const TWO: &str = "addresses = [\"198.51.100.200/24\"]\npriority = { a = 2, b = 1 }\n";

    fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_node_without_a_part_in_it_wants_nothing() {
        assert_eq!(of("c", "", TWO), WantedNetwork::default());
        assert_ne!(of("a", "", TWO), WantedNetwork::default());
    }

    #[test]
    fn adverts_are_taken_from_the_other_nodes() {
        let adverts = |more: &str, vip: &str| of("a", more, vip).adverts;
        let from = |more: &str, vip: &str| adverts(more, vip).remove(0).from;
        assert_eq!(from("", TWO), Some(ips(&["198.51.100.12"])));
        assert_eq!(from("", &format!("{TWO}multicast = true\n")), Some(ips(&["198.51.100.12"])));
        assert_eq!(adverts("[keepalived]\nfirewall = false\n", TWO), []);
        // A node that the file does not place; IPv6's group; addresses of the other family.
        let stranger = "addresses = [\"198.51.100.200/24\"]\npriority = { a = 2, z = 1 }\nmulticast = true\n";
        assert_eq!(from("", stranger), None);
        let six = "addresses = [\"2001:db8::200/64\"]\npriority = { a = 2, b = 1 }\nmulticast = true\n";
        assert_eq!(from("", six), None);
    }

    #[test]
    fn a_second_chance_is_the_other_node_and_only_where_it_is_asked_for() {
        assert_eq!(of("a", "", TWO).chances, []);
        let chance = of("b", "", &format!("{TWO}second_chance = true\n")).chances.remove(0);
        assert_eq!(chance.peer.to_string(), "198.51.100.11");
        assert_eq!(chance.addresses, BTreeSet::from(["198.51.100.200".parse().unwrap()]));
    }
}
