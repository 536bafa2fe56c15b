//! Watches the HAProxy of this node and tells Keepalived what the node is fit for, beside the agent's loop: an apply
//! that takes seconds must not keep the addresses on a node that cannot serve.
//!
//! Hears from the loop what it cannot see itself ([`Charge`]); tells everybody what it knows ([`VipReport`]): the loop,
//! the other nodes, the operator. Dies with the agent; then the backstop decides.

mod local;
mod own;
mod report;
mod sharing;
mod sums;
mod watch;

pub use report::{PeerView, VipEvent, VipEventKind, VipReport, VipView};

use crate::agent::tell::bulletin::Bulletin;
use crate::alerts::AlertNews;
use crate::config::{Config, Vip, own_vips};
use crate::haproxy::Listener;
use crate::heartbeat::{CanaryNews, RefusedFile, Serves};
use crate::model::{Name, Secret};
use crate::rollout::BackendNews;
use crate::sys::epoch::Epoch;
use crate::usage::SharedLedger;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch as channel;

/// What the agent's loop knows and the guardian must.
#[derive(Clone, Debug)]
pub struct Charge {
    /// What is served.
    pub config: Arc<Config>,
    /// Where HAProxy can be asked; none: over its admin socket only.
    pub listener: Option<Listener>,
    /// The key of the heartbeat; none: the nodes do not talk.
    pub key: Option<Secret>,
    /// The agent has compared HAProxy with the file once.
    pub is_settled: bool,
    /// HAProxy does not run what the file says, or cannot be steered.
    pub is_degraded: bool,
    /// The VIPs that an operator moves away.
    pub released: BTreeSet<Name>,
    /// The VIPs that an operator takes back.
    pub wanted: BTreeSet<Name>,
    /// The revision that serves.
    pub revision: Option<u32>,
    /// What the others are told of it.
    pub serves: Option<Serves>,
    /// The newest file, where it could not be served.
    pub refuses: Option<RefusedFile>,
    /// Where canaries are.
    pub canaries: BTreeMap<String, CanaryNews>,
    /// What came to backends.
    pub backends: BTreeMap<String, BackendNews>,
    /// What sinks of alerts were told.
    pub alerts: AlertNews,
}

impl Charge {
    /// Whether nothing differs that the guardian acts on.
    pub fn is_like(&self, other: &Self) -> bool {
        let plain = |charge: &Self| (charge.is_settled, charge.is_degraded, charge.revision);
        Arc::ptr_eq(&self.config, &other.config)
            && plain(self) == plain(other)
            && self.listener == other.listener
            && self.key == other.key
            && (&self.released, &self.wanted) == (&other.released, &other.wanted)
            && (&self.serves, &self.refuses) == (&other.serves, &other.refuses)
            && self.canaries == other.canaries
    }

    /// The VIPs in which this node takes part.
    pub fn vips(&self) -> impl Iterator<Item = &Vip> {
        own_vips(&self.config)
    }
}

/// How a node speaks VRRP for one VIP: who speaks otherwise does not hear it.
pub fn dialect(vip: &Vip, config: &Config) -> String {
    let own = &config.node.name.value;
    let others = vip.priority.keys().filter(|node| *node != own);
    let is_v6 = others.filter_map(|node| config.node.peers.get(node)).any(|ip| ip.is_ipv6());
    let family = if is_v6 { "ipv6" } else { "ipv4" };
    let way = if vip.multicast { "multicast" } else { "unicast" };
    format!("router id {}, {way}, {family}", vip.router_id.value)
}

/// Begins to watch; ends with the sender of the charge.
pub fn start(
    charge: channel::Receiver<Charge>,
    epoch: Epoch,
    bulletin: Bulletin,
    ledger: SharedLedger,
) -> channel::Receiver<VipReport> {
    let (report, seen) = channel::channel(VipReport::default());
    tokio::spawn(Box::pin(watch::Guardian::new(charge, report, epoch, bulletin, ledger).run()));
    seen
}
