//! The loop's side of alerts: what the desk is charged with.

use super::Node;
use crate::agent::alert::desk::{AlertCharge, AlertDesk};
use crate::agent::alert::readings::Readings;
use crate::agent::probes::traffic_listener::TrafficListener;
use crate::agent::vip::guardian::VipReport;
use crate::agent::vip::vips::Vips;
use tokio::sync::watch;

/// Starts the desk where somebody is to be told, or was; and charges it with what is so now. An agent that only observes tells
/// nobody.
pub(in crate::agent) fn attend_alerts(node: &mut Node) {
    let alerts = &node.serving.config.alerts;
    let is_wanted = !alerts.sinks.is_empty() || !alerts.rules.is_empty();
    if node.is_observer() || (node.alerts.is_none() && !is_wanted) {
        return;
    }
    let vips = node.vips.as_ref().map(Vips::watch);
    match node.alerts.take().filter(|desk| !desk.has_ended()) {
        Some(mut desk) => {
            if desk.wants(&node.serving.config, vips.as_ref()) {
                desk.attend(charge(node, vips));
            }
            node.alerts = Some(desk);
        }
        None => {
            let (state, bulletin) = (node.ledger.state.clone(), node.bulletin.clone());
            node.alerts = Some(AlertDesk::begin(charge(node, vips), state, bulletin));
        }
    }
}

fn charge(node: &Node, vips: Option<watch::Receiver<VipReport>>) -> AlertCharge {
    let config = node.serving.config.clone();
    let readings = (!config.alerts.rules.is_empty()).then(|| Readings {
        config: config.clone(),
        clients: node.serving.clients.clone(),
        heard: node.listening.as_ref().map(TrafficListener::heard),
        certificates: node.certificate_news.all.clone(),
        ledger: node.steering.ledger.clone(),
    });
    AlertCharge { config, vips, readings, is_last: false }
}
