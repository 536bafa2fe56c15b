//! Servers of whose last results our own network may be the reason, counted by backend: what is asked of them does not
//! cost more with more servers.

use crate::health::Ours;
use crate::model::{Moment, Name, ServerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The other servers of a backend are asked at once no more often than this: thousands that begin to fail together ask
/// the same.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The failing servers of all backends.
#[derive(Clone, Debug, Default)]
pub(super) struct Failing(BTreeMap<Name, Pool>);

#[derive(Clone, Debug, Default)]
struct Pool {
    servers: BTreeMap<Name, Ours>,
    /// How many of them are out.
    out: usize,
    asked_at: Option<Moment>,
}

impl Failing {
    /// Takes note of what a server's last results say.
    pub fn note(&mut self, id: &ServerId, ours: Option<Ours>) {
        let pool = match ours {
            Some(_) => self.0.entry(id.backend.clone()).or_default(),
            None => match self.0.get_mut(&id.backend) {
                Some(pool) => pool,
                None => return,
            },
        };
        let before = match ours {
            Some(ours) => pool.servers.insert(id.server.clone(), ours),
            None => pool.servers.remove(&id.server),
        };
        pool.out += usize::from(ours.is_some_and(|ours| ours.is_out));
        pool.out -= usize::from(before.is_some_and(|ours| ours.is_out));
    }

    /// Forgets servers that are gone.
    pub fn retain(&mut self, exists: impl Fn(&ServerId) -> bool) {
        for (backend, pool) in &mut self.0 {
            pool.servers.retain(|server, _| exists(&ServerId::new(backend.clone(), server.clone())));
            pool.out = pool.servers.values().filter(|ours| ours.is_out).count();
        }
    }

    /// Whether a server of a backend is out for such a reason.
    pub fn is_one_out(&self, backend: &Name) -> bool {
        self.0.get(backend).is_some_and(|pool| pool.out > 0)
    }

    /// Whether more than one fails.
    pub fn are_several(&self) -> bool {
        self.0.values().map(|pool| pool.servers.len()).sum::<usize>() > 1
    }

    /// Those of one backend.
    pub fn of(&self, backend: &Name) -> impl Iterator<Item = (&Name, Ours)> {
        self.0.get(backend).into_iter().flat_map(|pool| &pool.servers).map(|(server, ours)| (server, *ours))
    }

    /// Whether the others of a backend are to be asked now; counts as asked.
    pub fn asks(&mut self, backend: &Name, now: Moment) -> bool {
        let Some(pool) = self.0.get_mut(backend) else { return false };
        let asks = pool.asked_at.is_none_or(|at| now >= at + ASK_AGAIN);
        if asks {
            pool.asked_at = Some(now);
        }
        asks
    }
}
