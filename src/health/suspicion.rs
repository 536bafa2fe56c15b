//! Whether it is our own network that fails, and not the servers.
//!
//! Knows what each pool's servers report, over all pools of the node. Called by `agent` before weights are decided.
//!
//! Most of a pool does not fail to connect, to resolve or to answer within one half a minute by chance: rather our
//! uplink, our resolver or our own host does. A refusal or a 500 is an answer, and proves our network. A server that
//! connects and then hangs is its own fault, unless every server of the pool does so at once.

use crate::model::{Moment, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So large a part of a pool…
const PART: f64 = 0.6;
/// …and so many servers at least…
const SERVERS: usize = 2;
/// …that began to fail within this.
const WITHIN: Duration = Duration::from_secs(30);
/// Longest freeze: by then it is no hiccup, and servers that are really gone must go.
const LONGEST: Duration = Duration::from_secs(300);
/// It ends so long after most of those servers answer again.
const ENDS_AFTER: Duration = Duration::from_secs(30);

/// A server whose last results may all be our own network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The first of them.
    pub since: Moment,
    /// There are so many that the server goes out by them.
    pub is_out: bool,
    /// One more of them takes it out.
    pub is_close: bool,
    /// The last was no connection or no address; else the server connected and did not answer.
    pub no_connection: bool,
}

/// What the servers of a pool report.
#[derive(Clone, Debug)]
pub struct PoolReport<'a> {
    /// Which pool.
    pub pool: &'a Name,
    /// Servers that are probed.
    pub servers: usize,
    /// Those of whose last results our own network may be the reason.
    pub ours: Vec<Ours>,
}

/// The suspicion of one node against itself.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    active: Option<Active>,
    witnesses: BTreeMap<String, Witness>,
    begun: u64,
}

#[derive(Clone, Debug)]
struct Active {
    since: Moment,
    pools: BTreeSet<Name>,
    /// Over all pools, those of later edits included.
    everywhere: bool,
    why: String,
    /// Since when it looks over.
    calm_since: Option<Moment>,
}

#[derive(Clone, Debug)]
struct Witness {
    since: Moment,
    why: String,
}

impl Suspicion {
    /// What something says that must always work (the gateway, a peer, our own loopback listener): `failed` says why it
    /// does not, `None` that it does.
    pub fn hear(&mut self, witness: &str, failed: Option<String>, now: Moment) {
        match failed {
            Some(why) => {
                self.witnesses.entry(witness.to_owned()).or_insert(Witness { since: now, why });
            }
            None => {
                self.witnesses.remove(witness);
            }
        }
    }

    /// Whether something fails that must always work.
    pub fn has_witness(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Looks at all pools anew.
    pub fn look(&mut self, reports: &[PoolReport<'_>], now: Moment) {
        // What began to fail long before, or is frozen longer than allowed, is no news.
        let from = self.active.as_ref().map_or(now.0, |active| active.since.0).saturating_sub(WITHIN);
        let failing = |report: &PoolReport<'_>| -> Vec<Ours> {
            let recent = |ours: &&Ours| ours.since.0 >= from;
            let all: Vec<Ours> = report.ours.iter().filter(recent).copied().collect();
            let whole = all.len() == report.servers;
            all.into_iter().filter(|ours| whole || ours.no_connection).collect()
        };
        let per_pool: Vec<(&PoolReport<'_>, Vec<Ours>)> = reports.iter().map(|r| (r, failing(r))).collect();
        let most = |failing: usize, servers: usize| failing >= SERVERS && failing as f64 >= servers as f64 * PART;
        let suspects: BTreeSet<Name> = per_pool
            .iter()
            .filter(|(report, ours)| most(ours.len(), report.servers) && ours.iter().any(|ours| ours.is_out))
            .map(|(report, _)| report.pool.clone())
            .collect();
        let (failed, servers) = (per_pool.iter().map(|(_, o)| o.len()).sum(), reports.iter().map(|r| r.servers).sum());
        let any_out = per_pool.iter().any(|(_, ours)| ours.iter().any(|ours| ours.is_out));
        let everywhere = reports.len() > 1 && most(failed, servers) && any_out;
        let witness = self.witnesses.iter().find(|(_, witness)| now.since(witness.since) < LONGEST);
        let why = match (witness, everywhere, suspects.first()) {
            (Some((name, witness)), ..) => Some(format!("{name} fails: {}", witness.why)),
            (None, true, _) => Some(format!("{failed} of {servers} servers of all backends began to fail within 30 s")),
            (None, false, Some(pool)) => {
                let of_pool = per_pool.iter().find(|(report, _)| report.pool == pool);
                of_pool.map(|(report, ours)| {
                    format!("{} of {} servers of {pool} began to fail within 30 s", ours.len(), report.servers)
                })
            }
            (None, false, None) => None,
        };
        let everywhere = everywhere || witness.is_some();
        self.follow(why, suspects, everywhere, now);
    }

    fn follow(&mut self, why: Option<String>, pools: BTreeSet<Name>, everywhere: bool, now: Moment) {
        let Some(active) = &mut self.active else {
            if let Some(why) = why {
                let why = format!("it may be our own network: {why}; no weight goes down for up to 5 min");
                self.active = Some(Active { since: now, pools, everywhere, why, calm_since: None });
                self.begun += 1;
            }
            return;
        };
        if why.is_some() {
            active.calm_since = None;
            active.pools.extend(pools);
            active.everywhere |= everywhere;
        } else {
            active.calm_since.get_or_insert(now);
        }
        let is_calm = active.calm_since.is_some_and(|since| now.since(since) >= ENDS_AFTER);
        if is_calm || now.since(active.since) >= LONGEST {
            self.active = None;
        }
    }

    /// Why we suspect ourselves where this pool is concerned.
    pub fn over(&self, pool: &Name) -> Option<&str> {
        let active = self.active.as_ref()?;
        (active.everywhere || active.pools.contains(pool)).then_some(active.why.as_str())
    }

    /// Since when, why, and over which pool if it is one alone.
    pub fn active(&self) -> Option<(Moment, &str, Option<&Name>)> {
        let active = self.active.as_ref()?;
        let one = active.pools.first().filter(|_| !active.everywhere && active.pools.len() == 1);
        Some((active.since, &active.why, one))
    }

    /// How often it has begun since the start.
    pub fn begun(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn ours(since_s: u64, is_out: bool) -> Ours {
        Ours { since: at(since_s), is_out, is_close: true, no_connection: true }
    }

    /// Whether one pool of so many servers is suspected at 100 s.
    #[track_caller]
    fn check(servers: usize, failing: &[Ours], expected: bool) {
        let pool = Name::new("chat").unwrap();
        let mut suspicion = Suspicion::default();
        suspicion.look(&[PoolReport { pool: &pool, servers, ours: failing.to_vec() }], at(100));
        assert_eq!(suspicion.over(&pool).is_some(), expected, "{failing:?}");
    }

    #[test]
    fn most_of_a_pool_within_half_a_minute_is_suspect() {
        check(3, &[ours(80, true), ours(95, false)], true);
        check(5, &[ours(80, true), ours(95, false)], false);
        check(3, &[ours(80, false), ours(95, false)], false);
        check(3, &[ours(60, true), ours(95, true)], false);
        check(1, &[ours(80, true)], false);
    }

    #[test]
    fn servers_that_connect_and_hang_are_suspect_only_all_together() {
        let hangs = |since_s| Ours { no_connection: false, ..ours(since_s, true) };
        check(3, &[hangs(80), hangs(90)], false);
        check(3, &[hangs(80), hangs(90), hangs(95)], true);
    }

    #[test]
    fn pools_of_one_server_each_are_suspect_together_and_it_is_one_event() {
        let (a, b) = (Name::new("a").unwrap(), Name::new("b").unwrap());
        let mut suspicion = Suspicion::default();
        let reports = |now: u64| {
            let failing = vec![ours(90, now > 95)];
            [
                PoolReport { pool: &a, servers: 1, ours: failing.clone() },
                PoolReport { pool: &b, servers: 1, ours: failing },
            ]
        };
        suspicion.look(&reports(95), at(95));
        assert_eq!(suspicion.begun(), 0);
        for second in 100..400 {
            suspicion.look(&reports(second), at(second));
            assert!(suspicion.over(&a).is_some() && suspicion.over(&b).is_some());
        }
        // It lasts no longer than five minutes, and the same failures do not begin it again.
        for second in 400..800 {
            suspicion.look(&reports(second), at(second));
            assert!(suspicion.over(&a).is_none());
        }
        assert_eq!(suspicion.begun(), 1);
    }

    #[test]
    fn it_ends_half_a_minute_after_the_servers_answer_again() {
        let pool = Name::new("chat").unwrap();
        let mut suspicion = Suspicion::default();
        let mut look = |ours: Vec<Ours>, now| {
            suspicion.look(&[PoolReport { pool: &pool, servers: 2, ours }], at(now));
            suspicion.over(&pool).is_some()
        };
        assert!(look(vec![ours(90, true), ours(90, true)], 100));
        assert!(look(vec![ours(90, true)], 120));
        assert!(look(vec![], 149));
        assert!(!look(vec![], 150));
    }

    #[test]
    fn a_witness_is_enough_and_one_that_fails_for_ever_is_not() {
        let pool = Name::new("chat").unwrap();
        let mut suspicion = Suspicion::default();
        suspicion.hear("gateway", Some("no answer".into()), at(100));
        for (now, expected) in [(100, true), (399, true), (401, false), (900, false)] {
            suspicion.look(&[], at(now));
            assert_eq!(suspicion.over(&pool).is_some(), expected, "{now}");
        }
        suspicion.hear("gateway", None, at(901));
        suspicion.hear("gateway", Some("no answer".into()), at(902));
        suspicion.look(&[], at(902));
        assert_eq!((suspicion.over(&pool).is_some(), suspicion.begun()), (true, 2));
    }
}
