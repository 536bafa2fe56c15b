//! Virtual addresses and the Keepalived that moves them, as typed values.

use crate::model::{Interface, InterfaceAddress, Name, Origin, SecretRef, Sourced};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::Duration;

/// `[node] heartbeat`: how the nodes hear of each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// `port`: UDP, the same on all nodes; default 9441.
    pub port: u16,
    /// `key`: place of the key that all nodes share.
    pub key: Sourced<SecretRef>,
}

impl Heartbeat {
    /// Shortest key, in bytes.
    pub const MIN_KEY: usize = 16;
}

/// `[keepalived]`: the Keepalived of this node. Only read where there is a `[vip.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Keepalived {
    /// `config`: the file that hapilot writes; default `/etc/keepalived/keepalived.conf`.
    pub config: Sourced<Utf8PathBuf>,
    /// `binary`: what checks the file with `-t`; default `keepalived`.
    pub binary: Sourced<Utf8PathBuf>,
    /// `directory`: FIFO, track files and heartbeat; default `/run/hapilot/vrrp`. It must not vanish while Keepalived
    /// runs: its watch would be gone.
    pub directory: Sourced<Utf8PathBuf>,
    /// `backstop`: the program that decides while the agent is dead; default `/usr/bin/hapilot`.
    pub backstop: Sourced<Utf8PathBuf>,
    /// `pid_file`: where Keepalived writes its process id; default `/run/keepalived.pid`.
    pub pid_file: Sourced<Utf8PathBuf>,
    /// `firewall`: nftables lets VRRP in from the peers only, and only from this very network; default true.
    pub firewall: bool,
}

/// `[vip.NAME]`: addresses that move together from node to node.
#[derive(Clone, Debug, PartialEq)]
pub struct Vip {
    /// The table's name, at most 32 characters.
    pub name: Name,
    /// The table's place.
    pub origin: Origin,
    /// `addresses`, 1 to 20, each once in the file.
    pub addresses: Vec<Sourced<InterfaceAddress>>,
    /// `interface` that bears them.
    pub interface: Sourced<Interface>,
    /// `router_id`: the VRRP router id, 1 to 255, unique among all VRRP speakers of the network.
    pub router_id: Sourced<u8>,
    /// `priority` of each node that takes part, 1 to 254, by the node's name; only their order matters.
    pub priority: BTreeMap<Name, Sourced<u8>>,
    /// `advert_interval`, 20 ms to 10 s; default 100 ms. A node that dies is missed after three of them.
    pub advert_interval: Sourced<Duration>,
    /// `failback`: the node with the higher priority takes the addresses back as soon as it can; default false.
    pub failback: bool,
    /// `multicast`: adverts go to the network's group instead of to `node.peers`; default false.
    pub multicast: bool,
    /// `second_chance`: packets of streams that began before a move are forwarded to the node that has them; default
    /// false. For IPv4 and two nodes in one network.
    pub second_chance: bool,
}

impl Vip {
    /// Longest name, in characters: Keepalived's own limit.
    pub const MAX_NAME: usize = 32;
}
