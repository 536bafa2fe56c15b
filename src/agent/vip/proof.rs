//! What becomes of the file that serves: the nodes that wait for it are told, and whose turn it is follows.

use super::facts::Facts;
use super::vips::Vips;
use crate::agent::sources::place::Sources;
use crate::health::{ServerHealth, State};
use crate::heartbeat::Serves;
use crate::model::{Digest, Name, ServerId};
use crate::vip::{PeerStanding, Proof, Turn, turn};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A revision that has served as long, and whose servers were all asked, is proven.
const PROVEN: Duration = Duration::from_secs(3);
/// Servers of which nobody could say by then whether they answer are no reason to wait.
const ASKED: Duration = Duration::from_secs(60);

/// A revision that soaks is taken back by then where its probes fail; what needs clients is seen where they are.
const SOAKED: Duration = Duration::from_secs(90);

impl Vips {
    /// What becomes of the file that serves, for the nodes that wait for it.
    pub(super) fn proof(&mut self, facts: &Facts<'_>) -> Option<Serves> {
        if !facts.is_settled {
            return None;
        }
        let file = Digest::of(&facts.serving.toml);
        let now = Instant::now();
        let since = match self.serving {
            Some((before, since)) if before == file => since,
            _ => now,
        };
        let is_new = self.serving.is_some_and(|(before, _)| before != file);
        self.serving = Some((file, since));
        let states = facts.serving.config.backends.iter().map(|backend| {
            let ids = backend.servers.iter().map(|server| ServerId::new(backend.name.clone(), server.name.clone()));
            let states: Vec<_> = ids.filter_map(|id| facts.fleet.view().health(&id)).map(ServerHealth::state).collect();
            (backend.name.clone(), states)
        });
        let states: Vec<_> = states.collect();
        let is_dead =
            |states: &[State]| !states.is_empty() && states.iter().all(|state| matches!(state, State::Unhealthy(_)));
        let dead: BTreeSet<Name> =
            states.iter().filter(|(_, states)| is_dead(states)).map(|(name, _)| name.clone()).collect();
        if is_new {
            self.dead_before = Some(std::mem::take(&mut self.dead));
        }
        let is_asked = states.iter().all(|(_, states)| !states.contains(&State::Unknown));
        // What was dead before is not this file's doing; nor can the first one of a life be judged by it.
        let lost = self.dead_before.iter().flat_map(|before| dead.difference(before));
        let lost: Vec<String> = lost.map(ToString::to_string).collect();
        let failed = match (&facts.problem, lost.is_empty()) {
            (Some(problem), _) => Some(problem.clone()),
            (None, false) => Some(format!("no server of {} answers as it should", lost.join(", "))),
            (None, true) => None,
        };
        let served = now.saturating_duration_since(since);
        let is_soaked = facts.soaked.is_none_or(|soaked| soaked >= SOAKED);
        let is_proven = failed.is_none() && is_soaked && served >= PROVEN && (is_asked || served >= ASKED);
        self.dead = dead;
        Some(Serves { file, is_proven, failed })
    }

    /// Whose turn it is to serve this file, where `serving` does.
    pub(in crate::agent) fn turn(&self, serving: &Sources, file: Digest) -> Turn {
        let config = &serving.config;
        if !config.apply.backup_first {
            return Turn::Go;
        }
        let report = self.report.borrow();
        let heard = report.peers.iter().filter(|(_, peer)| peer.is_heard);
        let others: Vec<PeerStanding<'_>> = heard
            .filter_map(|(node, peer)| {
                let news = peer.news.as_ref()?;
                let proof = |serves: &Serves| match &serves.failed {
                    Some(why) => Proof::Failed(why.clone()),
                    None if serves.is_proven => Proof::Proven,
                    None => Proof::Proving,
                };
                Some(PeerStanding {
                    node,
                    owned: news.vips.values().filter(|vip| vip.owned_ms.is_some()).count(),
                    serves: news.serves.as_ref().map(|serves| (serves.file, proof(serves))),
                    refuses: news.refuses.as_ref().map(|refusal| (refusal.file, refusal.why.as_str())),
                })
            })
            .collect();
        turn(&config.node.name, report.owned(), file, &others)
    }
}
