//! Guards over the servers of one backend, between the health of each and the weights of all.
//!
//! Knows shares of base weights and what stands behind them, and no HAProxy. Called by `weights`, before anything is
//! written. In the order in which they rule:
//!
//! 1. While we suspect ourselves (`suspicion`) no weight goes down.
//! 2. No more than half of a tier is out by our verdict, the least bad stay with 30 %; one always stays.
//! 3. Less than half of the base weights left: fail open, everybody takes 30 % at least, until 60 % are left for a
//!    minute.
//!
//! What asked for silence itself or has no key is no verdict of ours: it is out beyond the half and not counted, but
//! never the last. Where the whole of tier 1 is out, a working tier 2 carries, and no guard keeps it from that: HAProxy
//! turns to tier 2 only when nothing of tier 1 is left. HAProxy's own check works below all this: a server that refuses
//! connections gets none, whatever its weight.

use super::FactorKind;
use crate::model::{AdminState, Moment, Name, ServerId, Weight};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

/// What a server keeps that a guard keeps in against the verdict.
const KEPT: f64 = 0.3;
/// What it keeps where real requests fail at it right now and another takes its full part: enough to see that it mends.
const TRICKLE: f64 = 0.02;
/// Who has so much of its base takes its full part; below it is being let in, and must not get all at once.
const FULL_PART: f64 = 0.5;
/// Fail open below this part of the base weights…
const OPEN_BELOW: f64 = 0.5;
/// …until so many are left…
const CLOSE_FROM: f64 = 0.6;
/// …for so long.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// Why the last ones stay in.
const LAST_ONE: &str = "nobody else of the pool can serve: it stays in";

/// A guard that holds something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// It may be our own network: no weight goes down.
    SuspectOurselves,
    /// More than half of a tier would be out, or everything.
    KeepHalf,
    /// Too little is left: everybody takes something. Worth a page.
    FailOpen,
    /// The deep probes' budget of the day is spent.
    BudgetSpent,
}

impl Guard {
    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuspectOurselves => "suspect_ourselves",
            Self::KeepHalf => "keep_half",
            Self::FailOpen => "fail_open",
            Self::BudgetSpent => "budget_spent",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A guard at work: the subject of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardEvent {
    /// Which.
    pub guard: Guard,
    /// Over which backend; `None`: over all.
    pub pool: Option<Name>,
    /// Since when.
    pub since: Moment,
    /// One sentence for people.
    pub why: String,
}

/// One server, as the guards see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub id: ServerId,
    /// 1 takes traffic first, 2 when no server of tier 1 can.
    pub tier: u8,
    /// What the operator gave it.
    pub base: Weight,
    /// What it can carry beside the others: the base of the file, also where a command gave it another weight.
    pub capacity: Weight,
    /// The administrative axis, which no guard touches.
    pub admin: AdminState,
    /// The share of the base weight that is planned for it; 0: out.
    pub share: f64,
    /// What stands behind the share.
    pub kind: FactorKind,
    /// Share of successes lately, 0 to 1: who is least bad.
    pub success: f64,
    /// The weight that runs.
    pub runs: Weight,
}

impl Member {
    /// Whether traffic may come to it, as far as the operator is concerned.
    fn is_wanted(&self) -> bool {
        self.admin == AdminState::Ready && self.base > Weight::ZERO
    }

    fn is_out(&self) -> bool {
        self.share <= 0.0
    }

    fn is_deliberate(&self) -> bool {
        self.kind == FactorKind::Deliberate
    }

    /// What a guard lets it keep. `is_carried`: somebody takes his full part, and so need not be spared.
    fn kept(&self, is_carried: bool) -> f64 {
        if self.kind == FactorKind::ProvenDead && is_carried { TRICKLE } else { KEPT }
    }
}

/// What the guards make of the plan for one server.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// The planned share may be written.
    AsPlanned,
    /// This weight, whatever was planned.
    Hold(Weight, String),
    /// This share of the base, whatever was planned.
    Share(f64, String),
}

/// The guards of one backend, with what they remember.
#[derive(Clone, Debug, Default)]
pub struct PoolGuards {
    /// The last weight of a server that was in by its health.
    last_in: BTreeMap<ServerId, Weight>,
    spared: BTreeSet<ServerId>,
    /// Since when enough is left, while it is failed open.
    enough_since: Option<Moment>,
    active: BTreeMap<Guard, (Moment, String)>,
    begun: BTreeMap<Guard, u64>,
}

impl PoolGuards {
    /// Rules over one backend, in the order of `members`. `suspected`: why we suspect ourselves.
    pub fn rule(&mut self, members: &[Member], suspected: Option<&str>, now: Moment) -> Vec<Ruling> {
        // A search among all members for each of them would cost thousands of servers their square.
        let known: HashSet<&ServerId> = members.iter().map(|member| &member.id).collect();
        self.last_in.retain(|id, _| known.contains(id));
        for member in members.iter().filter(|member| !member.is_out() && suspected.is_none()) {
            if member.runs > Weight::ZERO {
                self.last_in.insert(member.id.clone(), member.runs);
            }
        }
        self.note(Guard::SuspectOurselves, suspected.map(str::to_owned), now);
        if let Some(why) = suspected {
            let (rulings, last_one) = self.freeze(members, why);
            self.note(Guard::KeepHalf, last_one, now);
            return rulings;
        }
        let mut rulings = vec![Ruling::AsPlanned; members.len()];
        let wanted: Vec<&Member> = members.iter().filter(|member| member.is_wanted()).collect();
        let serving = wanted.iter().filter(|member| !member.is_out()).map(|member| member.tier).min();
        let counted: Vec<&Member> = wanted
            .iter()
            .copied()
            .filter(|m| serving.is_none_or(|tier| m.tier == tier) && !m.is_deliberate())
            .collect();
        let is_carried = counted.iter().any(|member| member.share >= FULL_PART);
        let open = self.fails_open(&wanted, &counted, serving.is_some(), now);
        let spared = if open.is_some() || serving.is_none() { BTreeSet::new() } else { self.spare(&counted) };
        let last_one = (serving.is_none() && counted.is_empty() && !wanted.is_empty()).then(|| LAST_ONE.to_owned());
        let half = (!spared.is_empty()).then(|| {
            let out = counted.iter().filter(|member| member.is_out()).count();
            format!("{out} of {} servers are unhealthy: no more than half go out, the least bad stay", counted.len())
        });
        self.note(Guard::KeepHalf, half.clone().or_else(|| last_one.clone()), now);
        self.note(Guard::FailOpen, open.clone(), now);
        for (member, ruling) in members.iter().zip(&mut rulings) {
            let is_wanted = member.admin != AdminState::Maint && member.base > Weight::ZERO;
            if let Some(why) = &last_one
                && member.is_wanted()
            {
                *ruling = Ruling::Share(KEPT, why.clone());
            } else if let (Some(why), true, false) = (&open, is_wanted, member.is_deliberate()) {
                // Nothing healthy anywhere: the base weights are as good as any.
                let share = if serving.is_none() { 1.0 } else { member.kept(is_carried) };
                if member.share < share {
                    *ruling = Ruling::Share(share, why.clone());
                }
            } else if let (Some(why), true) = (&half, spared.contains(&member.id)) {
                *ruling = Ruling::Share(member.kept(is_carried), why.clone());
            }
        }
        self.spared = spared;
        rulings
    }

    /// Nothing goes down, and who went out in the last moments comes back: the verdict was on us. Also says so where the
    /// last ones stay in, whom something else than a verdict would take out.
    fn freeze(&self, members: &[Member], why: &str) -> (Vec<Ruling>, Option<String>) {
        let hold = |member: &Member| {
            if !member.is_wanted() || member.is_deliberate() {
                return Ruling::AsPlanned;
            }
            let before = self.last_in.get(&member.id).copied().unwrap_or(member.base);
            let held = if member.is_out() { before.max(member.runs) } else { member.runs }.min(member.base);
            let planned = f64::from(member.base.get()) * member.share;
            if planned < f64::from(held.get()) { Ruling::Hold(held, why.to_owned()) } else { Ruling::AsPlanned }
        };
        let mut rulings: Vec<Ruling> = members.iter().map(hold).collect();
        let serves = |(member, ruling): (&Member, &Ruling)| match ruling {
            Ruling::Hold(weight, _) => *weight > Weight::ZERO,
            Ruling::AsPlanned | Ruling::Share(..) => !member.is_out(),
        };
        let wanted = || members.iter().zip(&rulings).filter(|(member, _)| member.is_wanted());
        if wanted().next().is_none() || wanted().any(serves) {
            return (rulings, None);
        }
        for (_, ruling) in members.iter().zip(&mut rulings).filter(|(member, _)| member.is_wanted()) {
            *ruling = Ruling::Share(KEPT, LAST_ONE.to_owned());
        }
        (rulings, Some(LAST_ONE.to_owned()))
    }

    /// Who stays in although it is unhealthy, so that no more than half of a tier is out.
    fn spare(&self, counted: &[&Member]) -> BTreeSet<ServerId> {
        let mut out: Vec<&Member> = counted.iter().copied().filter(|member| member.is_out()).collect();
        let too_many = out.len().saturating_sub(counted.len() / 2);
        // The least bad first; who was kept before stays it, unless another is clearly better.
        let badness = |member: &Member| {
            let kept_before = if self.spared.contains(&member.id) { 0.2 } else { 0.0 };
            let is_dead = if member.kind == FactorKind::ProvenDead { 2.0 } else { 0.0 };
            is_dead - member.success - kept_before
        };
        out.sort_by(|a, b| badness(a).total_cmp(&badness(b)).then_with(|| a.id.cmp(&b.id)));
        out.into_iter().take(too_many).map(|member| member.id.clone()).collect()
    }

    /// Why everybody takes something, if so.
    ///
    /// A wrong verdict on most of a pool is likelier than a provider that mends because we send it nothing, and those
    /// who are left would get many times their load. A pool that the operator drained or emptied by hand is not
    /// refilled.
    fn fails_open(&mut self, wanted: &[&Member], counted: &[&Member], serves: bool, now: Moment) -> Option<String> {
        let of = |members: &mut dyn Iterator<Item = &&Member>| -> f64 {
            members.map(|member| f64::from(member.capacity.get())).sum()
        };
        let (all, left) = (of(&mut counted.iter()), of(&mut counted.iter().filter(|member| !member.is_out())));
        let is_open = self.active.contains_key(&Guard::FailOpen);
        if all <= 0.0 {
            self.enough_since = None;
            return None;
        }
        if !serves {
            self.enough_since = None;
            return Some(match wanted.len() {
                1 => "the only server of the pool is not healthy: it keeps its base weight".to_owned(),
                all => format!("no server of the pool is healthy: all {all} take their base weight"),
            });
        }
        let part = left / all;
        let since = (part >= CLOSE_FROM).then(|| self.enough_since.unwrap_or(now));
        self.enough_since = since;
        let stays = is_open && since.is_none_or(|since| now.since(since) < CLOSE_AFTER);
        (part < OPEN_BELOW || stays).then(|| {
            let left = format!("{:.0} % of the pool's base weights are healthy", part * 100.0);
            format!("{left}: everybody takes 30 % of its own at least, until 60 % are for a minute")
        })
    }

    /// Remembers that a guard works, or does no more.
    pub fn note(&mut self, guard: Guard, why: Option<String>, now: Moment) {
        match (why, self.active.get_mut(&guard)) {
            (Some(why), Some((_, before))) => *before = why,
            (Some(why), None) => {
                self.active.insert(guard, (now, why));
                *self.begun.entry(guard).or_default() += 1;
            }
            (None, _) => {
                self.active.remove(&guard);
            }
        }
    }

    /// The guards at work, the gravest last.
    pub fn active(&self) -> impl Iterator<Item = (Guard, Moment, &str)> {
        self.active.iter().map(|(guard, (since, why))| (*guard, *since, why.as_str()))
    }

    /// How often a guard has begun to work since the start.
    pub fn begun(&self, guard: Guard) -> u64 {
        self.begun.get(&guard).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn member(name: &str, base: u16, share: f64) -> Member {
        let (base, kind) = (Weight::new(base).unwrap(), FactorKind::Verdict);
        let id = format!("chat/{name}").parse().unwrap();
        Member { id, tier: 1, base, capacity: base, admin: AdminState::Ready, share, kind, success: 0.5, runs: base }
    }

    fn shares(guards: &mut PoolGuards, members: &[Member], now: Moment) -> Vec<f64> {
        let rulings = guards.rule(members, None, now);
        let share = |(member, ruling): (&Member, Ruling)| match ruling {
            Ruling::AsPlanned => member.share,
            Ruling::Share(share, _) => share,
            Ruling::Hold(..) => panic!("frozen"),
        };
        members.iter().zip(rulings).map(share).collect()
    }

    #[track_caller]
    fn check(members: &[Member], expected: &[f64]) {
        assert_eq!(shares(&mut PoolGuards::default(), members, at(0)), expected, "{members:?}");
    }

    #[test]
    fn half_of_a_pool_may_go_and_of_one_server_none() {
        check(&[member("a", 100, 0.0), member("b", 100, 1.0)], &[0.0, 1.0]);
        check(&[member("a", 100, 0.0), member("b", 100, 1.0), member("c", 100, 1.0)], &[0.0, 1.0, 1.0]);
        check(&[member("a", 100, 0.0)], &[1.0]);
        let four = [member("a", 100, 0.0), member("b", 100, 0.0), member("c", 100, 1.0), member("d", 100, 1.0)];
        check(&four, &[0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn beyond_half_the_least_bad_stay_as_long_as_enough_weight_is_left() {
        let better = Member { success: 0.9, ..member("b", 20, 0.0) };
        check(&[member("a", 20, 0.0), better, member("c", 200, 1.0)], &[0.0, 0.3, 1.0]);
    }

    #[test]
    fn below_half_of_the_weight_everybody_takes_something_and_who_surely_fails_a_trickle() {
        let dead = Member { kind: FactorKind::ProvenDead, ..member("a", 100, 0.0) };
        check(&[dead, member("b", 100, 0.0), member("c", 100, 0.8)], &[0.02, 0.3, 0.8]);
        check(&[member("a", 100, 0.0), member("b", 30, 1.0)], &[0.3, 1.0]);
    }

    #[test]
    fn fail_open_ends_when_enough_was_left_for_a_minute_and_counts_once() {
        let mut guards = PoolGuards::default();
        let pool = |b| [member("a", 100, 1.0), member("b", 100, b), member("c", 100, 0.0)];
        assert_eq!(shares(&mut guards, &pool(0.0), at(0)), [1.0, 0.3, 0.3]);
        assert_eq!(shares(&mut guards, &pool(0.1), at(10)), [1.0, 0.3, 0.3]);
        assert_eq!(shares(&mut guards, &pool(0.0), at(40)), [1.0, 0.3, 0.3]);
        assert_eq!(shares(&mut guards, &pool(0.1), at(50)), [1.0, 0.3, 0.3]);
        assert_eq!(shares(&mut guards, &pool(1.0), at(109)), [1.0, 1.0, 0.3]);
        assert_eq!(shares(&mut guards, &pool(1.0), at(110)), [1.0, 1.0, 0.0]);
        assert_eq!((guards.begun(Guard::FailOpen), guards.active().count()), (1, 0));
    }

    #[test]
    fn a_pool_whose_first_tier_is_out_turns_to_the_second() {
        let second = |share| Member { tier: 2, ..member("z", 100, share) };
        check(&[member("a", 100, 0.0), member("b", 100, 0.0), second(1.0)], &[0.0, 0.0, 1.0]);
        check(&[member("a", 100, 0.0), member("b", 100, 0.0), second(0.0)], &[1.0, 1.0, 1.0]);
    }

    #[test]
    fn who_asked_for_silence_is_out_beyond_half_but_never_the_last() {
        let silent = |name| Member { kind: FactorKind::Deliberate, ..member(name, 100, 0.0) };
        check(&[silent("a"), silent("b"), member("c", 100, 1.0)], &[0.0, 0.0, 1.0]);
        check(&[silent("a"), silent("b")], &[0.3, 0.3]);
        // One is dead, the other silent: the dead one is tried, the silent one is left alone.
        check(&[silent("a"), member("b", 100, 0.0)], &[0.0, 1.0]);
    }

    #[test]
    fn an_empty_pool_fails_open_for_all_but_maint_and_weightless() {
        let (maint, drain) = (AdminState::Maint, AdminState::Drain);
        let members = [
            member("a", 100, 0.0),
            Member { admin: maint, ..member("b", 100, 0.0) },
            Member { tier: 2, admin: drain, ..member("c", 100, 0.0) },
            member("d", 0, 0.0),
            Member { tier: 2, ..member("e", 10, 0.0) },
        ];
        check(&members, &[1.0, 0.0, 1.0, 0.0, 1.0]);
        check(&[], &[]);
        check(&[Member { admin: drain, ..member("a", 100, 0.0) }, member("b", 0, 0.0)], &[0.0, 0.0]);
    }

    #[test]
    fn while_we_suspect_ourselves_nothing_goes_down_and_the_last_to_go_comes_back() {
        let mut guards = PoolGuards::default();
        let pool = |a, b| [member("a", 100, a), Member { runs: Weight::new(40).unwrap(), ..member("b", 100, b) }];
        guards.rule(&pool(1.0, 0.4), None, at(0));
        let mut gone = pool(0.0, 0.1);
        gone[0].runs = Weight::ZERO;
        let why = || "our network".to_owned();
        let held = guards.rule(&gone, Some("our network"), at(5));
        assert_eq!(
            held,
            [Ruling::Hold(Weight::new(100).unwrap(), why()), Ruling::Hold(Weight::new(40).unwrap(), why())]
        );
        assert_eq!(guards.rule(&pool(1.0, 0.9), Some("our network"), at(6)), [Ruling::AsPlanned, Ruling::AsPlanned]);
        assert_eq!(guards.begun(Guard::SuspectOurselves), 1);
    }

    /// Two or three servers, each of every kind, with every share, weight and tier, suspected or not.
    #[test]
    fn no_pool_that_somebody_wants_is_emptied() {
        let kinds = [FactorKind::Verdict, FactorKind::ProvenDead, FactorKind::Deliberate];
        let states = [(1, AdminState::Ready), (1, AdminState::Drain), (2, AdminState::Ready)];
        let mut each = vec![];
        for (kind, (tier, admin)) in kinds.into_iter().flat_map(|kind| states.map(|state| (kind, state))) {
            for (share, runs) in [(0.0, 0), (0.0, 100), (1.0, 0), (1.0, 100)] {
                let runs = Weight::new(runs).unwrap();
                each.push(Member { kind, tier, admin, runs, ..member("a", 100, share) });
            }
        }
        let named = |of: &[&Member]| -> Vec<Member> {
            let name = |(number, member): (usize, &&Member)| Member {
                id: format!("chat/s{number}").parse().unwrap(),
                ..(*member).clone()
            };
            of.iter().enumerate().map(name).collect()
        };
        let mut pools = vec![];
        for a in &each {
            pools.push(named(&[a]));
            for b in &each {
                pools.push(named(&[a, b]));
                pools.extend(each.iter().step_by(5).map(|c| named(&[a, b, c])));
            }
        }
        for (pool, suspected) in pools.iter().flat_map(|pool| [(pool, None), (pool, Some("our network"))]) {
            let mut guards = PoolGuards::default();
            for second in 0..3 {
                let rulings = guards.rule(pool, suspected, at(second));
                let serves = |(member, ruling): (&Member, &Ruling)| match ruling {
                    Ruling::AsPlanned => member.share > 0.0,
                    Ruling::Share(share, _) => *share > 0.0,
                    Ruling::Hold(weight, _) => *weight > Weight::ZERO,
                };
                let mut wanted = pool.iter().zip(&rulings).filter(|(member, _)| member.is_wanted()).peekable();
                assert!(wanted.peek().is_none() || wanted.any(serves), "{suspected:?} {pool:#?} {rulings:?}");
            }
        }
    }
}
