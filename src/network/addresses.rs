//! Addresses of interfaces: those of `lo` that let every node speak for a virtual address, and orphans.
//!
//! Ours on `lo` bear a mark that the kernel keeps: the label `lo:hapilot` with IPv4, which IPv6 has none of, and there
//! the metric 9441.
//!
//! **Source**: ip-address(8); measured: IPv6 answers neighbour solicitations only for addresses of the asked interface,
//! so it needs no more than the address.

use super::command;
use crate::model::{Interface, InterfaceAddress};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

const LABEL: &str = "lo:hapilot";
const METRIC: u64 = 9441;

/// The addresses that an interface bears now; none where there is no such interface.
///
/// # Errors
/// The kernel does not tell.
pub fn addresses_of(interface: &Interface) -> io::Result<BTreeSet<IpAddr>> {
    // An address with a label has it in the place of the name: `eth0:1`.
    let name = |named: &str| named.split(':').next() == Some(interface.as_str());
    let own = nix::ifaddrs::getifaddrs()?.filter(|one| name(&one.interface_name));
    let ips = own.filter_map(|one| {
        let address = one.address?;
        let ipv4 = address.as_sockaddr_in().map(|ipv4| IpAddr::V4(ipv4.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|ipv6| IpAddr::V6(ipv6.ip())))
    });
    Ok(ips.collect())
}

/// Takes one address away from an interface: an orphan that a dead Keepalived left behind. One that is not there is
/// fine.
///
/// Where it is the oldest IPv4 address of its network on the interface, the kernel takes the younger ones of the same
/// network along, unless `promote_secondaries` is 1.
///
/// # Errors
/// The kernel's reason, for people.
pub async fn remove(interface: &Interface, address: InterfaceAddress) -> Result<(), String> {
    let told = |why: String| format!("could not take {address} away from {interface}: {why}");
    if !addresses_of(interface).map_err(|e| told(e.to_string()))?.contains(&address.ip) {
        return Ok(());
    }
    let text = address.to_string();
    command::run("ip", &["addr", "del", &text, "dev", interface.as_str()]).await.map(drop).map_err(told)
}

/// Gives `lo` the addresses that it should have, and takes ours away that nobody wants any more. One whose interface
/// is not `quiet` waits: a node that does not own it would answer for it. Answers whether none of ours is left that
/// nobody wants.
pub(super) async fn settle(
    wanted: &BTreeMap<IpAddr, Interface>,
    quiet: &BTreeSet<Interface>,
    problems: &mut Vec<String>,
) -> bool {
    let held = match command::json("ip", &["-j", "addr", "show", "dev", "lo"]).await {
        Ok(shown) => read(&shown),
        Err(why) => {
            if !wanted.is_empty() {
                problems.push(format!("the addresses of lo are not known: {why}"));
            }
            return false;
        }
    };
    let mut is_clean = true;
    for (ip, _) in held.iter().filter(|(ip, is_ours)| **is_ours && !wanted.contains_key(*ip)) {
        let address = own(*ip).to_string();
        if let Err(why) = command::run("ip", &["addr", "del", &address, "dev", "lo"]).await {
            problems.push(format!("could not take {address} away from lo: {why}"));
            is_clean = false;
        }
    }
    for (ip, interface) in wanted {
        if held.contains_key(ip) || (ip.is_ipv4() && !quiet.contains(interface)) {
            continue;
        }
        let address = own(*ip).to_string();
        // Neither is taken for the source of the node's own connections: by its scope, and as deprecated.
        let metric = METRIC.to_string();
        let marks: &[&str] = match ip {
            IpAddr::V4(_) => &["scope", "host", "label", LABEL],
            IpAddr::V6(_) => &["nodad", "preferred_lft", "0", "metric", &metric],
        };
        if let Err(why) = command::run("ip", &[&["addr", "add", &address, "dev", "lo"], marks].concat()).await {
            problems.push(format!("could not give lo {address}: {why}"));
        }
    }
    is_clean
}

/// The address alone, without a network.
fn own(ip: IpAddr) -> InterfaceAddress {
    InterfaceAddress { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
}

/// The addresses of `ip -j addr show`, and whether each is ours.
fn read(shown: &Value) -> BTreeMap<IpAddr, bool> {
    let all = shown.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array()).flatten();
    let read = |one: &Value| {
        let ip = one["local"].as_str()?.parse::<IpAddr>().ok()?;
        let is_marked = if ip.is_ipv4() { one["label"] == LABEL } else { one["metric"] == METRIC };
        let is_alone = one["prefixlen"] == own(ip).prefix;
        Some((ip, is_marked && is_alone))
    };
    all.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_addresses_are_told_from_those_of_others() {
        let shown = serde_json::json!([{}, { "addr_info": [
            { "local": "127.0.0.1", "prefixlen": 8, "label": "lo" },
            { "local": "198.51.100.200", "prefixlen": 32, "label": "lo:hapilot" },
            { "local": "198.51.100.201", "prefixlen": 32, "label": "lo" },
            { "local": "::1", "prefixlen": 128 },
            { "local": "2001:db8::200", "prefixlen": 128, "metric": 9441 },
            { "local": "2001:db8::201", "prefixlen": 64, "metric": 9441 },
        ] }]);
        let ours: Vec<_> = read(&shown).into_iter().filter(|(_, is_ours)| *is_ours).map(|(ip, _)| ip).collect();
        assert_eq!(ours, ["198.51.100.200".parse::<IpAddr>().unwrap(), "2001:db8::200".parse().unwrap()]);
        assert_eq!(read(&shown).len(), 6);
        assert!(read(&Value::Null).is_empty());
    }

    #[test]
    fn the_loopback_bears_its_address() {
        let lo = addresses_of(&"lo".parse().unwrap()).unwrap();
        assert!(lo.contains(&IpAddr::from([127, 0, 0, 1])), "{lo:?}");
        assert!(addresses_of(&"no-such-link".parse().unwrap()).unwrap().is_empty());
    }
}
