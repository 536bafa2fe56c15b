//! Interfaces that answer ARP for their own addresses only, and ask with them only. Else every node would answer for an
//! address of `lo`, and the old owner's questions would teach others that it still has it.
//!
//! What the kernel was set to before is kept in an nftables map, for the day on which nobody wants it any more: there it
//! lives exactly as long as the setting itself. Without nftables the setting stays until a restart of the machine.
//!
//! **Source**: kernel, Documentation/networking/ip-sysctl, `arp_ignore`, `arp_announce`: the larger of `conf/all` and
//! the interface's own counts.

use super::nft::{self, Tables};
use crate::model::Interface;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The settings and what they need to be at least.
const WISH: [(&str, u32); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// The interfaces that were changed, and what stood there: `arp_ignore` × 256 + `arp_announce`.
#[derive(Debug, Default)]
pub(super) struct Before {
    kept: BTreeMap<Interface, u32>,
    can_keep: bool,
}

impl Before {
    pub(super) async fn read(tables: Option<&Tables>) -> Self {
        match tables {
            Some(tables) => Self { kept: nft::kept(tables).await, can_keep: true },
            None => Self::default(),
        }
    }

    /// Raises what is too low, and answers which interfaces are quiet now.
    pub(super) async fn quieten(
        &mut self,
        interfaces: &BTreeSet<Interface>,
        problems: &mut Vec<String>,
    ) -> BTreeSet<Interface> {
        let mut quiet = BTreeSet::new();
        for interface in interfaces {
            match self.quieten_one(interface).await {
                Ok(()) => {
                    quiet.insert(interface.clone());
                }
                Err(why) => problems.push(format!(
                    "{interface} may answer ARP for addresses that it does not own, so lo does not get them: {why}"
                )),
            }
        }
        quiet
    }

    async fn quieten_one(&mut self, interface: &Interface) -> Result<(), String> {
        let mut raises = Vec::new();
        let mut before = 0;
        for (key, least) in WISH {
            let own = read(interface.as_str(), key)?;
            before = before << 8 | own.min(255);
            if own.max(read("all", key)?) < least {
                raises.push((key, least));
            }
        }
        // First what it was: who dies between the two still leaves a way back.
        if !raises.is_empty() && self.can_keep && !self.kept.contains_key(interface) {
            self.kept.insert(interface.clone(), before);
            nft::keep(&self.kept).await.map_err(|why| format!("what it was cannot be kept: {why}"))?;
        }
        raises.into_iter().try_for_each(|(key, least)| write(interface, key, least))
    }

    /// Puts back what an earlier call raised on interfaces that bear no virtual address any more. A value that somebody
    /// else has set since stays.
    pub(super) async fn restore(&mut self, wanted: &BTreeSet<Interface>, problems: &mut Vec<String>) {
        let (wanted, unwanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.kept).into_iter().partition(|(interface, _)| wanted.contains(interface));
        self.kept = wanted;
        if unwanted.is_empty() {
            return;
        }
        for (interface, before) in unwanted {
            for ((key, raised), old) in WISH.into_iter().zip([before >> 8, before & 255]) {
                // An interface that is gone took its settings along.
                if old < raised
                    && read(interface.as_str(), key) == Ok(raised)
                    && let Err(why) = write(&interface, key, old)
                {
                    problems.push(format!("{key} of {interface} could not be set back to {old}: {why}"));
                    self.kept.insert(interface.clone(), before);
                }
            }
        }
        if let Err(why) = nft::keep(&self.kept).await {
            problems.push(format!("the nftables table {} could not be set: {why}", nft::BEFORE));
        }
    }
}

fn path(interface: &str, key: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/{key}")
}

fn read(interface: &str, key: &str) -> Result<u32, String> {
    let text = fs_err::read_to_string(path(interface, key)).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("there is no interface {interface}"),
        _ => e.to_string(),
    })?;
    text.trim().parse().map_err(|_| format!("{} says {text:?}", path(interface, key)))
}

fn write(interface: &Interface, key: &str, value: u32) -> Result<(), String> {
    fs_err::write(path(interface.as_str(), key), format!("{value}\n")).map_err(|e| e.to_string())
}
