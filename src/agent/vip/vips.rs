//! The virtual addresses of this node: its guardian, and what is remembered beside it.

use super::guardian::{Charge, VipReport};
use crate::haproxy::Listener;
use crate::model::{Digest, Name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Before a guardian that ended is begun anew.
const GUARDIAN_PAUSE: Duration = Duration::from_millis(500);
/// The guardian and what is remembered beside it.
#[derive(Debug)]
pub struct Vips {
    pub(in crate::agent) charge: watch::Sender<Charge>,
    pub(in crate::agent) report: watch::Receiver<VipReport>,
    pub(in crate::agent) released: BTreeSet<Name>,
    pub(in crate::agent) wanted: BTreeSet<Name>,
    pub(in crate::agent) wanted_until: Instant,
    /// The file that serves, and since when.
    pub(in crate::agent) serving: Option<(Digest, Instant)>,
    /// Backends without a server that answers, now and before the file that serves.
    pub(in crate::agent) dead: BTreeSet<Name>,
    pub(in crate::agent) dead_before: Option<BTreeSet<Name>>,
    /// Where HAProxy is asked whether it serves, by the structure that has it.
    pub(in crate::agent) listener: Option<(Digest, Option<Listener>)>,
    pub(in crate::agent) degraded_since: Option<Instant>,
    pub(in crate::agent) look_at: Instant,
}

impl Vips {
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
