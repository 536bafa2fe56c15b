//! Decisions over whole pools: tables first, then what holds for any pool.

use super::{FactorLine, PoolMember, WeightDecision, Weighting, decide as decide_with};
use crate::health::{
    Factor, FactorKind, FactorName, HealthParams, Observation, Outcome, PoolGuards, ProbeKind, ServerHealth, Signals,
};
use crate::model::{AdminState, Moment, ServerId, Weight};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use std::collections::BTreeMap;
use std::time::Duration;

fn member(name: &str, base: u16, health: Option<f64>) -> PoolMember {
    PoolMember {
        id: format!("chat/{name}").parse().unwrap(),
        base: Weight::new(base).unwrap(),
        pinned: None,
        admin: AdminState::Ready,
        tier: 1,
        health: health.map(|value| Factor {
            name: FactorName::Health,
            value,
            why: String::new(),
            kind: FactorKind::Verdict,
        }),
        signals: Signals::default(),
        runs: None,
        decided_with: None,
    }
}

/// These members where HAProxy runs these weights.
fn running(members: &[PoolMember], previous: &BTreeMap<ServerId, Weight>) -> Vec<PoolMember> {
    let run = |member: &PoolMember| PoolMember { runs: previous.get(&member.id).copied(), ..member.clone() };
    members.iter().map(run).collect()
}

/// By guards that remember nothing yet.
fn decide(weighting: Weighting, members: &[PoolMember], previous: &BTreeMap<ServerId, Weight>) -> Vec<WeightDecision> {
    decide_with(weighting, &running(members, previous), &mut PoolGuards::default(), None, true, Moment::default())
}

fn quick(mut member: PoolMember, first_token_ms: u64) -> PoolMember {
    member.signals.first_token = Some(Duration::from_millis(first_token_ms));
    member
}

fn runs(weights: &[(&str, u16)]) -> BTreeMap<ServerId, Weight> {
    weights.iter().map(|(name, w)| (format!("chat/{name}").parse().unwrap(), Weight::new(*w).unwrap())).collect()
}

fn check(weighting: Weighting, members: &[PoolMember], previous: &[(&str, u16)], expected: &[u16]) {
    let decisions = decide(weighting, members, &runs(previous));
    let weights: Vec<u16> = decisions.iter().map(|decision| decision.weight.get()).collect();
    assert_eq!(weights, expected, "{decisions:#?}");
}

#[test]
fn a_static_weight_is_base_times_health() {
    let pool = [member("a", 100, Some(1.0)), member("b", 50, Some(0.3)), member("c", 100, Some(0.0))];
    check(Weighting::Static, &pool, &[], &[100, 15, 0]);
}

#[test]
fn an_unknown_server_keeps_what_haproxy_runs_and_a_new_one_begins_at_its_base() {
    let pool = [member("a", 100, None), member("b", 100, None), member("c", 10, None)];
    check(Weighting::Static, &pool, &[("a", 37), ("c", 100)], &[37, 100, 10]);
    check(Weighting::Adaptive, &pool, &[("a", 37), ("c", 100)], &[37, 100, 10]);
}

#[test]
fn the_agents_start_changes_nothing_and_the_first_success_gives_full_weight_at_once() {
    let before = [("a", 100), ("b", 40)];
    check(Weighting::Static, &[member("a", 100, None), member("b", 40, None)], &before, &[100, 40]);
    check(Weighting::Static, &[member("a", 100, Some(1.0)), member("b", 40, Some(1.0))], &[("a", 0)], &[100, 40]);
}

#[test]
fn a_factor_above_zero_never_rounds_to_zero_and_a_base_of_zero_stays() {
    let pool = [member("a", 1, Some(0.1)), member("b", 0, Some(1.0)), member("c", 100, Some(1.0))];
    check(Weighting::Static, &pool, &[], &[1, 0, 100]);
}

#[test]
fn a_pool_that_would_be_empty_fails_open_at_once() {
    let pool = [member("a", 100, Some(0.0)), member("b", 30, Some(0.0))];
    for weighting in [Weighting::Static, Weighting::Adaptive] {
        check(weighting, &pool, &[("a", 0), ("b", 30)], &[100, 30]);
        let decisions = decide(weighting, &pool, &BTreeMap::new());
        assert!(decisions.iter().all(|decision| decision.panic.is_some()));
        assert_eq!(decisions[0].factors.last().unwrap().name, FactorName::Guard);
    }
}

#[test]
fn whom_an_operators_command_gave_a_weight_serves_by_it_and_not_by_its_health() {
    let pinned = |weight, health| PoolMember { pinned: Weight::new(weight).ok(), ..member("b", 100, health) };
    let sick = || member("a", 100, Some(0.0));
    for health in [None, Some(0.0), Some(1.0)] {
        let decided = |weight| decide(Weighting::Static, &[sick(), pinned(weight, health)], &BTreeMap::new())[0].weight;
        assert_eq!(decided(0).get(), 100, "b takes nothing, by command: a is all there is");
        assert_eq!(decided(7).get(), 0, "b takes what comes, by command");
    }
}

#[test]
fn the_second_tier_carries_when_the_first_is_out() {
    let pool = [member("a", 100, Some(0.0)), PoolMember { tier: 2, ..member("b", 100, Some(1.0)) }];
    check(Weighting::Static, &pool, &[("a", 100), ("b", 100)], &[0, 100]);
}

#[test]
fn a_slower_server_comes_down_a_quarter_at_a_time_and_a_dead_one_at_once() {
    let pool = [quick(member("a", 100, Some(1.0)), 450), quick(member("b", 100, Some(1.0)), 1_950)];
    check(Weighting::Adaptive, &pool, &[("a", 100), ("b", 100)], &[100, 75]);
    check(Weighting::Adaptive, &pool, &[("a", 100), ("b", 75)], &[100, 50]);
    check(Weighting::Adaptive, &pool, &[("a", 100), ("b", 50)], &[100, 25]);
    check(Weighting::Adaptive, &pool, &[("a", 100), ("b", 25)], &[100, 25]);
    check(Weighting::Static, &pool, &[("a", 100), ("b", 100)], &[100, 100]);
    let dead = [quick(member("a", 100, Some(1.0)), 450), quick(member("b", 100, Some(0.0)), 1_950)];
    check(Weighting::Adaptive, &dead, &[("a", 100), ("b", 100)], &[100, 0]);
}

#[test]
fn between_two_comparisons_only_health_moves_a_weight() {
    let decided = |health: f64, before: Option<f64>, runs_now: u16| {
        let slow = quick(member("b", 100, Some(health)), 1_950);
        let pool = [quick(member("a", 100, Some(1.0)), 450), PoolMember { decided_with: before, ..slow }];
        let guards = &mut PoolGuards::default();
        let previous = runs(&[("a", 100), ("b", runs_now)]);
        let decisions =
            decide_with(Weighting::Adaptive, &running(&pool, &previous), guards, None, false, Moment::default());
        decisions[1].weight.get()
    };
    // Neither at a start nor later does a comparison move it.
    assert_eq!((decided(1.0, None, 55), decided(1.0, Some(1.0), 55), decided(1.0, Some(1.0), 100)), (55, 55, 100));
    // Health does, and takes the part along.
    assert_eq!((decided(0.3, Some(1.0), 50), decided(1.0, Some(0.3), 15)), (15, 50));
    assert_eq!((decided(0.0, Some(1.0), 50), decided(0.3, None, 100)), (0, 30));
    // Who comes back from nothing has nothing to keep.
    assert!(decided(0.1, Some(0.0), 0) > 0);
}

#[test]
fn the_dead_band_holds_small_changes_but_lets_a_ramp_end() {
    let at = |share| [member("a", 100, Some(share)), member("b", 100, Some(1.0))];
    check(Weighting::Static, &at(0.5), &[("a", 45), ("b", 100)], &[45, 100]);
    check(Weighting::Static, &at(0.55), &[("a", 45), ("b", 100)], &[55, 100]);
    check(Weighting::Static, &at(1.0), &[("a", 95), ("b", 100)], &[100, 100]);
}

#[test]
fn what_an_unhealthy_rival_measured_long_ago_is_no_yardstick() {
    let pool = [quick(member("a", 100, Some(0.0)), 10), quick(member("b", 100, Some(1.0)), 900)];
    check(Weighting::Adaptive, &pool, &[("a", 0), ("b", 100)], &[0, 100]);
}

#[test]
fn a_pool_whose_servers_break_and_mend_together_serves_all_the_while_and_is_whole_again() {
    let names = ["a", "b", "c"];
    for weighting in [Weighting::Static, Weighting::Adaptive] {
        let params = HealthParams { cheap: vec![ProbeKind::Models], ..HealthParams::default() };
        let mut healths = names.map(|_| ServerHealth::new(params.clone(), Moment::default(), 1));
        let mut runs = runs(&[("a", 100), ("b", 100), ("c", 100)]);
        let mut panicked = false;
        for second in 0..1_500 {
            let now = Moment(Duration::from_secs(second));
            for (i, health) in healths.iter_mut().enumerate() {
                health.tick(now);
                if health.next_probe(ProbeKind::Models).is_some_and(|next| next <= now) {
                    health.probe_started(ProbeKind::Models, now);
                    // All break at 300 s; they mend a minute apart.
                    let broken = (300..600 + 60 * i as u64).contains(&second);
                    let outcome = if broken { Outcome::Refused } else { Outcome::Ok };
                    health.observe(&observation(outcome), now);
                }
            }
            let members: Vec<_> = names
                .iter()
                .zip(&healths)
                .map(|(name, health)| PoolMember { health: health.factor(now), ..member(name, 100, None) })
                .collect();
            let decisions = decide(weighting, &members, &runs);
            panicked |= decisions[0].panic.is_some();
            runs = decisions.into_iter().map(|decision| (decision.id, decision.weight)).collect();
            assert!(runs.values().any(|weight| weight.get() > 0), "empty at {second} s");
            assert!(second > 299 || runs.values().all(|weight| weight.get() == 100), "{second} s: {runs:?}");
        }
        assert!(panicked);
        assert!(runs.values().all(|weight| weight.get() == 100), "{runs:?}");
    }
}

fn observation(outcome: Outcome) -> Observation {
    let (kind, total) = (ProbeKind::Models, Duration::from_millis(5));
    Observation::new(kind, outcome, total)
}

fn any_member() -> impl Strategy<Value = PoolMember> {
    let admin = prop_oneof![4 => Just(AdminState::Ready), 1 => Just(AdminState::Drain), 1 => Just(AdminState::Maint)];
    let share = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0f64];
    let health = prop::option::of(share);
    let base = prop_oneof![Just(0u16), Just(1), 0..=256u16];
    let pinned = prop_oneof![4 => Just(None), 1 => prop::option::of(base.clone())];
    let signals = (prop::option::of(0..60_000u64), prop::option::of(0.0..=1.0f64));
    (base, pinned, admin, 1..=2u8, health, signals).prop_map(
        |(base, pinned, admin, tier, health, (latency_ms, success))| {
            let first_token = latency_ms.map(Duration::from_millis);
            let signals = Signals { first_token, success, ..Signals::default() };
            let pinned = pinned.map(|weight| Weight::new(weight).unwrap());
            PoolMember { pinned, admin, tier, signals, ..member("x", base, health) }
        },
    )
}

proptest::proptest! {
    #[test]
    fn no_pool_is_ever_emptied_and_every_weight_is_explained(
        mut members in prop::collection::vec(any_member(), 0..8),
        previous in prop::collection::vec(prop::option::of(0..=256u16), 8),
        adaptive in any::<bool>(),
    ) {
        for (i, member) in members.iter_mut().enumerate() {
            member.id = format!("chat/s{i}").parse().unwrap();
        }
        let ids = members.iter().map(|member| member.id.clone());
        let previous: BTreeMap<_, _> =
            ids.zip(previous).filter_map(|(id, w)| Some((id, Weight::new(w?).unwrap()))).collect();
        let weighting = if adaptive { Weighting::Adaptive } else { Weighting::Static };
        let decisions = decide(weighting, &members, &previous);

        let is_wanted = |m: &&PoolMember| m.admin == AdminState::Ready && m.pinned.unwrap_or(m.base).get() > 0;
        let has_weight = |m: &PoolMember, weight: Weight| m.pinned.unwrap_or(weight).get() > 0;
        let serves = members.iter().zip(&decisions).any(|(m, d)| is_wanted(&m) && has_weight(m, d.weight));
        assert_eq!(serves, members.iter().any(|m| is_wanted(&m)), "{decisions:#?}");

        for (member, decision) in members.iter().zip(&decisions) {
            assert!(decision.weight <= member.base, "{decision:#?}");
            assert!(!decision.factors.is_empty(), "{decision:#?}");
            let is_out = member.health.as_ref().is_some_and(|health| health.value == 0.0);
            let is_kept = decision.factors.iter().any(|factor| factor.name == FactorName::Guard);
            assert!(!is_out || decision.weight.get() == 0 || is_kept, "{decision:#?}");
            let base = f64::from(member.base.get());
            let multiply = |p, f: &FactorLine| if f.name == FactorName::Guard { base * f.value } else { p * f.value };
            let product = decision.factors.iter().fold(base, multiply);
            let rounded = Weight::clamped(product).get().max(u16::from(product > 0.0));
            assert_eq!(rounded, decision.weight.get(), "{product} {decision:#?}");
        }
        assert_eq!(decisions, decide(weighting, &members, &previous));
    }
}
