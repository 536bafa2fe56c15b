//! Virtual addresses.

use super::{Key, Kind, Section};

/// Most nodes of one cluster.
pub(in crate::config) const MAX_NODES: usize = 16;

pub(in crate::config) static KEEPALIVED: Section = Section {
    name: "keepalived",
    doc: "The Keepalived of this node; only used where there is a `[vip.NAME]`",
    keys: &[
        Key::new("config", Kind::Path, "The file that hapilot writes").is("/etc/keepalived/keepalived.conf"),
        Key::new("binary", Kind::Program, "The program that checks the file with `-t`").is("keepalived"),
        Key::new("directory", Kind::Path, "FIFO, track files and heartbeat; it must outlive Keepalived")
            .is("/run/hapilot/vrrp"),
        Key::new("backstop", Kind::Path, "The program that decides while the agent is dead").is("/usr/bin/hapilot"),
        Key::new("pid_file", Kind::Path, "Where Keepalived writes its process id").is("/run/keepalived.pid"),
        Key::new("firewall", Kind::Bool, "VRRP is taken from the peers only, by nftables").is("true"),
    ],
};

pub(in crate::config) static VIP: Section = Section {
    name: "vip.NAME",
    doc: "Addresses that move together from node to node",
    keys: &[
        Key::new("addresses", Kind::List(&Kind::InterfaceAddress, 1, 20), "The addresses with their prefix")
            .required()
            .example("[\"192.0.2.100/24\"]"),
        Key::new("interface", Kind::Interface, "The interface that bears them").required().example("\"eth0\""),
        Key::new("router_id", Kind::Integer(1, 255), "VRRP router id, unique in the network").required().example("51"),
        Key::new(
            "priority",
            Kind::ByNode(&Kind::Integer(1, 254), MAX_NODES),
            "Each node that takes part and its rank: the highest that can serve owns the addresses first",
        )
        .required()
        .example("{ lb1 = 150, lb2 = 100 }"),
        Key::new("advert_interval", Kind::Duration("20ms", "10s"), "A dead node is missed after three of them")
            .is("100ms"),
        Key::new("failback", Kind::Bool, "The higher priority takes the addresses back as soon as it can").is("false"),
        Key::new("multicast", Kind::Bool, "Adverts go to the network's group instead of to `node.peers`").is("false"),
        Key::new(
            "second_chance",
            Kind::Bool,
            "Streams survive a move: their packets are forwarded to the node that has them (IPv4, two nodes)",
        )
        .is("false"),
    ],
};
