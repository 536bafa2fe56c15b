//! The virtual addresses as Prometheus reads them.

use super::series::Float;
use super::wire::Vips;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VipLabels {
    vip: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    vip: String,
    node: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

pub(super) fn register_vips(registry: &mut Registry, vips: &Vips) {
    let (owner, state) = (Family::<VipLabels, Gauge>::default(), Family::<StateLabels, Gauge>::default());
    let (priority, fault) = (Family::<VipLabels, Gauge>::default(), Family::<VipLabels, Gauge>::default());
    for vip in &vips.vips {
        for node in &vip.nodes {
            let part = VipLabels { vip: vip.name.clone(), node: node.node.clone() };
            owner.get_or_create(&part).set(node.owned_s.is_some().into());
            if let Some(told) = node.fault {
                fault.get_or_create(&part).set(told.into());
            }
            if let Some(number) = node.priority {
                priority.get_or_create(&part).set(number.into());
            }
            if let Some(word) = &node.state {
                let VipLabels { vip, node } = part;
                state.get_or_create(&StateLabels { vip, node, state: word.to_lowercase() }).set(1);
            }
        }
    }
    registry.register("vip_owner", "1 where a node is MASTER and its interface bears the addresses", owner);
    registry.register("vip_state", "1 for the VRRP state of a node: master, backup, fault, stop", state);
    registry.register("vip_priority", "The VRRP priority that a node goes by", priority);
    registry.register("vip_fault", "1 where a node's Keepalived was told that it cannot own the addresses", fault);
    let (fit, heard) = (Family::<NodeLabels, Gauge>::default(), Family::<NodeLabels, Float>::default());
    let differs = Family::<NodeLabels, Gauge>::default();
    for node in &vips.nodes {
        let name = NodeLabels { node: node.node.clone() };
        if let Some(can) = node.can_serve {
            fit.get_or_create(&name).set(can.into());
        }
        if let Some(age) = node.heard_s.filter(|_| !node.is_self) {
            heard.get_or_create(&name).set(age);
        }
        differs.get_or_create(&name).set(node.differs.into());
    }
    registry.register("node_can_serve", "1 where a node's HAProxy can serve, as the node itself says", fit);
    registry.register_with_unit("node_heard", "Since another node was heard", Unit::Seconds, heard);
    registry.register("node_file_differs", "1 where another node serves another file than this one", differs);
    let events = Family::<KindLabels, Counter>::default();
    for (kind, count) in &vips.event_counts {
        events.get_or_create(&KindLabels { kind: kind.clone() }).inc_by(*count);
    }
    registry.register("vip_events", "Events of the virtual addresses since the agent's start", events);
}
