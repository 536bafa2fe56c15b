//! The virtual addresses of this node: its guardian, what it is charged with, and what is remembered beside it.

use super::facts::Facts;
use super::guardian::{self, Charge, VipReport};
use super::released::Released;
use crate::agent::tell::bulletin::Bulletin;
use crate::config::own_vips;
use crate::haproxy::{self, Listener};
use crate::model::{Digest, Name};
use crate::store;
use crate::sys;
use crate::sys::epoch::Epoch;
use crate::usage::SharedLedger;
use camino::Utf8Path;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Before a guardian that ended is begun anew.
const GUARDIAN_PAUSE: Duration = Duration::from_millis(500);
/// The guardian has told Keepalived by then. Where a new file speaks another VRRP than the owner, this node must be out of
/// the way before Keepalived reads it.
pub(in crate::agent) const ANNOUNCED: Duration = Duration::from_millis(200);
/// Between two looks at what the guardian should know.
const LOOK: Duration = Duration::from_millis(250);
/// HAProxy that does not follow for as long makes this node worth less than another: moving an address cuts streams.
const DEGRADED: Duration = Duration::from_secs(10);
/// Share of the usual rhythm of probes where this node owns nothing: the owner probes.
const STANDBY_PACE: f64 = 1.0 / 6.0;

/// The guardian and what is remembered beside it.
#[derive(Debug)]
pub struct Vips {
    pub(super) charge: watch::Sender<Charge>,
    pub(super) report: watch::Receiver<VipReport>,
    pub(super) released: BTreeSet<Name>,
    pub(super) kept: Released,
    pub(super) wanted: BTreeSet<Name>,
    pub(super) wanted_until: Instant,
    /// The file that serves, and since when.
    pub(super) serving: Option<(Digest, Instant)>,
    /// Backends without a server that answers, now and before the file that serves.
    pub(super) dead: BTreeSet<Name>,
    pub(super) dead_before: Option<BTreeSet<Name>>,
    /// Where HAProxy is asked whether it serves, by the structure that has it.
    pub(super) listener: Option<(Digest, Option<Listener>)>,
    pub(super) degraded_since: Option<Instant>,
    pub(super) look_at: Instant,
}

impl Vips {
    /// Starts the guardian.
    pub(in crate::agent) fn begin(
        facts: &Facts<'_>,
        state: &Utf8Path,
        epoch: Epoch,
        bulletin: Bulletin,
        ledger: SharedLedger,
    ) -> Self {
        let released = store::load_released(state).unwrap_or_else(|e| {
            tracing::error!("which addresses were released is forgotten: {}", sys::chain(&e));
            BTreeSet::new()
        });
        let (charge, charged) = watch::channel(charge(facts, &released, &BTreeSet::new()));
        let report = guardian::start(charged, epoch, bulletin, ledger);
        Self {
            charge,
            report,
            kept: Released::of(state, released.clone()),
            released,
            wanted: BTreeSet::new(),
            wanted_until: Instant::now(),
            serving: None,
            dead: BTreeSet::new(),
            dead_before: None,
            listener: None,
            degraded_since: None,
            look_at: Instant::now(),
        }
    }

    /// Whether the guardian has ended, by a bug of ours.
    pub(in crate::agent) fn has_ended(&self) -> bool {
        self.report.has_changed().is_err()
    }

    /// When [`Self::attend`] has something to do next: it looks at every server.
    pub(in crate::agent) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Charges the guardian with what is so now. Answers the pace of probes, a share of the usual one.
    pub(in crate::agent) fn attend(&mut self, facts: &Facts<'_>) -> f64 {
        self.look_at = Instant::now() + LOOK;
        let report = self.report.borrow().clone();
        self.wanted.retain(|name| report.vips.get(name).is_some_and(|view| view.owned_since.is_none()));
        if Instant::now() > self.wanted_until {
            self.wanted.clear();
        }
        let serves = self.proof(facts);
        if let Some(rendered) = facts.rendered
            && self.listener.as_ref().is_none_or(|(of, _)| *of != rendered.structure.digest)
        {
            let listener = haproxy::pulse_listener(&rendered.haproxy_cfg);
            self.listener = Some((rendered.structure.digest, listener));
        }
        let listener = self.listener.as_ref().and_then(|(_, listener)| listener.clone());
        self.degraded_since = self.degraded_since.or(Some(Instant::now())).filter(|_| facts.is_behind);
        let is_degraded = self.degraded_since.is_some_and(|since| since.elapsed() >= DEGRADED);
        let charge = Charge { listener, serves, is_degraded, ..charge(facts, &self.released, &self.wanted) };
        // Only the owner probes at full rate, and who becomes it does at once; so does who proves a revision for others.
        let is_proving = charge.serves.as_ref().is_none_or(|serves| !serves.is_proven);
        self.charge.send_if_modified(|before| {
            let is_new = !before.is_like(&charge);
            *before = charge;
            is_new
        });
        let is_busy = own_vips(&facts.serving.config).next().is_none() || is_proving || report.owned() > 0;
        if is_busy { 1.0 } else { STANDBY_PACE }
    }

    /// What the guardian knows, for who looks again and again.
    pub(in crate::agent) fn watch(&self) -> watch::Receiver<VipReport> {
        self.report.clone()
    }

    /// What the guardian knows now.
    pub fn report(&self) -> VipReport {
        self.report.borrow().clone()
    }

    /// The VIPs that an operator moved away.
    pub fn released(&self) -> &BTreeSet<Name> {
        &self.released
    }

    /// Waits for news of the guardian.
    pub async fn changed(&mut self) {
        // One that has ended is noticed by whoever looks next.
        if self.report.changed().await.is_err() {
            tokio::time::sleep(GUARDIAN_PAUSE).await;
        }
    }
}

fn charge(facts: &Facts<'_>, released: &BTreeSet<Name>, wanted: &BTreeSet<Name>) -> Charge {
    let config = facts.serving.config.clone();
    let key = config.node.heartbeat.as_ref().and_then(|heartbeat| facts.serving.secrets.get(&heartbeat.key.value));
    Charge {
        listener: None,
        key: key.cloned(),
        is_settled: facts.is_settled,
        is_degraded: false,
        released: released.clone(),
        wanted: wanted.clone(),
        revision: facts.revision,
        serves: None,
        refuses: facts.refuses.clone(),
        canaries: facts.canaries.clone(),
        backends: facts.backends.clone(),
        alerts: facts.alerts.clone(),
        config,
    }
}
