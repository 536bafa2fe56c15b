//! Virtual addresses.
//!
//! Called by `read`.

use super::field::Field;
use super::table::TableReader;
use crate::config::diagnostic::Found;
use crate::config::types::Node;
use crate::config::vip::{Heartbeat, Keepalived, Vip};
use crate::model::{Interface, InterfaceAddress, Name, SecretRef, Sourced};
use camino::Utf8PathBuf;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

pub(super) fn keepalived(root: &TableReader<'_>) -> Keepalived {
    let table = root.table_or_default("keepalived");
    let path = |key| {
        let path = table.text_or_default(key).map(Utf8PathBuf::from);
        let is_live = |c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c));
        if let (Some(bad), Some(field)) = (path.as_str().chars().find(|c| is_live(*c)), table.get(key)) {
            let message = format!(
                "`{}`: Keepalived takes letters, digits, '_', '.', '-' and '/' in a path, not {bad:?}",
                field.name
            );
            table.context().report(field.error("bad-value", message));
        }
        path
    };
    Keepalived {
        config: path("config"),
        binary: path("binary"),
        directory: path("directory"),
        backstop: path("backstop"),
        pid_file: path("pid_file"),
        firewall: table.get("firewall").and_then(|field| field.boolean()).unwrap_or(true),
    }
}

/// `node.peers`: each node's address.
pub(super) fn peers(node: &TableReader<'_>) -> BTreeMap<Name, Sourced<IpAddr>> {
    let Some(field) = node.get("peers") else { return BTreeMap::new() };
    let mut seen: HashMap<IpAddr, Name> = HashMap::new();
    let peers = field.by_node().into_iter().filter_map(|(name, field)| {
        let ip = field.ip()?;
        if let Some(why) = no_node_has(ip.value) {
            field.context.report(
                field
                    .error("bad-value", format!("`{}`: {} {why}", field.name, ip.value))
                    .help("give the address by which the other nodes reach this one: a global one, or a private one such as 10.0.0.11 or fd00::11"),
            );
            return None;
        }
        if let Some(other) = seen.insert(ip.value, name.clone()) {
            field.context.report(field.error("duplicate", format!("`{}`: {other} has the same address", field.name)));
        }
        Some((name, ip))
    });
    peers.collect()
}

/// Why an address leads to no node, by itself.
fn no_node_has(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("is link-local: it leads nowhere without its interface"),
        _ if ip.is_unspecified() || ip.is_multicast() => Some("is the address of no node"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("is the address of no node"),
        _ => None,
    }
}

/// `node.heartbeat`.
pub(super) fn heartbeat(node: &TableReader<'_>) -> Option<Heartbeat> {
    let table = node.table("heartbeat")?;
    let key = table.get("key").and_then(|field| field.parse::<SecretRef>());
    Some(Heartbeat { port: table.integer_or_default("port").value, key: key? })
}

pub(super) fn vips(root: &TableReader<'_>, node: Option<&Node>) -> Vec<Vip> {
    let mut seen = Taken::default();
    let named = root.named("vip").into_iter();
    let mut vips: Vec<_> = named.filter_map(|(name, table)| vip(name, &table, node, &mut seen)).collect();
    vips.sort_by(|a, b| a.name.cmp(&b.name));
    vips
}

/// What no two of them share.
#[derive(Default)]
struct Taken {
    addresses: HashMap<IpAddr, Name>,
    router_ids: HashMap<(u8, Interface), Name>,
}

fn vip(name: Name, table: &TableReader<'_>, node: Option<&Node>, seen: &mut Taken) -> Option<Vip> {
    let context = table.context();
    if name.as_str().len() > Vip::MAX_NAME {
        let message = format!("`[{}]`: Keepalived takes names of at most {} characters", table.path(), Vip::MAX_NAME);
        context.report(Found::error("out-of-range", message, table.span()));
    }
    let duplicate = |field: &Field<'_>, what: &str, other: &Name| {
        context.report(field.error("duplicate", format!("`{}`: [vip.{other}] has the same {what}", field.name)));
    };
    let mut addresses = Vec::new();
    for field in table.list("addresses") {
        let Some(address) = field.parse::<InterfaceAddress>() else { continue };
        if let Some(other) = seen.addresses.insert(address.ip, name.clone()) {
            duplicate(&field, "address", &other);
        }
        if let Some((peer, _)) = node.iter().flat_map(|node| &node.peers).find(|(_, peer)| peer.value == address.ip) {
            context.report(
                field
                    .error("own-address", format!("`{}`: {} is {peer}'s own address in `[node] peers`", field.name, address.ip))
                    .help(format!(
                        "Keepalived would take it from {peer} when another node owns it: give an address that no node has by itself"
                    )),
            );
        }
        addresses.push(address);
    }
    let interface = table.get("interface").and_then(|field| field.parse::<Interface>());
    let id_field = table.get("router_id");
    let router_id = id_field.as_ref().and_then(|field| field.integer::<u8>());
    if let (Some(field), Some(id), Some(interface)) = (&id_field, &router_id, &interface)
        && let Some(other) = seen.router_ids.insert((id.value, interface.value.clone()), name.clone())
    {
        duplicate(field, "router id on this interface", &other);
    }
    let multicast = table.get("multicast").and_then(|field| field.boolean()).unwrap_or(false);
    let priority_field = table.get("priority");
    let ranks = priority_field.as_ref().map(Field::by_node).unwrap_or_default();
    let mut priority: BTreeMap<Name, Sourced<u8>> = BTreeMap::new();
    for (node_name, field) in &ranks {
        let Some(rank) = field.integer::<u8>() else { continue };
        if let Some((other, _)) = priority.iter().find(|(_, other)| other.value == rank.value) {
            context.report(
                field
                    .error("duplicate", format!("`{}`: {other} has the same priority", field.name))
                    .help("give each node its own: their order decides who begins"),
            );
        }
        let is_known = node.is_none_or(|node| node.name.value == *node_name || node.peers.contains_key(node_name));
        if !multicast && !is_known {
            context.report(
                Found::error(
                    "unknown-node",
                    format!("`{}`: nobody says where {node_name} is", field.name),
                    field.key_span.clone(),
                )
                .help(format!(
                    "add it to `[node]`: peers = {{ {node_name} = \"ADDRESS\" }}, or write `multicast = true`"
                )),
            );
        }
        priority.insert(node_name.clone(), rank);
    }
    if let (Some(node), false) = (node, multicast) {
        one_family(table, node, &priority, &addresses);
    }
    let chance_field = table.get("second_chance");
    let second_chance = chance_field.as_ref().and_then(Field::boolean).unwrap_or(false);
    if let (true, Some(field)) = (second_chance, &chance_field) {
        chance(field, &priority, &addresses, node);
    }
    Some(Vip {
        name,
        origin: table.origin(),
        addresses,
        interface: interface?,
        router_id: router_id?,
        priority,
        advert_interval: table.duration_or_default("advert_interval"),
        failback: table.get("failback").and_then(|field| field.boolean()).unwrap_or(false),
        multicast,
        second_chance,
    })
}

/// Where packets can be forwarded to the other node.
fn chance(
    field: &Field<'_>,
    priority: &BTreeMap<Name, Sourced<u8>>,
    addresses: &[Sourced<InterfaceAddress>],
    node: Option<&Node>,
) {
    let report = |why: &str| {
        let message = format!("`{}` cannot work here: {why}", field.name);
        field.context.report(field.error("no-second-chance", message).label("leave it out"));
    };
    if priority.len() != 2 {
        report(&format!("it wants two nodes, and `priority` names {}", priority.len()));
    }
    if let Some(address) = addresses.iter().find(|address| address.ip.is_ipv6()) {
        report(&format!("{} is an IPv6 address, and only IPv4 is forwarded", address.value));
    }
    if let Some(node) = node
        && let Some(missing) = priority.keys().find(|name| !node.peers.contains_key(name))
    {
        report(&format!("`[node] peers` does not say where {missing} is"));
    }
}

/// Unicast adverts are of the family of the nodes' addresses and carry at least one address of it.
fn one_family(
    table: &TableReader<'_>,
    node: &Node,
    priority: &BTreeMap<Name, Sourced<u8>>,
    addresses: &[Sourced<InterfaceAddress>],
) {
    let others: Vec<IpAddr> = priority
        .keys()
        .filter(|name| **name != node.name.value)
        .filter_map(|name| node.peers.get(name))
        .map(|ip| ip.value)
        .collect();
    let Some(first) = others.first() else { return };
    let report = |message: String, help: &str| {
        table.context().report(Found::error("address-family", message, table.span()).help(help.to_owned()));
    };
    if others.iter().any(|ip| ip.is_ipv4() != first.is_ipv4()) {
        report(
            format!("`[{}]`: the nodes' addresses are of both families", table.path()),
            "adverts between the nodes are of one family: give all `peers` an address of the same one",
        );
    } else if !addresses.is_empty() && !addresses.iter().any(|address| address.ip.is_ipv4() == first.is_ipv4()) {
        report(
            format!("`[{}]`: none of its addresses is of the family of the nodes' addresses", table.path()),
            "VRRP adverts can only announce addresses of their own family: add one, change `peers`, or write `multicast = true`",
        );
    }
}
