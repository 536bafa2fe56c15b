//! The loop's side of alerts: what the desk is charged with.

use super::Node;
use crate::agent::alert::desk::{AlertCharge, AlertDesk};
use crate::agent::alert::readings::Readings;
use crate::agent::probes::traffic_listener::TrafficListener;
use crate::agent::vip::vips::Vips;

impl Node {
    /// Starts the desk where somebody is to be told, or was; and charges it with what is so now. An agent that only observes
    /// tells nobody.
    pub fn attend_alerts(&mut self) {
        let alerts = &self.serving.config.alerts;
        let is_wanted = !alerts.sinks.is_empty() || !alerts.rules.is_empty();
        if self.is_observer() || (self.alerts.is_none() && !is_wanted) {
            return;
        }
        let vips = self.vips.as_ref().map(Vips::watch);
        let desk = self.alerts.take().filter(|desk| !desk.has_ended());
        if let Some(desk) = desk {
            let wants = desk.wants(&self.serving.config, vips.as_ref());
            let desk = self.alerts.insert(desk);
            if !wants {
                return;
            }
            let charge =
                charge(&self.serving, self.listening.as_ref(), &self.certificate_news.all, &self.steering.ledger, vips);
            desk.attend(charge);
            return;
        }
        let charge =
            charge(&self.serving, self.listening.as_ref(), &self.certificate_news.all, &self.steering.ledger, vips);
        self.alerts = Some(AlertDesk::begin(charge, self.ledger.state.clone(), self.bulletin.clone()));
    }
}

fn charge(
    serving: &crate::agent::sources::place::Sources,
    listening: Option<&TrafficListener>,
    certificates: &[crate::agent::sources::certificate_news::CertificateStatus],
    ledger: &crate::usage::SharedLedger,
    vips: Option<tokio::sync::watch::Receiver<crate::agent::vip::guardian::VipReport>>,
) -> AlertCharge {
    let readings = (!serving.config.alerts.rules.is_empty()).then(|| Readings {
        config: serving.config.clone(),
        clients: serving.clients.clone(),
        heard: listening.map(TrafficListener::heard),
        certificates: certificates.to_vec(),
        ledger: ledger.clone(),
    });
    AlertCharge { config: serving.config.clone(), vips, readings, is_last: false }
}
