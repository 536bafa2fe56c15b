//! What our tables say to nftables, as text. Pure.
//!
//! Every rule carries the digest of the whole table as its comment: a table is right where it has as many rules as it
//! should, all with that digest. Nothing else of nft's own spelling is compared.

use super::wanted::{Adverts, Chance};
use crate::model::{Digest, Interface};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

/// A table's family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named(pub(super) &'static str, pub(super) &'static str);

impl Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// From whom VRRP is taken.
pub(super) const VRRP: Named = Named("inet", "hapilot_vrrp");
/// Where packets of streams go that began before a move.
pub(super) const STREAMS: Named = Named("ip", "hapilot_streams");

/// Before everything that others usually hook (raw is -300, connection tracking -200).
const PRIORITY: i32 = -310;
/// Most streams whose place is remembered; beyond them a packet that nobody knows is refused, as without all this.
/// Some 100 bytes each.
const MOST_STREAMS: u32 = 65_536;

/// One table as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NftTable {
    pub(super) named: Named,
    /// The comment of every rule.
    pub(super) mark: String,
    /// How many rules there are.
    pub(super) rules: usize,
    /// Everything between the table's braces.
    pub(super) body: String,
}

/// A chain: its name, its hook, its rules.
struct Chain(&'static str, &'static str, Vec<String>);

fn table(named: Named, sets: &str, chains: &[Chain]) -> NftTable {
    let rules = || chains.iter().flat_map(|chain| &chain.2);
    let all: Vec<&str> = rules().map(String::as_str).collect();
    let mark = format!("hapilot {}", Digest::of(format!("{named} {PRIORITY}\n{sets}\n{}", all.join("\n"))).short());
    let mut body = sets.to_owned();
    for Chain(name, hook, rules) in chains {
        body += &format!("  chain {name} {{\n    type filter hook {hook} priority {PRIORITY}; policy accept;\n");
        body.extend(rules.iter().map(|rule| format!("    {rule} comment \"{mark}\"\n")));
        body += "  }\n";
    }
    NftTable { named, mark, rules: rules().count(), body }
}

/// VRRP from the other nodes, sent in this very network: a router between would have lowered the TTL. Protocol 112 from
/// anybody else never reaches Keepalived. Other interfaces are not concerned.
pub(super) fn vrrp(adverts: &[Adverts]) -> Option<NftTable> {
    let mut by_interface: BTreeMap<&Interface, Vec<&Adverts>> = BTreeMap::new();
    for one in adverts {
        by_interface.entry(&one.interface).or_default().push(one);
    }
    let mut rules = Vec::new();
    for (interface, adverts) in by_interface {
        for (is_ipv4, header, sent_here) in [(true, "ip", "ip ttl 255"), (false, "ip6", "ip6 hoplimit 255")] {
            let of_family = || adverts.iter().filter(|one| one.is_ipv4 == is_ipv4);
            let senders: BTreeSet<IpAddr> =
                of_family().filter_map(|one| one.from.as_ref()).flatten().copied().collect();
            let senders = if of_family().any(|one| one.from.is_none()) {
                String::new()
            } else if senders.is_empty() {
                continue;
            } else {
                format!("{header} saddr {} ", set(&senders))
            };
            rules.push(format!("iifname \"{interface}\" meta l4proto 112 {senders}{sent_here} counter accept"));
        }
        rules.push(format!("iifname \"{interface}\" meta l4proto 112 counter drop"));
    }
    (!rules.is_empty()).then(|| table(VRRP, "", &[Chain("prerouting", "prerouting", rules)]))
}

/// The second chance: a packet of a connection that nobody knows here goes on to the other node, which may.
///
/// ```text
/// packet to the address ── a socket has it ─────────────────────────► it
///                      └── none: the kernel refuses with an RST ──┐
///   not sent, but remembered in @elsewhere ◄──────────────────────┘
///   next packet (TCP repeats it) ── in @elsewhere ──► to the other node, with a TTL of 1
///   packet with a TTL of 1 ── in @asked ── none has it there either: its RST is the last word
/// ```
///
/// The kernel's own look-up decides, so a connection that this node has is never forwarded, whenever it began, and
/// nothing is tracked for those that do not move. What was forwarded once is not forwarded again: no packet goes in
/// circles. An RST answers a SYN by RST and ACK, which passes: a closed port stays closed.
pub(super) fn streams(chances: &[Chance]) -> Option<NftTable> {
    if chances.is_empty() {
        return None;
    }
    const KEY: &str = "ip saddr . tcp sport . ip daddr . tcp dport";
    const KEY_BACK: &str = "ip daddr . tcp dport . ip saddr . tcp sport";
    const TYPE: &str = "type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout";
    let sets = format!(
        "  set elsewhere {{ {TYPE}; size {MOST_STREAMS}; timeout 10m; }}\n  \
           set asked {{ {TYPE}; size {MOST_STREAMS}; timeout 10s; }}\n"
    );
    let addresses: BTreeSet<_> = chances.iter().flat_map(|chance| &chance.addresses).collect();
    let addresses = set(&addresses);
    let mut inward = vec![
        "iifname \"lo\" accept".to_owned(),
        format!("ip daddr != {addresses} accept"),
        // From the other node: this node's answer is the last word.
        format!("ip ttl 1 meta l4proto tcp update @asked {{ {KEY} }} accept"),
        "ip ttl 1 accept".to_owned(),
        // A client may use a port again: a connection that begins is this node's.
        format!("tcp flags & (syn | ack) == syn delete @elsewhere {{ {KEY} }} accept"),
    ];
    for Chance { vip: _, interface: _, peer, addresses } in chances {
        let to = format!("ip daddr {}", set(addresses));
        // Nobody answers these, so nothing can be learnt from the answer: both nodes get them.
        inward.push(format!("{to} tcp flags & rst == rst ip ttl set 2 dup to {peer} accept"));
        inward.push(format!("{to} icmp type destination-unreachable ip ttl set 2 dup to {peer} accept"));
        // The copy leaves with a TTL of 1.
        inward.push(format!(
            "{to} {KEY} @elsewhere update @elsewhere {{ {KEY} }} counter ip ttl set 2 dup to {peer} drop"
        ));
    }
    let outward = vec![
        "oifname \"lo\" accept".to_owned(),
        format!(
            "ip saddr {addresses} tcp flags & (fin | syn | rst | ack) == rst {KEY_BACK} != @asked \
             update @elsewhere {{ {KEY_BACK} }} counter drop"
        ),
    ];
    Some(table(STREAMS, &sets, &[Chain("prerouting", "prerouting", inward), Chain("output", "output", outward)]))
}

fn set<T: Display>(elements: &BTreeSet<T>) -> String {
    let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", elements.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adverts(interface: &str, from: Option<&[&str]>, is_ipv4: bool) -> Adverts {
        let from = from.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect());
        Adverts { interface: interface.parse().unwrap(), from, is_ipv4, is_multicast: false }
    }

    fn rules(table: &NftTable) -> Vec<String> {
        let end = format!(" comment \"{}\"", table.mark);
        table.body.lines().filter_map(|line| line.trim().strip_suffix(&end)).map(Into::into).collect()
    }

    #[test]
    fn each_interface_takes_vrrp_from_its_own_nodes_and_ends_with_a_drop() {
        assert_eq!(vrrp(&[]), None);
        let table = vrrp(&[
            adverts("eth1", Some(&["2001:db8::12"]), false),
            adverts("eth0", Some(&["198.51.100.13"]), true),
            adverts("eth0", Some(&["198.51.100.12"]), true),
        ])
        .unwrap();
        let expected = [
            "iifname \"eth0\" meta l4proto 112 ip saddr { 198.51.100.12, 198.51.100.13 } ip ttl 255 counter accept",
            "iifname \"eth0\" meta l4proto 112 counter drop",
            "iifname \"eth1\" meta l4proto 112 ip6 saddr { 2001:db8::12 } ip6 hoplimit 255 counter accept",
            "iifname \"eth1\" meta l4proto 112 counter drop",
        ];
        assert_eq!(rules(&table), expected);
        assert_eq!(table.rules, 4);
    }

    #[test]
    fn one_unknown_sender_leaves_it_to_the_ttl() {
        let table = vrrp(&[adverts("eth0", Some(&["198.51.100.12"]), true), adverts("eth0", None, true)]).unwrap();
        assert_eq!(rules(&table)[0], "iifname \"eth0\" meta l4proto 112 ip ttl 255 counter accept");
    }

    #[test]
    fn the_mark_changes_with_any_rule() {
        let mark = |peer: &str| {
            let chance = Chance {
                vip: crate::model::Name::new("public").unwrap(),
                interface: "eth0".parse().unwrap(),
                peer: peer.parse().unwrap(),
                addresses: BTreeSet::from(["198.51.100.200".parse().unwrap()]),
            };
            let table = streams(&[chance]).unwrap();
            assert_eq!(rules(&table).len(), table.rules);
            table.mark
        };
        assert_eq!(mark("198.51.100.12"), mark("198.51.100.12"));
        assert_ne!(mark("198.51.100.12"), mark("198.51.100.13"));
    }
}
