//! How many reloads are too many: a budget per hour, and a cap on the old workers that still finish their streams.
//!
//! Decides nothing about what a reload is for; a forced change and a rollback do not ask (invariants I10 and I14).

use crate::agent::tell::refusal::Objection;
use crate::config::Haproxy;
use crate::plan::Runtime;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Between two reloads (I10): each leaves an old worker behind.
pub(in crate::agent) const RELOAD_GAP: Duration = Duration::from_secs(5);
/// The time that the budget is for.
const HOUR: Duration = Duration::from_secs(3600);
/// What the operator can do instead of waiting.
const NOW: &str = "`hapilot apply --force` does not wait, and no rollback does";

/// The reloads and the old workers of the last hour.
#[derive(Clone, Debug, Default)]
pub struct ReloadLimits {
    /// When each reload was made, by the clock that nobody sets and by the one that people read.
    made: VecDeque<(Instant, Timestamp)>,
    /// The old workers.
    finishing: BTreeMap<u32, Finishing>,
}

/// An old worker, which finishes its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finishing {
    /// When it was first seen to be an old one.
    pub since: Instant,
    /// Client connections when it was looked at last; `None` before that.
    pub connections: Option<u64>,
    /// Resident memory in bytes, at the same time; `None` where its process cannot be seen from here.
    pub resident_bytes: Option<u64>,
}

impl ReloadLimits {
    /// Takes note of a reload.
    pub fn made(&mut self, now: Instant, time: Timestamp) {
        self.forget(now);
        self.made.push_back((now, time));
    }

    /// Takes note of the workers that are on their way out.
    pub fn saw(&mut self, runtime: Option<&Runtime>, now: Instant) {
        let old: Vec<u32> =
            runtime.and_then(|runtime| runtime.master.as_ref()).map_or(vec![], |m| m.old_workers.clone());
        self.finishing.retain(|pid, _| old.contains(pid));
        for pid in old {
            let new = Finishing { since: now, connections: None, resident_bytes: None };
            self.finishing.entry(pid).or_insert(new);
        }
    }

    /// The old workers by process id.
    pub fn old_workers(&self) -> &BTreeMap<u32, Finishing> {
        &self.finishing
    }

    /// Takes note of what an old worker still has.
    pub fn looked_at(&mut self, pid: u32, connections: Option<u64>, resident_bytes: Option<u64>) {
        if let Some(worker) = self.finishing.get_mut(&pid) {
            (worker.connections, worker.resident_bytes) = (connections, resident_bytes);
        }
    }

    /// Why the next reload must wait; `None`: it need not. It is the same as long as the reason is.
    pub fn objection(&mut self, haproxy: &Haproxy, now: Instant) -> Option<Objection> {
        self.forget(now);
        let most = haproxy.max_old_workers as usize;
        if self.finishing.len() > most {
            let pids = self.finishing.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let what = format!(
                "a reload is needed and waits: {} old workers still finish their streams (pids {pids}), more than \
                 `haproxy.max_old_workers` = {most}",
                self.finishing.len()
            );
            let help = format!("it follows by itself when enough of them have ended; {NOW}");
            return Some(Objection::new(what).help(help));
        }
        let budget = haproxy.reloads_per_hour as usize;
        let oldest = self.made.len().checked_sub(budget).and_then(|at| self.made.get(at));
        oldest.map(|(_, time)| {
            let free = time.checked_add(HOUR).unwrap_or(Timestamp::MAX);
            let what = format!(
                "a reload is needed and waits until {}: `haproxy.reloads_per_hour` = {budget} are spent",
                free.strftime("%H:%M:%SZ")
            );
            Objection::new(what).help(format_args!("it follows by itself then; {NOW}"))
        })
    }

    fn forget(&mut self, now: Instant) {
        while self.made.front().is_some_and(|(made, _)| now.saturating_duration_since(*made) >= HOUR) {
            self.made.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::plan::Master;

    fn haproxy(per_hour: u32, old_workers: u32) -> Haproxy {
        let text = format!(
            "[haproxy]\nreloads_per_hour = {per_hour}\nmax_old_workers = {old_workers}\n\
             [frontend.f]\nbind = [\"127.0.0.1:1\"]\n[backend.b.server.s]\nurl = \"http://192.0.2.1\"\n"
        );
        parse("hapilot.toml", &text, "lb1").unwrap().haproxy
    }

    fn with_old_workers(old_workers: Vec<u32>) -> Runtime {
        Runtime {
            pid: 1,
            version: "3.2.0".parse().unwrap(),
            description: None,
            uptime_s: 1,
            maxconn: 10_000,
            most_maxconn: 10_000,
            servers: crate::plan::RuntimeServers::default(),
            maps: BTreeMap::new(),
            master: Some(Master { pid: 2, reloads: 0, failed: 0, old_workers }),
        }
    }

    #[test]
    fn a_spent_budget_is_free_again_an_hour_after_its_oldest_reload() {
        let (haproxy, start) = (haproxy(2, 5), Instant::now());
        let mut limits = ReloadLimits::default();
        let time: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
        limits.made(start, time);
        assert_eq!(limits.objection(&haproxy, later(0)), None);
        limits.made(later(10), time + Duration::from_secs(600));
        let said = limits.objection(&haproxy, later(30)).unwrap().to_string();
        assert!(said.contains("until 09:00:00Z") && said.contains("reloads_per_hour"), "{said}");
        assert_eq!(limits.objection(&haproxy, later(60)), None);
        // A forced one counts as well.
        limits.made(later(61), time + Duration::from_secs(3660));
        assert!(limits.objection(&haproxy, later(62)).unwrap().to_string().contains("until 09:10:00Z"));
    }

    #[test]
    fn old_workers_hold_the_next_reload_until_enough_of_them_are_gone() {
        let (haproxy, start) = (haproxy(60, 1), Instant::now());
        let mut limits = ReloadLimits::default();
        limits.saw(Some(&with_old_workers(vec![11])), start);
        assert_eq!(limits.objection(&haproxy, start), None);
        limits.saw(Some(&with_old_workers(vec![11, 12])), start + Duration::from_secs(5));
        let said = limits.objection(&haproxy, start).unwrap().to_string();
        assert!(said.contains("pids 11, 12") && said.contains("max_old_workers"), "{said}");
        assert!(said.contains("hapilot apply --force"), "{said}");
        let since: Vec<_> = limits.old_workers().iter().map(|(pid, worker)| (*pid, worker.since - start)).collect();
        assert_eq!(since, [(11, Duration::ZERO), (12, Duration::from_secs(5))]);
        limits.looked_at(12, Some(3), Some(9_000_000));
        limits.looked_at(99, Some(1), None);
        assert_eq!(limits.old_workers()[&12].connections, Some(3));
        limits.saw(Some(&with_old_workers(vec![12])), start + Duration::from_secs(10));
        assert_eq!(limits.objection(&haproxy, start), None);
        limits.saw(None, start);
        assert!(limits.old_workers().is_empty());
    }
}
