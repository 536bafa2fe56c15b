//! The head of the picture of a node at one moment: all that `status` shows of it and not of its servers.
//!
//! Made by the loop.

use super::snapshot::{HaproxySnapshot, OldWorker, Snapshot, SoakSnapshot, TrialSnapshot, VipsSnapshot};
use crate::agent::alert::desk::AlertDesk;
use crate::agent::file::unserved::Unserved;
use crate::agent::node::Node;
use crate::agent::outcome::limits::Finishing;
use crate::agent::tell::refusal::Refusal;
use crate::config::own_vips;
use std::time::SystemTime;

impl Snapshot {
    /// The picture now, but for what grows with the servers.
    pub(super) fn head(node: &Node, pending: Option<&'static str>) -> Self {
        let config = &node.serving.config;
        let haproxy = node.runtime().map(|runtime| HaproxySnapshot {
            version: runtime.version.to_string(),
            pid: runtime.pid,
            uptime_s: runtime.uptime_s + node.engine.seen.map_or(0, |seen| seen.elapsed().as_secs()),
            structure: runtime.description.clone(),
            finishing: node.engine.limits.old_workers().iter().map(old_worker).collect(),
            old_workers: runtime.master.iter().flat_map(|master| master.old_workers.clone()).collect(),
        });
        let vips = node.vips.as_ref().map(|vips| VipsSnapshot {
            vips: own_vips(config).cloned().collect(),
            report: vips.report(),
            released: vips.released().clone(),
            serving: node.serving.digest,
        });
        let waits = node.file.order_wait.as_ref().map(|wait| format!("the file waits for its turn: {wait}"));
        // A good file that waits is no problem, also while HAProxy has not said yet what its apply would do.
        let is_problem = |problem: &&Unserved| !matches!(problem, Unserved::Waits(_));
        let mut file_problem = node.file.problem.iter().filter(is_problem).map(Unserved::why);
        let untold = node.bulletin.problem();
        // What the file is refused for may be what keeps HAProxy from following: it is said once.
        let file_problem = file_problem.next();
        let is_said = |trouble: &&Refusal| file_problem.is_some_and(|problem| problem.has_reasons_of(trouble));
        let troubles = node.troubles.all().filter(|trouble| !is_said(trouble));
        let problems = file_problem.into_iter().chain(troubles).map(ToString::to_string);
        let problems = problems.chain(node.serving.outdated.iter().map(ToString::to_string));
        let problems = problems.chain(waits).chain(untold).chain(node.certificate_news.problems.iter().cloned());
        let alerts = node.alerts.as_ref().map(AlertDesk::report).unwrap_or_default();
        let problems = problems.chain(vips.iter().flat_map(VipsSnapshot::problems)).chain(alerts.problems()).collect();
        let trial = node.ledger.trial().map(|(trial, left)| TrialSnapshot {
            revision: trial.revision,
            back_to: trial.back_to,
            until: trial.until,
            left,
            soak: node.steering.soaking.view(node.now()).map(|(view, lasts)| SoakSnapshot {
                view,
                lasts,
                keeps: trial.keeps,
            }),
        });
        Self {
            node: config.node.name.to_string(),
            file: node.file.place.file.clone(),
            state: node.ledger.state.clone(),
            is_file_serving: node.file.problem.is_none() && node.is_settled && pending.is_none(),
            pending,
            waiting: node.file.waiting().cloned(),
            revision: node.revision(),
            uptime: node.now().0,
            writes: node.engine.writes,
            reloads: node.engine.reloads,
            problems,
            warnings: node.engine.warnings.iter().cloned().chain(node.not_in_force(&node.serving)).collect(),
            haproxy,
            backends: vec![],
            trial,
            recovered: node.recovered.clone(),
            corrections: node.engine.corrections.newest().cloned().collect(),
            corrections_total: node.engine.corrections.total(),
            would: node.engine.would.clone(),
            certificates: node.certificate_news.all.clone(),
            clients: config.has_clients().then(|| node.serving.clients.clone()),
            vips,
            canaries: node.steering.canaries.view(node.now(), SystemTime::now()),
            alerts,
            traffic: None,
            guards: (node.now(), node.steering.fleet.guards(node.now())),
        }
    }
}

fn old_worker((pid, worker): (&u32, &Finishing)) -> OldWorker {
    let Finishing { since, connections, resident_bytes } = *worker;
    OldWorker { pid: *pid, age: since.elapsed(), connections, resident_bytes }
}
