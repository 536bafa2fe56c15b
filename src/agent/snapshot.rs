//! What the agent knows at one moment, for whoever looks.
//!
//! Made by the loop, published on a `watch` channel; read by `api`.

use super::certificate_news::CertificateStatus;
use super::corrections::Correction;
use super::guardian::VipReport;
use super::keyring::KeyStatus;
use super::limits::Finishing;
use super::listening::Listening;
use super::node::Node;
use super::outage::{self, Outage};
use super::saved::Waiting;
use crate::config::{Backend, Server, Vip, own_vips};
use crate::health::{GuardEvent, HealthSnapshot};
use crate::model::{AdminState, Digest, Moment, Name, ServerId, Weight};
use crate::plan::RuntimeServer;
use crate::render;
use crate::traffic::Picture;
use crate::weights::WeightDecision;
use camino::Utf8PathBuf;
use std::collections::BTreeSet;
use std::time::Duration;

/// Everything that `status` shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// This node's name.
    pub node: String,
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// Whether the file as it stands now is served.
    pub is_file_serving: bool,
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
    /// The virtual addresses; `None`: the file has none.
    pub vips: Option<VipsSnapshot>,
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
    fn problems(&self) -> Vec<String> {
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
    pub until: jiff::Timestamp,
    /// Time that is left.
    pub left: Duration,
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
    /// Its servers.
    pub servers: Vec<ServerSnapshot>,
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

impl Snapshot {
    /// The picture now.
    pub fn of(node: &Node) -> Self {
        let config = &node.serving.config;
        let haproxy = node.runtime().map(|runtime| HaproxySnapshot {
            version: runtime.version.to_string(),
            pid: runtime.pid,
            uptime_s: runtime.uptime_s + node.engine.seen.map_or(0, |seen| seen.elapsed().as_secs()),
            structure: runtime.description.clone(),
            finishing: node.engine.limits.old_workers().iter().map(old_worker).collect(),
            old_workers: runtime.master.iter().flat_map(|master| master.old_workers.clone()).collect(),
        });
        let names = render::runtime_names(config);
        let server_of = |backend: &Backend, server: &Server| {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let word = node.overrides.get(&id);
            let decision = node.fleet.decision(&id).cloned();
            let weight = word.and_then(|word| word.wish().weight).or(decision.as_ref().map(|decision| decision.weight));
            ServerSnapshot {
                url: server.url.to_string(),
                tier: server.tier,
                base: server.weight.value,
                admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
                weight: weight.unwrap_or(server.weight.value),
                decision,
                runtime: names.get(&id).and_then(|names| node.runtime()?.servers.get(&names.weight)).cloned(),
                health: node.fleet.health(&id).map(|health| health.snapshot(node.now())),
                word: word.map(ToString::to_string),
                keys: node.keyring.status(&id, node.now()),
                key_rotations: node.keyring.rotations(&id),
                id,
            }
        };
        let backends = config
            .backends
            .iter()
            .map(|backend| {
                let servers: Vec<_> = backend.servers.iter().map(|server| server_of(backend, server)).collect();
                BackendSnapshot {
                    name: backend.name.to_string(),
                    provider: backend.provider.to_string(),
                    balance: backend.balance.to_string(),
                    guard: node.fleet.guard_of(&backend.name),
                    outage: outage::of(&servers).map(|why| Outage { why, since: None }),
                    servers,
                }
            })
            .collect();
        let vips = node.vips.as_ref().map(|vips| VipsSnapshot {
            vips: own_vips(config).cloned().collect(),
            report: vips.report(),
            released: vips.released().clone(),
            serving: Digest::of(&node.serving.toml),
        });
        let waits = node.order_wait.as_ref().map(|wait| format!("the file waits for its turn: {wait}"));
        let file_problem = node.file_problem.iter().filter(|_| node.waiting().is_none());
        let untold = node.bulletin.problem();
        let problems =
            file_problem.chain(node.troubles.all()).chain(&node.serving.outdated).chain(&waits).chain(&untold);
        let problems = problems.cloned().chain(node.certificate_news.problems.iter().cloned());
        let problems = problems.chain(vips.iter().flat_map(VipsSnapshot::problems)).collect();
        let trial = node.trial().map(|(trial, left)| TrialSnapshot {
            revision: trial.revision,
            back_to: trial.back_to,
            until: trial.until,
            left,
        });
        Self {
            node: config.node.name.to_string(),
            file: node.place.file.clone(),
            is_file_serving: node.file_problem.is_none() && node.is_settled,
            waiting: node.waiting().cloned(),
            revision: node.revision(),
            uptime: node.now().0,
            writes: node.engine.writes,
            reloads: node.engine.reloads,
            problems,
            warnings: node.engine.warnings.iter().cloned().chain(node.not_in_force(&node.serving)).collect(),
            haproxy,
            backends,
            trial,
            recovered: node.recovered.clone(),
            corrections: node.engine.corrections.newest().cloned().collect(),
            corrections_total: node.engine.corrections.total(),
            would: node.engine.would.clone(),
            certificates: node.certificate_news.all.clone(),
            vips,
            traffic: node.listening.as_ref().map(Listening::picture),
            guards: (node.now(), node.fleet.guards(node.now())),
        }
    }
}

fn old_worker((pid, worker): (&u32, &Finishing)) -> OldWorker {
    let Finishing { since, connections, resident_bytes } = *worker;
    OldWorker { pid: *pid, age: since.elapsed(), connections, resident_bytes }
}
