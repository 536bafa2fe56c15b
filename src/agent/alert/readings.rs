//! What is measured for the operator's own thresholds.

use crate::agent::history::usage_book::budgeted;
use crate::agent::probes::traffic_listener::HeardTraffic;
use crate::agent::sources::certificate_news::CertificateStatus;
use crate::alerts::Metric;
use crate::config::{AlertRule, Clients, Config, is_match};
use crate::health::{Count, Outcome};
use crate::model::ServerId;
use crate::traffic::ServerPicture;
use crate::usage::{Hour, SharedLedger};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server or backend with fewer requests in a minute says nothing about its latencies and errors.
const FEWEST: u32 = 10;

/// Where it is measured.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Readings {
    pub config: Arc<Config>,
    pub clients: Arc<Clients>,
    pub heard: Option<Arc<HeardTraffic>>,
    pub certificates: Vec<CertificateStatus>,
    pub ledger: SharedLedger,
}

impl Readings {
    /// What a rule looks at, by the name of each: `chat`, `chat/a`, a file, `client/acme`.
    pub fn of(&self, rule: &AlertRule) -> BTreeMap<String, Option<f64>> {
        match rule.metric {
            Metric::LatencyP95 | Metric::FirstTokenP95 | Metric::ErrorRate => self.of_traffic(rule),
            Metric::CertificateDays => {
                let days = |status: &CertificateStatus| Some(status.left.as_secs_f64() / 86_400.0);
                self.certificates.iter().map(|status| (status.file.to_string(), days(status))).collect()
            }
            Metric::Budget => self.of_budgets(rule),
        }
    }

    fn of_traffic(&self, rule: &AlertRule) -> BTreeMap<String, Option<f64>> {
        let Some(heard) = &self.heard else { return BTreeMap::new() };
        let picture = heard.picture();
        let fits = |glob: &Option<String>, name: &str| glob.as_ref().is_none_or(|glob| is_match(glob, name));
        let is_meant =
            |id: &ServerId| fits(&rule.backend, id.backend.as_str()) && fits(&rule.server, id.server.as_str());
        let servers =
            picture.servers.iter().filter(|server| is_meant(&server.id) && self.config.server(&server.id).is_some());
        let mut found: BTreeMap<String, Option<f64>> = BTreeMap::new();
        let mut sums: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for server in servers {
            let (all, failed) = counts(server);
            if rule.metric == Metric::ErrorRate {
                let whom = match rule.server {
                    Some(_) => server.id.to_string(),
                    None => server.id.backend.to_string(),
                };
                let sum = sums.entry(whom).or_default();
                *sum = (sum.0 + all, sum.1 + failed);
                continue;
            }
            let quantiles = if rule.metric == Metric::LatencyP95 { server.total } else { server.first_byte };
            let value = quantiles.filter(|_| all >= FEWEST).map(|quantiles| quantiles.p95.as_secs_f64());
            found.insert(server.id.to_string(), value);
        }
        let part = |(all, failed): (u32, u32)| (all >= FEWEST).then(|| f64::from(failed) / f64::from(all));
        found.extend(sums.into_iter().map(|(whom, sum)| (whom, part(sum))));
        found
    }

    fn of_budgets(&self, rule: &AlertRule) -> BTreeMap<String, Option<f64>> {
        let hour = Hour::of(jiff::Timestamp::now());
        let ledger = self.ledger.lock();
        let is_meant = |name: &str| rule.client.as_ref().is_none_or(|glob| is_match(glob, name));
        let clients = budgeted(&self.config, &self.clients).filter(|(client, _)| is_meant(client.name.value.as_str()));
        let part = |(client, budget): (&crate::config::Client, &crate::config::Budget)| {
            let name = client.name.value.as_str();
            let (window, _) = ledger.spent(name, budget.per, hour);
            let spent = window.nano_usd.saturating_add(ledger.spent_elsewhere(name, budget.per, hour));
            (format!("client/{name}"), Some(spent as f64 / budget.nano_usd.value.max(1) as f64))
        };
        clients.map(part).collect()
    }
}

/// Requests of the last minute, and those that failed by the server's fault.
fn counts(server: &ServerPicture) -> (u32, u32) {
    let is_failed = |outcome: &Outcome| outcome.count() == Count::HardFailure;
    let all = server.outcomes.values().sum();
    let failed = server.outcomes.iter().filter(|(outcome, _)| is_failed(outcome)).map(|(_, count)| count).sum();
    (all, failed)
}
