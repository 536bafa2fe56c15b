//! What is decided for the backends that moved alone is what a decision over all would say of them, whatever happens in
//! which order.

use super::deciding::FIRST_COMPARISON_MAX;
use super::{Fleet, Overrides};
use crate::config;
use crate::health::{LiveSample, Observation, Outcome, Phase};
use crate::model::{Moment, ServerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const POOLS: usize = 3;
const SERVERS: usize = 4;
const SEEDS: u64 = 12;
const EVENTS: usize = 600;
const ROUND: Duration = Duration::from_secs(5);

/// SplitMix64.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn fleet(now: Moment) -> Fleet {
    let mut text = "[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"p0\"\n".to_owned();
    for pool in 0..POOLS {
        for server in 0..SERVERS {
            text +=
                &format!("[backend.p{pool}.server.s{server}]\nurl = \"http://192.0.2.{}\"\n", pool * 10 + server + 1);
        }
    }
    let config = config::parse("moved.toml", &text, "lb1").expect("a good file");
    Fleet::new(Arc::new(config), BTreeMap::new(), now)
}

#[test]
fn what_is_decided_of_what_moved_is_what_a_whole_decision_says() {
    let (overrides, mut decided) = (Overrides::default(), 0);
    for seed in 0..SEEDS {
        let (mut seed, mut now) = (seed, Moment(Duration::from_secs(1_000_000)));
        let mut fleet = fleet(now);
        let mut weights = fleet.decide(&overrides, now);
        let mut decide_at = now;
        let mut broken = [Outcome::Ok; POOLS * SERVERS];
        for _ in 0..EVENTS {
            now = now + Duration::from_millis(next(&mut seed) % 3_000);
            let due = fleet.due(now);
            if next(&mut seed).is_multiple_of(20) {
                let outcomes = [
                    Outcome::Ok,
                    Outcome::Refused,
                    Outcome::ServerError,
                    Outcome::RateLimited,
                    Outcome::Timeout(Phase::Connect),
                ];
                broken[(next(&mut seed) % 12) as usize] = outcomes[(next(&mut seed) % 5) as usize];
            }
            let of = |id: &ServerId| {
                let digit = |name: &str| name[1..].parse::<usize>().expect("a number");
                broken[digit(id.backend.as_str()) * SERVERS + digit(id.server.as_str())]
            };
            let mut changed: Vec<ServerId> = due.transitions.into_iter().map(|(id, _)| id).collect();
            for (id, kind) in due.probes {
                let transition = fleet.observe(&id, &Observation::new(kind, of(&id), Duration::from_millis(20)), now);
                changed.extend(transition.map(|_| id));
            }
            let id: ServerId = format!("p{}/s{}", next(&mut seed) % 3, next(&mut seed) % 4).parse().expect("an id");
            let outcome = of(&id);
            if outcome != Outcome::Timeout(Phase::Connect) {
                let sample = LiveSample { outcomes: BTreeMap::from([(outcome, 3)]), ..LiveSample::default() };
                changed.extend(fleet.live(&id, &sample, now).map(|_| id.clone()));
            }
            if decide_at <= now {
                // As the agent does.
                decide_at = now + fleet.touch_next(ROUND);
            }
            let whole = fleet.clone().decide(&overrides, now);
            if next(&mut seed).is_multiple_of(3) {
                // Somebody asks for a decision, for a plan or an answer: that sends nothing.
                fleet.decide(&overrides, now);
            }
            let moved = fleet.decide_moved(&overrides, now);
            for (id, weight) in &moved {
                assert_eq!(Some(weight), whole.get(id), "{id} at {now:?}");
                decided += usize::from(weights.get(id) != Some(weight));
            }
            // Who changed its state is among them. What time alone moves in a guard comes with the backend's turn.
            for id in changed {
                assert!(moved.contains_key(&id), "{id} changed its state at {now:?}, and nobody decided on it");
            }
            weights.extend(moved);
        }
    }
    assert!(decided > 200, "the generator has become dull: {decided} weights");
}

#[test]
fn each_backend_has_its_turn_once_in_a_round_and_its_servers_are_compared() {
    for pools in [1, 3, 20, 47, 250] {
        let mut text = "[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"p0\"\n".to_owned();
        for pool in 0..pools {
            text += &format!("[backend.p{pool}.server.a]\nurl = \"http://192.0.2.1\"\n");
        }
        let config = config::parse("turns.toml", &text, "lb1").expect("a good file");
        let start = Moment(Duration::from_secs(1_000));
        let mut fleet = Fleet::new(Arc::new(config), BTreeMap::new(), start);
        let overrides = Overrides::default();
        fleet.decide_moved(&overrides, start);
        // Longer than until the first comparison.
        let (mut now, mut turns) = (start + FIRST_COMPARISON_MAX, BTreeMap::<ServerId, usize>::new());
        let end = now + ROUND;
        while now < end {
            now = now + fleet.touch_next(ROUND);
            fleet.decide_moved(&overrides, now).into_keys().for_each(|id| *turns.entry(id).or_default() += 1);
        }
        assert_eq!(turns.len(), pools, "all have had their turn");
        let compared = fleet.compare_at.values().filter(|at| **at > end).count();
        assert_eq!(compared, pools, "all were compared");
        assert!(turns.values().sum::<usize>() <= pools + pools.div_ceil(20), "{pools}: {turns:?}");
    }
}

#[test]
fn a_server_at_another_address_has_failed_at_nothing_yet() {
    let config = |network: &str| {
        let mut text = "[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n".to_owned();
        for server in 1..=3 {
            text += &format!("[backend.chat.server.s{server}]\nurl = \"http://{network}.{server}\"\n");
        }
        Arc::new(config::parse("moved.toml", &text, "lb1").expect("the file is good"))
    };
    let at = |seconds| Moment(Duration::from_secs(seconds));
    for moves in [false, true] {
        let mut fleet = Fleet::new(config("192.0.2"), BTreeMap::new(), at(0));
        for (second, server) in (100..104).flat_map(|second| [(second, "chat/s1"), (second, "chat/s2")]) {
            let timeout = Outcome::Timeout(Phase::Connect);
            let observation = Observation::new(crate::health::ProbeKind::Models, timeout, Duration::from_secs(1));
            fleet.observe(&server.parse().expect("a name"), &observation, at(second));
        }
        if moves {
            fleet.reconfigure(config("198.51.100"), at(105));
        }
        fleet.decide(&Overrides::default(), at(106));
        let suspects = fleet.guards_begun()[&crate::health::Guard::SuspectOurselves];
        assert_eq!(suspects, u64::from(!moves), "moves: {moves}");
    }
}
