//! What the agent knows at one moment, for whoever looks.
//!
//! Its head is made by `snapshot_head`, the rest by `snapshot_parts`. Published by the loop on a `watch` channel; read by
//! `api`.

use crate::agent::alert::report::AlertReport;
use crate::agent::file::unserved::Waiting;
use crate::agent::outcome::corrections::Correction;
use crate::agent::sources::certificate_news::CertificateStatus;
use crate::agent::steering::CanaryView;
use crate::agent::vip::guardian::VipReport;
use crate::config::Clients;
use crate::config::Vip;
use crate::fleet::KeyStatus;
use crate::health::{GuardEvent, HealthSnapshot};
use crate::model::{AdminState, Digest, Moment, Name, ServerId, Weight};
use crate::plan::RuntimeServer;
use crate::rollout::SoakView;
use crate::traffic::Picture;
use crate::weights::WeightDecision;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Everything that `status` shows, but for the servers: of thousands, each is made when it is shown.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// This node's name.
    pub node: String,
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// Where the state is.
    pub state: Utf8PathBuf,
    /// Whether the file as it stands now is served.
    pub is_file_serving: bool,
    /// Why the file as it stands is about to be served, and is not yet.
    pub pending: Option<&'static str>,
    /// The file as it stands waits for the operator.
    pub waiting: Option<Waiting>,
    /// The revision that serves.
    pub revision: Option<u32>,
    /// Time since the agent's start.
    pub uptime: Duration,
    /// Files, runtime commands and reloads since the start.
    pub writes: u64,
    /// Reloads since the start.
    pub reloads: u64,
    /// What is wrong right now.
    pub problems: Vec<String>,
    /// What HAProxy warned about in the files that serve; nothing is wrong now.
    pub warnings: Vec<String>,
    /// The HAProxy that was seen last.
    pub haproxy: Option<HaproxySnapshot>,
    /// Backends in the order of their names.
    pub backends: Vec<BackendSnapshot>,
    /// The revision on trial.
    pub trial: Option<TrialSnapshot>,
    /// What the agent found of an interrupted apply when it started.
    pub recovered: Option<String>,
    /// The last corrections of drift, newest first.
    pub corrections: Vec<Correction>,
    /// How many there were since the start.
    pub corrections_total: u64,
    /// It only observes, and would do this.
    pub would: Option<Vec<String>>,
    /// What the requests of clients tell; `None`: nobody listens.
    pub traffic: Option<Picture>,
    /// The certificates that serve, in the order of their files.
    pub certificates: Vec<CertificateStatus>,
    /// Who may ask; `None`: anybody.
    pub clients: Option<Arc<Clients>>,
    /// The virtual addresses; `None`: the file has none.
    pub vips: Option<VipsSnapshot>,
    /// The canaries, in the order of their names.
    pub canaries: Vec<CanaryView>,
    /// Who is told what happens.
    pub alerts: AlertReport,
    /// The guards at work, the oldest first, and when this picture was made.
    pub guards: (Moment, Vec<GuardEvent>),
}

/// The virtual addresses of this node.
#[derive(Clone, Debug)]
pub struct VipsSnapshot {
    /// As the file has them.
    pub vips: Vec<Vip>,
    /// What the guardian knows.
    pub report: VipReport,
    /// Those that an operator moved away.
    pub released: BTreeSet<Name>,
    /// The file that this node serves.
    pub serving: Digest,
}

impl VipsSnapshot {
    /// What somebody should read, one line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let heard = self.report.peers.iter().filter(|(_, peer)| peer.is_heard);
        let differ = heard.filter_map(|(name, peer)| {
            let serves = peer.news.as_ref()?.serves.as_ref()?;
            let (own, theirs) = (self.serving.short(), serves.file.short());
            (serves.file != self.serving)
                .then(|| format!("the nodes serve different files: this one {own}, {name} {theirs}"))
        });
        let silent = self.report.peers.iter().filter(|(_, peer)| !peer.is_heard);
        let silent = silent.map(|(name, _)| format!("nothing is heard of {name}"));
        let released =
            self.released.iter().map(|name| format!("{name} is released; `hapilot vip reclaim` takes it back"));
        self.report.problems.iter().cloned().chain(silent).chain(differ).chain(released).collect()
    }
}

/// A revision that goes away by itself unless it is confirmed.
#[derive(Clone, Debug)]
pub struct TrialSnapshot {
    /// Which.
    pub revision: u32,
    /// What comes back.
    pub back_to: u32,
    /// Until when.
    pub until: Timestamp,
    /// Time that is left.
    pub left: Duration,
    /// How it compares with what was before.
    pub soak: Option<SoakSnapshot>,
}

/// A revision that is compared with what was before it.
#[derive(Clone, Debug)]
pub struct SoakSnapshot {
    /// How it compares now.
    pub view: SoakView,
    /// How long it is compared.
    pub lasts: Duration,
    /// Nobody has to confirm it.
    pub keeps: bool,
}

/// The running HAProxy.
#[derive(Clone, Debug)]
pub struct HaproxySnapshot {
    /// Its version.
    pub version: String,
    /// The worker's process id.
    pub pid: u32,
    /// Seconds since the worker started.
    pub uptime_s: u64,
    /// The revision marker.
    pub structure: Option<String>,
    /// Workers on their way out.
    pub old_workers: Vec<u32>,
    /// The same with what is known of each.
    pub finishing: Vec<OldWorker>,
}

/// An old worker, which finishes its streams.
#[derive(Clone, Debug)]
pub struct OldWorker {
    /// Its process id.
    pub pid: u32,
    /// For how long, as far as it was seen.
    pub age: Duration,
    /// Client connections that it still has.
    pub connections: Option<u64>,
    /// Its resident memory, in bytes.
    pub resident_bytes: Option<u64>,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct BackendSnapshot {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Its algorithm.
    pub balance: String,
    /// Why the guard keeps servers in.
    pub guard: Option<String>,
    /// Why it can serve no request; `None` where it can.
    pub outage: Option<Outage>,
    /// The tier whose servers take its requests.
    pub tier: u8,
}

/// One server.
#[derive(Clone, Debug)]
pub struct ServerSnapshot {
    /// Which.
    pub id: ServerId,
    /// Its base URL.
    pub url: String,
    /// Its tier.
    pub tier: u8,
    /// The weight in the file.
    pub base: Weight,
    /// What is wanted of it: the file's word or the operator's.
    pub admin: AdminState,
    /// The weight that it should have.
    pub weight: Weight,
    /// How the weight came about.
    pub decision: Option<WeightDecision>,
    /// What HAProxy said last.
    pub runtime: Option<RuntimeServer>,
    /// Its health.
    pub health: Option<HealthSnapshot>,
    /// What an operator set by command.
    pub word: Option<String>,
    /// Its keys, without their values.
    pub keys: Vec<KeyStatus>,
    /// How often another key was chosen.
    pub key_rotations: u64,
}

/// A backend that can serve no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Why: each server's reason, those that share one together.
    pub why: String,
    /// Since when, as far as the agent has seen it.
    pub since: Option<Timestamp>,
}
