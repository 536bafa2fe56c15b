//! The short way to HAProxy, for what cannot wait: what health decided, weights and keys, and operators' words. It goes by
//! the HAProxy that was seen last, without a look at it and without files; those follow with the next look. A death in
//! between leaves the files one decision behind, and the next start decides again.
//!
//! What fails is seen and told by the look that follows.

use super::engine::Engine;
use super::interim::Moved;
use super::renderer::Servers;
use crate::config::Config;
use crate::desired::DesiredServer;
use crate::haproxy::{self, AdminError, ExecuteError};
use crate::model::ServerId;
use crate::plan::{self, RuntimeServers, Step};
use crate::render;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// 5,000 weights take 25 ms. A HAProxy that takes longer is out of breath or hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// Steps that are on their way.
#[derive(Debug)]
pub(in crate::agent) struct Push {
    admin_socket: Utf8PathBuf,
    /// The worker that they are for.
    pid: u32,
    steps: Vec<Step>,
    /// Proxies with a server of which an operator said something: that it has all of that is to be proven.
    doubted: BTreeSet<String>,
}

/// What came of a push.
#[derive(Debug, Default)]
pub(in crate::agent) struct Pushed {
    /// The steps that HAProxy took.
    pub done: Vec<Step>,
    /// The servers of each proxy that was looked at.
    pub seen: Vec<RuntimeServers>,
    /// HAProxy took all, and answered all.
    pub is_whole: bool,
}

impl Push {
    /// Sends them, and looks at what is doubted: also where another worker serves by now, which took no step.
    pub async fn carry_out(self) -> Pushed {
        let Self { admin_socket, pid, steps, doubted } = self;
        let executed = match haproxy::execute(&admin_socket, &steps, Some(pid), DEADLINE).await {
            Ok(executed) => Some(executed),
            Err(ExecuteError { source: AdminError::OtherWorker { .. }, .. }) => None,
            Err(_) => return Pushed::default(),
        };
        let mut seen = vec![];
        for proxy in &doubted {
            match haproxy::observe_backend(&admin_socket, proxy, DEADLINE).await {
                Ok(found) => seen.push(found),
                Err(_) => break,
            }
        }
        let wanted = steps.len();
        let done: Vec<Step> = match executed {
            Some(executed) => {
                let failed: BTreeSet<usize> = executed.failures.iter().map(|failure| failure.index).collect();
                let done = steps.into_iter().enumerate().filter(|(index, _)| !failed.contains(index));
                done.map(|(_, step)| step).collect()
            }
            None => vec![],
        };
        let is_whole = done.len() == wanted && seen.len() == doubted.len();
        Pushed { done, seen, is_whole }
    }
}

impl Engine {
    /// What HAProxy does not have yet, where it is known what it has.
    pub(in crate::agent) fn push(
        &mut self,
        admin_socket: &Utf8Path,
        config: &Arc<Config>,
        moved: &Moved,
    ) -> Option<Push> {
        let names = self.renderer.names(config);
        let is_ours = |text: &String| text.starts_with("hapilot ");
        let runtime = self.runtime.as_ref().filter(|runtime| runtime.description.as_ref().is_some_and(is_ours))?;
        if self.would.is_some() {
            return None;
        }
        let mut steps = plan::weight_steps(&moved.wishes, &names, runtime);
        let mut doubted = BTreeSet::new();
        for id in &moved.said {
            let (Some(wish), Some(names_of)) = (moved.wishes.get(id), names.get(id)) else { continue };
            doubted.insert(names_of.weight.0.clone());
            steps.extend(plan::word_steps(id, *wish, &names, runtime));
        }
        if let Some(desired) = moved.keys.as_ref().filter(|desired| self.renderer.has_other_keys(desired)) {
            let keys = render::keys(desired).unwrap_or_default();
            steps.extend(plan::keys_step(render::KEYS_MAP, keys, runtime));
        }
        if let Some(desired) = moved.keys.as_ref().filter(|desired| self.renderer.has_other_canaries(desired)) {
            steps.extend(plan::map_step(render::CANARIES_MAP, render::canaries(desired), runtime));
        }
        let pid = runtime.pid;
        let is_needed = !steps.is_empty() || !doubted.is_empty();
        is_needed.then(|| Push { admin_socket: admin_socket.to_owned(), pid, steps, doubted })
    }

    /// Whether HAProxy, as it was seen last, has all of this: then its files have nothing to follow either.
    pub(in crate::agent) fn has_all(&mut self, config: &Arc<Config>, moved: &Moved) -> bool {
        let names = self.renderer.names(config);
        let Some(runtime) = &self.runtime else { return false };
        let has = |(id, wish): (&ServerId, &DesiredServer)| {
            let seen = names.get(id).and_then(|names| runtime.servers.get(&names.weight));
            seen.is_some_and(|seen| (seen.admin, seen.weight) == (wish.state, wish.weight))
        };
        moved.keys.is_none() && moved.said.is_empty() && moved.wishes.iter().all(has)
    }

    /// Which server has a name in HAProxy.
    pub(in crate::agent) fn servers_by_name(&mut self, config: &Arc<Config>) -> Arc<Servers> {
        self.renderer.servers(config)
    }

    /// Takes note of what a look found of one server.
    pub(in crate::agent) fn saw(&mut self, config: &Arc<Config>, id: &ServerId, seen: &[RuntimeServers]) {
        let names = self.renderer.names(config);
        let (Some(names), Some(runtime)) = (names.get(id), &mut self.runtime) else { return };
        let found = seen.iter().find_map(|seen| seen.get(&names.weight));
        if let (Some(found), Some(known)) = (found, runtime.servers.get_mut(&names.weight)) {
            (known.admin, known.weight) = (found.admin, found.weight);
        }
    }

    /// Takes note of what HAProxy took.
    pub(in crate::agent) fn took(&mut self, done: &[Step]) {
        if done.is_empty() {
            return;
        }
        self.writes += done.len() as u64;
        if self.stands_in {
            self.news.took(done);
        }
        if let Some(runtime) = &mut self.runtime {
            runtime.took(done);
        }
        if let Some(expected) = &mut self.expected {
            expected.took(done);
        }
    }
}
