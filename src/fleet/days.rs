//! Days of a fleet in simulated time: five servers of one backend, probes every ten seconds, clients, and what goes
//! wrong. Everything from a probe's outcome to the weight is the agent's own.
//!
//! `HAPILOT_HEALTH_DAYS` makes more days of it (`scripts/measure/health-days` takes 30), `HAPILOT_HEALTH_SEED` other ones.

use super::{Fleet, Overrides};
use crate::config::{self, Config};
use crate::health::{Guard, LiveSample, Observation, Outcome, Phase, ProbeKind, State};
use crate::model::{Moment, ServerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SERVERS: usize = 5;
const DAY: f64 = 86_400.0;
/// Requests of clients in a second, over all servers.
const REQUESTS: f64 = 20.0;

/// Small random numbers with a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a server answers at a moment (seconds): what a probe finds, what clients find.
type Answers = fn(server: usize, at: f64, dice: &mut Dice) -> (Outcome, Outcome);

/// A kind of day.
struct Scenario {
    name: &'static str,
    answers: Answers,
    /// Whether the server is really broken then: other downs are false.
    is_broken: fn(server: usize, at: f64) -> bool,
    has_traffic: bool,
    /// What a 429 asks for.
    retry_after: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outline {
    days: f64,
    downs: usize,
    false_downs: usize,
    events: BTreeMap<Guard, u64>,
    /// Of the base weights.
    lowest_capacity: f64,
    /// Servers with a weight, at the worst moment.
    fewest: usize,
    writes: usize,
    requests: u64,
    failed: u64,
    /// The largest part of one second's requests that went to one server.
    largest_share: f64,
}

struct Simulation {
    fleet: Fleet,
    ids: Vec<ServerId>,
    now: Moment,
    results: BTreeMap<(Moment, ServerId, ProbeKind), Observation>,
    weights: BTreeMap<ServerId, crate::model::Weight>,
    dice: Dice,
    owed: Vec<f64>,
    outline: Outline,
}

fn config(weighting: &str) -> Arc<Config> {
    let mut text = format!(
        "[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n[backend.chat]\nweighting = \"{weighting}\"\n\
         [backend.chat.check]\ninterval = \"10s\"\n"
    );
    for server in 0..SERVERS {
        text += &format!("[backend.chat.server.s{server}]\nurl = \"http://192.0.2.{}\"\n", server + 1);
    }
    Arc::new(config::parse("days.toml", &text, "lb1").expect("the file is good"))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = Moment(secs(1_000_000.0));
        let config = config("static");
        let ids: Vec<ServerId> = (0..SERVERS).map(|n| format!("chat/s{n}").parse().expect("a name")).collect();
        let mut fleet = Fleet::new(config, BTreeMap::new(), now);
        let weights = fleet.decide(&Overrides::default(), now);
        let outline = Outline { lowest_capacity: 1.0, fewest: SERVERS, ..Outline::default() };
        let (results, owed) = (BTreeMap::new(), vec![0.0; SERVERS]);
        Self { fleet, ids, now, results, weights, dice: Dice(seed), owed, outline }
    }

    fn run(&mut self, scenario: &Scenario, length: f64) {
        let begin = self.now;
        let end = begin + secs(length);
        let (mut clients, mut decide) = (begin + secs(1.0), begin + secs(5.0));
        loop {
            let result = self.results.first_key_value().map(|((at, ..), _)| *at);
            let wake = self.fleet.next_wake();
            let traffic = scenario.has_traffic.then_some(clients);
            let next = [result, wake, traffic, Some(decide)].into_iter().flatten().min().expect("a date");
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let at = self.now.since(begin).as_secs_f64();
            let mut moved = false;
            while let Some(entry) = self.results.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ((_, id, _), observation) = entry.remove_entry();
                let transition = self.fleet.observe(&id, &observation, self.now);
                moved |= self.note(scenario, &id, transition, at);
            }
            if scenario.has_traffic && clients <= self.now {
                clients = clients + secs(1.0);
                moved |= self.one_second(scenario, at);
            }
            let due = self.fleet.due(self.now);
            moved |= due.weights_may_move;
            for (id, transition) in due.transitions {
                self.note(scenario, &id, Some(transition), at);
            }
            for (id, kind) in due.probes {
                let (outcome, _) = (scenario.answers)(self.index(&id), at, &mut self.dice);
                let took = if outcome.may_be_ours() { secs(2.0) } else { secs(0.05) };
                self.results.insert((self.now + took, id, kind), Observation::new(kind, outcome, took));
            }
            if moved || decide <= self.now {
                let is_calm = |id: &ServerId| {
                    let health = self.fleet.view().health(id).expect("a server of the file");
                    health.ours().is_none() && health.state() == State::Healthy
                };
                // A step for each event, and the agent's five seconds only while something happens.
                decide = self.now + secs(if self.ids.iter().all(is_calm) { 300.0 } else { 5.0 });
                self.decide();
            }
        }
        self.now = end;
        self.outline.days = length / DAY;
        self.outline.events = self.fleet.guards_begun();
    }

    fn index(&self, id: &ServerId) -> usize {
        self.ids.iter().position(|known| known == id).expect("a server of the file")
    }

    fn note(
        &mut self,
        scenario: &Scenario,
        id: &ServerId,
        transition: Option<crate::health::Transition>,
        at: f64,
    ) -> bool {
        let Some(transition) = transition else { return false };
        if transition.to.is_unhealthy() {
            self.outline.downs += 1;
            // What is told now happened up to half a minute ago.
            let server = self.index(id);
            let was_broken = (0..=30).any(|ago| (scenario.is_broken)(server, at - f64::from(ago)));
            self.outline.false_downs += usize::from(!was_broken);
            if !was_broken {
                println!("  false: {id} at {at:.0} s, {} to {}: {}", transition.from, transition.to, transition.reason);
            }
        }
        true
    }

    fn decide(&mut self) {
        let weights = self.fleet.decide(&Overrides::default(), self.now);
        self.outline.writes += weights.iter().filter(|(id, weight)| self.weights[*id] != **weight).count();
        let sum: f64 = weights.values().map(|weight| f64::from(weight.get())).sum();
        self.outline.lowest_capacity = self.outline.lowest_capacity.min(sum / (SERVERS as f64 * 100.0));
        self.outline.fewest = self.outline.fewest.min(weights.values().filter(|weight| weight.get() > 0).count());
        self.weights = weights;
    }

    /// What clients ask in one second, by the weights of now.
    fn one_second(&mut self, scenario: &Scenario, at: f64) -> bool {
        let sum: f64 = self.weights.values().map(|weight| f64::from(weight.get())).sum();
        let mut moved = false;
        for server in 0..SERVERS {
            let id = self.ids[server].clone();
            let share = f64::from(self.weights[&id].get()) / sum.max(1.0);
            self.outline.largest_share = self.outline.largest_share.max(share);
            self.owed[server] += REQUESTS * share;
            let asked = self.owed[server].floor();
            self.owed[server] -= asked;
            let mut sample = LiveSample { first_byte: Some(secs(0.4)), in_flight: 1, ..LiveSample::default() };
            for _ in 0..asked as u32 {
                let (_, outcome) = (scenario.answers)(server, at, &mut self.dice);
                *sample.outcomes.entry(outcome).or_default() += 1;
                self.outline.requests += 1;
                self.outline.failed += u64::from(!matches!(outcome, Outcome::Ok));
                if outcome == Outcome::RateLimited {
                    sample.retry_after = scenario.retry_after;
                }
            }
            let transition = self.fleet.live(&id, &sample, self.now);
            moved |= self.note(scenario, &id, transition, at);
        }
        moved
    }
}

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a kind of day and prints its line.
fn simulate(scenario: &Scenario, days: f64) -> Outline {
    let seed = number("HAPILOT_HEALTH_SEED").unwrap_or(4.0) as u64;
    let days = number("HAPILOT_HEALTH_DAYS").unwrap_or(days);
    let mut simulation = Simulation::new(seed);
    simulation.run(scenario, days * DAY);
    let Outline { days, downs, false_downs, events, lowest_capacity, fewest, writes, requests, failed, largest_share } =
        &simulation.outline;
    let of = |guard| events.get(&guard).copied().unwrap_or_default();
    println!(
        "{:<32} {days:>5.2} d  downs {downs:>4}, false {false_downs:>2}  suspect {:>3}  fail open {:>3}  keep half {:>3}  \
         capacity {:>3.0} %, {fewest} servers  writes a day {:>6.0}  failed {failed:>6} of {requests:>8}  one server {:>3.0} %",
        scenario.name,
        of(Guard::SuspectOurselves),
        of(Guard::FailOpen),
        of(Guard::KeepHalf),
        lowest_capacity * 100.0,
        *writes as f64 / days,
        largest_share * 100.0,
    );
    simulation.outline
}

const BOTH_OK: (Outcome, Outcome) = (Outcome::Ok, Outcome::Ok);
const TIMEOUT: Outcome = Outcome::Timeout(Phase::Connect);

fn never(_: usize, _: f64) -> bool {
    false
}

fn lossy(dice: &mut Dice, outcomes: (Outcome, Outcome)) -> (Outcome, Outcome) {
    if dice.unit() < 0.01 { (TIMEOUT, outcomes.1) } else { outcomes }
}

#[test]
fn one_probe_in_a_hundred_lost_takes_hardly_any_of_five_servers_out() {
    let scenario = Scenario {
        name: "1 % of probes lost",
        answers: |_, _, dice| lossy(dice, BOTH_OK),
        is_broken: never,
        has_traffic: false,
        retry_after: None,
    };
    let outline = simulate(&scenario, 3.0);
    // Three in a row give 1.4 a month, and so sometimes four; silence is confirmed by a fourth.
    assert!(outline.false_downs <= 2, "{outline:?}");
    assert_eq!(outline.events[&Guard::SuspectOurselves] + outline.events[&Guard::FailOpen], 0, "{outline:?}");
}

#[test]
fn a_steady_tenth_of_429_takes_nobody_out_and_moves_weights_seldom() {
    for (name, retry_after) in [("10 % of 429", None), ("10 % of 429, Retry-After 1 s", Some(secs(1.0)))] {
        let answers: Answers = |_, _, dice| {
            let limited = if dice.unit() < 0.1 { Outcome::RateLimited } else { Outcome::Ok };
            lossy(dice, (Outcome::Ok, limited))
        };
        let outline = simulate(&Scenario { name, answers, is_broken: never, has_traffic: true, retry_after }, 0.25);
        assert_eq!(outline.downs, 0, "{outline:?}");
        assert!(outline.writes as f64 / outline.days < 500.0, "{outline:?}");
        assert_eq!(outline.events[&Guard::FailOpen], 0, "{outline:?}");
    }
}

/// Five minutes of every hour.
fn storm(server: usize, at: f64) -> bool {
    server == 1 && at >= 0.0 && at % 3_600.0 > 3_300.0
}

#[test]
fn a_storm_of_429_is_left_alone_as_long_as_it_asks_and_is_never_down() {
    let scenario = Scenario {
        name: "429 storm, Retry-After 30 s",
        answers: |server, at, dice| {
            lossy(dice, if storm(server, at) { (Outcome::RateLimited, Outcome::RateLimited) } else { BOTH_OK })
        },
        is_broken: never,
        has_traffic: true,
        retry_after: Some(secs(30.0)),
    };
    let outline = simulate(&scenario, 0.25);
    assert_eq!((outline.downs, outline.events[&Guard::FailOpen]), (0, 0), "{outline:?}");
    // Without the pause 4 requests a second would meet a 429 in the storm; with it a few of each half a minute.
    assert!((outline.failed as f64) < outline.days * 24.0 * 150.0, "{outline:?}");
}

/// Ten seconds of every seventy.
fn flaps(server: usize, at: f64) -> bool {
    server == 2 && at >= 0.0 && at % 70.0 > 60.0
}

#[test]
fn a_flapping_server_is_held_out_and_takes_few_requests_along() {
    let scenario = Scenario {
        name: "one flaps, 10 s of 70",
        answers: |server, at, dice| {
            lossy(dice, if flaps(server, at) { (Outcome::Refused, Outcome::ServerError) } else { BOTH_OK })
        },
        is_broken: flaps,
        has_traffic: true,
        retry_after: None,
    };
    let outline = simulate(&scenario, 0.25);
    // Never more than four swings in ten minutes.
    assert!(outline.downs as f64 <= outline.days * 24.0 * 6.0 * 2.5, "{outline:?}");
    assert!((outline.failed as f64) < outline.requests as f64 * 0.003, "{outline:?}");
}

/// Ten minutes of every three hours.
fn outage(server: usize, at: f64) -> bool {
    server == 3 && at >= 0.0 && at % 10_800.0 > 10_200.0
}

#[test]
fn a_server_whose_clients_fail_while_its_probes_succeed_is_out_by_its_circuit() {
    let scenario = Scenario {
        name: "outage that no probe sees",
        answers: |server, at, dice| {
            lossy(dice, if outage(server, at) { (Outcome::Ok, Outcome::ServerError) } else { BOTH_OK })
        },
        is_broken: outage,
        has_traffic: true,
        retry_after: None,
    };
    let outline = simulate(&scenario, 0.25);
    let outages = outline.days * 8.0;
    assert_eq!(outline.false_downs, 0, "{outline:?}");
    assert!((outline.failed as f64) < outages * 30.0, "{outline:?}");
    assert!(outline.downs as f64 >= outages.floor(), "{outline:?}");
}

/// A minute of every three hours, for all.
fn cut(_: usize, at: f64) -> bool {
    at >= 0.0 && at % 10_800.0 > 10_740.0
}

#[test]
fn a_cut_of_our_own_network_is_one_event_and_empties_nothing() {
    let scenario = Scenario {
        name: "our own network cut, 60 s",
        answers: |server, at, dice| lossy(dice, if cut(server, at) { (TIMEOUT, TIMEOUT) } else { BOTH_OK }),
        is_broken: cut,
        has_traffic: false,
        retry_after: None,
    };
    let outline = simulate(&scenario, 1.0);
    assert_eq!(outline.events[&Guard::SuspectOurselves], (outline.days * 8.0) as u64, "{outline:?}");
    assert_eq!((outline.events[&Guard::FailOpen], outline.events[&Guard::KeepHalf]), (0, 0), "{outline:?}");
    assert!(outline.fewest >= SERVERS - 1, "{outline:?}");
}

/// The first three, twenty minutes of every three hours.
fn three(server: usize, at: f64) -> bool {
    server < 3 && at >= 0.0 && (5_400.0..6_600.0).contains(&(at % 10_800.0))
}

#[test]
fn three_of_five_that_recover_together_are_no_stampede() {
    let scenario = Scenario {
        name: "three recover together",
        answers: |server, at, dice| {
            lossy(dice, if three(server, at) { (Outcome::Refused, Outcome::Refused) } else { BOTH_OK })
        },
        is_broken: three,
        has_traffic: true,
        retry_after: None,
    };
    let outline = simulate(&scenario, 0.25);
    // The two that are left carry half each at the worst; nobody who comes back gets more than his share at once.
    assert!(outline.largest_share <= 0.52, "{outline:?}");
    assert_eq!(outline.events[&Guard::SuspectOurselves], 0, "{outline:?}");
}

#[test]
fn all_that_fail_and_recover_together_share_alike() {
    let scenario = Scenario {
        name: "all five fail and recover",
        answers: |_, at, dice| lossy(dice, if three(0, at) { (Outcome::Refused, Outcome::Refused) } else { BOTH_OK }),
        is_broken: |_, at| three(0, at),
        has_traffic: true,
        retry_after: None,
    };
    let outline = simulate(&scenario, 0.25);
    assert_eq!(outline.fewest, SERVERS, "{outline:?}");
    assert!(outline.largest_share <= 0.52, "{outline:?}");
}
