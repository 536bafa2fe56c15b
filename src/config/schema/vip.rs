//! Virtual addresses.

use super::{KeySpec, Section, ValueKind};

/// Most nodes of one cluster.
pub(in crate::config) const MAX_NODES: usize = 16;

pub(in crate::config) static KEEPALIVED: Section = Section {
    name: "keepalived",
    doc: "The Keepalived of this node; only used where there is a `[vip.NAME]`",
    keys: &[
        KeySpec::new("config", ValueKind::Path, "The file that hapilot writes").is("/etc/keepalived/keepalived.conf"),
        KeySpec::new("binary", ValueKind::Program, "The program that checks the file with `-t`").is("keepalived"),
        KeySpec::new("directory", ValueKind::Path, "FIFO, track files and heartbeat; it must outlive Keepalived")
            .is("/run/hapilot/vrrp"),
        KeySpec::new("backstop", ValueKind::Path, "The program that decides while the agent is dead")
            .is("/usr/bin/hapilot"),
        KeySpec::new("pid_file", ValueKind::Path, "Where Keepalived writes its process id").is("/run/keepalived.pid"),
        KeySpec::new("firewall", ValueKind::Bool, "VRRP is taken from the peers only, by nftables").is("true"),
    ],
};

pub(in crate::config) static VIP: Section = Section {
    name: "vip.NAME",
    doc: "Addresses that move together from node to node",
    keys: &[
        KeySpec::new(
            "addresses",
            ValueKind::List(&ValueKind::InterfaceAddress, 1, 20),
            "The addresses with their prefix",
        )
        .required()
        .example("[\"192.0.2.100/24\"]"),
        KeySpec::new("interface", ValueKind::Interface, "The interface that bears them").required().example("\"eth0\""),
        KeySpec::new("router_id", ValueKind::Integer(1, 255), "VRRP router id, unique in the network")
            .required()
            .example("51"),
        KeySpec::new(
            "priority",
            ValueKind::ByNode(&ValueKind::Integer(1, 254), MAX_NODES),
            "Each node that takes part and its rank: the highest that can serve owns the addresses first",
        )
        .required()
        .example("{ lb1 = 150, lb2 = 100 }"),
        KeySpec::new(
            "advert_interval",
            ValueKind::Duration("20ms", "10s"),
            "A dead node is missed after three of them",
        )
        .is("100ms"),
        KeySpec::new("failback", ValueKind::Bool, "The higher priority takes the addresses back as soon as it can")
            .is("false"),
        KeySpec::new("multicast", ValueKind::Bool, "Adverts go to the network's group instead of to `node.peers`")
            .is("false"),
        KeySpec::new(
            "second_chance",
            ValueKind::Bool,
            "Streams survive a move: their packets are forwarded to the node that has them (IPv4, two nodes)",
        )
        .is("false"),
    ],
};
