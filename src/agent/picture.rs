//! The picture of a node at one moment: everything that `status` shows, put together.
//!
//! Made by the loop.

use super::limits::Finishing;
use super::listening::Listening;
use super::node::Node;
use super::outage;
use super::snapshot::{
    BackendSnapshot, HaproxySnapshot, OldWorker, Outage, ServerSnapshot, Snapshot, TrialSnapshot, VipsSnapshot,
};
use crate::config::{Backend, Server, own_vips};
use crate::model::{Digest, ServerId};

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
        let names = node.engine.renderer.names_seen(config);
        let server_of = |backend: &Backend, server: &Server| {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let word = node.overrides.get(&id);
            let decision = node.fleet.view().decision(&id).cloned();
            let weight = word.and_then(|word| word.wish().weight).or(decision.as_ref().map(|decision| decision.weight));
            ServerSnapshot {
                url: server.url.to_string(),
                tier: server.tier,
                base: server.weight.value,
                admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
                weight: weight.unwrap_or(server.weight.value),
                decision,
                runtime: names.get(&id).and_then(|names| node.runtime()?.servers.get(&names.weight)).cloned(),
                health: node.fleet.view().health(&id).map(|health| health.snapshot(node.now())),
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
                    guard: node.fleet.view().guard_of(&backend.name),
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
