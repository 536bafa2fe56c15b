//! Virtual addresses as they go over the wire. Names are a contract: they are only ever added.

use crate::agent::{PeerView, VipEvent, VipView, VipsSnapshot};
use crate::vip::{Local, VrrpAdvice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// The virtual addresses, as this node sees them and as the others say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Vips {
    /// In the order of their names.
    pub vips: Vec<Vip>,
    /// This node and the others, in the order of their names.
    pub nodes: Vec<VipNode>,
    /// Keepalived's process id; `None`: it does not run, or cannot be seen from here.
    pub keepalived_pid: Option<u32>,
    /// Client connections of this node's HAProxy; known while addresses are released.
    pub connections: Option<u64>,
    /// What happened, newest first, at most 50.
    pub events: Vec<Event>,
    /// How often each kind of event happened since the agent's start.
    pub event_counts: BTreeMap<String, u64>,
}

/// One VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefix.
    pub addresses: Vec<String>,
    /// The interface that bears them.
    pub interface: String,
    /// Each node's part in it, in the order of their names; of a silent node what it said last.
    pub nodes: Vec<VipPart>,
    /// An operator moves it away from this node.
    pub is_released: bool,
}

/// One node's part in one VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipPart {
    /// Which node.
    pub node: String,
    /// MASTER, BACKUP, FAULT or STOP, as its Keepalived says; `None`: it says nothing.
    pub state: Option<String>,
    /// The priority that it goes by.
    pub priority: Option<u8>,
    /// It is MASTER and its interface bears the addresses, for so many seconds; `None`: it does not own them.
    pub owned_s: Option<f64>,
    /// Its Keepalived was told that it cannot own them.
    pub fault: Option<bool>,
    /// What its Keepalived was told that it is worth beside the others.
    pub adjustment: Option<i16>,
    /// Why.
    pub why: Option<String>,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipNode {
    /// Its name.
    pub node: String,
    /// It is the one that answers.
    pub is_self: bool,
    /// It is heard now; of itself always.
    pub is_heard: bool,
    /// Seconds since it was heard; `None`: never.
    pub heard_s: Option<f64>,
    /// Its HAProxy can serve; `None`: unknown.
    pub can_serve: Option<bool>,
    /// serves, full, hangs or gone, of this node only.
    pub haproxy: Option<String>,
    /// The number of the revision that serves, in its own history.
    pub revision: Option<u32>,
    /// The first twelve digits of the SHA-256 of the file that it serves.
    pub file: Option<String>,
    /// It serves another file than this node.
    pub differs: bool,
    /// The newest file, where it could not be served: why.
    pub refuses: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: String,
    /// master, backup, fault, stop, two_masters, healed, orphan, peer_lost, peer_heard, haproxy_lost, haproxy_back,
    /// keepalived_lost or keepalived_seen.
    pub kind: String,
    /// Which VIP; `None`: the node.
    pub vip: Option<String>,
    /// In words.
    pub text: String,
}

/// `POST /v1/vip`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipRequest {
    /// Which VIPs; empty: all of this node.
    pub names: Vec<String>,
    /// release or reclaim.
    pub verb: String,
    /// Release also what nobody else is known to be able to take.
    #[serde(default)]
    pub force: bool,
    /// Who asks.
    pub actor: String,
}

impl Vips {
    /// Of what the guardian knows.
    pub(super) fn of(snapshot: &VipsSnapshot, own: &str, revision: Option<u32>) -> Self {
        let VipsSnapshot { vips, report, released, serving } = snapshot;
        let now = Instant::now();
        let vip = |vip: &crate::config::Vip| {
            let mut nodes: Vec<VipPart> = report
                .peers
                .iter()
                .filter(|(name, _)| vip.priority.contains_key(*name))
                .map(|(name, peer)| other_part(name.as_str(), peer, vip.name.as_str(), now))
                .collect();
            nodes.extend(report.vips.get(&vip.name).map(|view| own_part(own, view, now)));
            nodes.sort_by(|a, b| a.node.cmp(&b.node));
            Vip {
                name: vip.name.to_string(),
                addresses: vip.addresses.iter().map(|address| address.value.to_string()).collect(),
                interface: vip.interface.to_string(),
                nodes,
                is_released: released.contains(&vip.name),
            }
        };
        let mut nodes: Vec<VipNode> = report
            .peers
            .iter()
            .map(|(name, peer)| {
                let serves = peer.news.as_ref().and_then(|news| news.serves.as_ref());
                VipNode {
                    node: name.to_string(),
                    is_self: false,
                    is_heard: peer.is_heard,
                    heard_s: peer.at.map(|at| now.saturating_duration_since(at).as_secs_f64()),
                    can_serve: peer.news.as_ref().filter(|_| peer.is_heard).map(|news| news.can_serve),
                    haproxy: None,
                    revision: peer.news.as_ref().and_then(|news| news.revision),
                    file: serves.map(|serves| serves.file.short()),
                    differs: serves.is_some_and(|serves| serves.file != *serving),
                    refuses: peer.news.as_ref().and_then(|news| Some(news.refuses.as_ref()?.why.clone())),
                }
            })
            .collect();
        nodes.push(VipNode {
            node: own.to_owned(),
            is_self: true,
            is_heard: true,
            heard_s: Some(0.0),
            can_serve: report.local.map(|local| local == Local::Serves),
            haproxy: report.local.map(|local| {
                let word = match local {
                    Local::Serves if report.is_full => "full",
                    Local::Serves => "serves",
                    Local::Hangs => "hangs",
                    Local::Gone => "gone",
                };
                word.to_owned()
            }),
            revision,
            file: Some(serving.short()),
            differs: false,
            refuses: None,
        });
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Self {
            vips: vips.iter().map(vip).collect(),
            nodes,
            keepalived_pid: report.keepalived,
            connections: report.connections,
            events: report.events.iter().map(Event::from).collect(),
            event_counts: report.counts.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        }
    }
}

fn own_part(node: &str, view: &VipView, now: Instant) -> VipPart {
    let VipView { state, since: _, priority, bears: _, owned_since, word } = view;
    let owned = owned_since.map(|since| now.saturating_duration_since(since).as_secs_f64());
    part(node, state.map(|state| state.to_string()), *priority, owned, word.as_ref())
}

fn other_part(node: &str, peer: &PeerView, vip: &str, now: Instant) -> VipPart {
    let Some(there) = peer.news.as_ref().and_then(|news| news.vips.get(vip)) else {
        return part(node, None, None, None, None);
    };
    let age = peer.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
    // What a silent node owns, nobody knows.
    let owned = there.owned_ms.filter(|_| peer.is_heard).map(|ms| ms as f64 / 1000.0 + age);
    part(node, there.state.map(|state| state.to_string()), there.priority, owned, there.word.as_ref())
}

fn part(
    node: &str,
    state: Option<String>,
    priority: Option<u8>,
    owned_s: Option<f64>,
    word: Option<&VrrpAdvice>,
) -> VipPart {
    VipPart {
        node: node.to_owned(),
        state,
        priority,
        owned_s,
        fault: word.map(|word| word.fault),
        adjustment: word.map(|word| word.adjustment),
        why: word.map(|word| word.why.clone()),
    }
}

impl From<&VipEvent> for Event {
    fn from(event: &VipEvent) -> Self {
        let VipEvent { at, kind, vip, text } = event;
        Self {
            at: at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            kind: kind.to_string(),
            vip: vip.as_ref().map(ToString::to_string),
            text: text.clone(),
        }
    }
}
