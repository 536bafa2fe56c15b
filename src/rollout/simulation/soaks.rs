//! Edits that break something, and edits that do not.

use super::{Dice, Group, for_seeds, lives_of_each_kind, median_and_worst, seed};
use crate::model::Moment;
use crate::rollout::{BackendSeen, ServersUp, Soak, SoakHeard, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A kind of edit: two backends that it changes, one that it does not.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    rate: f64,
    /// Of as many soaks as the others, this part is enough.
    part: u64,
    /// Each second, of the first changed backend, so many seconds after the apply; negative before it.
    changed: fn(f64, &mut Dice, f64) -> BackendSeen,
    /// Of the other one.
    other: fn(f64, &mut Dice, f64) -> BackendSeen,
    /// Of the first one at another node that serves the last revision; `None`: there is no other node.
    elsewhere: Option<fn(f64, &mut Dice, f64) -> BackendSeen>,
    promise: &'static str,
    is_kept: fn(&Soaks) -> bool,
}

/// What came of all soaks of a kind.
#[derive(Debug, Default)]
struct Soaks {
    soaks: usize,
    /// Seconds.
    back: Vec<f64>,
    clean: usize,
    shared: usize,
    quiet: usize,
    why: Option<String>,
}

impl Soaks {
    fn all_back_within(&self, seconds: f64) -> bool {
        self.back.len() == self.soaks && self.back.iter().all(|time| *time <= seconds)
    }
}

const SOAK_S: u32 = 600;
const BEFORE_S: u32 = 300;

fn seen(group: Group, rate: f64, dice: &mut Dice) -> BackendSeen {
    let probes = u64::from(dice.unit() < 0.3);
    BackendSeen {
        counts: group.at_rate(rate).counts(1.0, dice),
        seconds: 1.0,
        probes,
        probe_failures: probes * u64::from(dice.unit() < 0.01),
        servers: Some(ServersUp { up: 3, all: 3 }),
        ..BackendSeen::default()
    }
}

fn good(_: f64, dice: &mut Dice, rate: f64) -> BackendSeen {
    seen(Group::HEALTHY, rate, dice)
}

fn failing(part: f64, at: f64, dice: &mut Dice, rate: f64) -> BackendSeen {
    seen(Group { errors: if at > 0.0 { part } else { 0.01 }, ..Group::HEALTHY }, rate, dice)
}

fn failing_half(at: f64, dice: &mut Dice, rate: f64) -> BackendSeen {
    failing(0.5, at, dice, rate)
}

fn soak(kind: &Kind, seed: u64) -> (Option<(f64, String)>, Verdict) {
    let mut dice = Dice::new(seed);
    let mut now = Moment(Duration::from_secs(50_000));
    let mut before: BTreeMap<String, BackendSeen> = BTreeMap::new();
    let second = |at: f64, dice: &mut Dice| {
        let here = [("chat", kind.changed), ("embed", good), ("other", kind.other)];
        let here: BTreeMap<_, _> = here.map(|(name, of)| (name.to_owned(), of(at, dice, kind.rate))).into();
        let elsewhere = kind.elsewhere.map(|of| ("chat".to_owned(), of(at, dice, kind.rate)));
        SoakHeard { here, elsewhere: elsewhere.into_iter().collect() }
    };
    for at in 0..BEFORE_S {
        for (name, seen) in second(-f64::from(BEFORE_S - at), &mut dice).here {
            before.entry(name).or_default().add_later(&seen);
        }
    }
    let changed: BTreeSet<String> = ["chat".to_owned(), "embed".to_owned()].into();
    let mut soak = Soak::new(&before, &changed, now);
    for at in 1..=SOAK_S {
        now = now + Duration::from_secs(1);
        if at == 45 {
            let saved = serde_json::to_string(&soak).expect("it can be saved");
            soak = serde_json::from_str(&saved).expect("it can be loaded");
            soak.after_gap(Duration::from_secs(2));
        }
        soak.observe(&second(f64::from(at), &mut dice), now);
        if let Some(reason) = soak.decide(now) {
            return (Some((f64::from(at), reason)), soak.verdict(now));
        }
    }
    (None, soak.verdict(now))
}

fn kinds() -> Vec<Kind> {
    let kind = |name, rate, changed, promise, is_kept| Kind {
        name,
        rate,
        part: 1,
        changed,
        other: good,
        elsewhere: None,
        promise,
        is_kept,
    };
    let all_clean: fn(&Soaks) -> bool = |all| all.back.is_empty() && all.shared == 0;
    let dead = |at: f64, dice: &mut Dice, rate: f64| failing(1.0, at, dice, rate);
    let errors = |at: f64, dice: &mut Dice, rate: f64| failing(0.2, at, dice, rate);
    let slow = |at: f64, dice: &mut Dice, rate: f64| {
        seen(Group { first_token: if at > 0.0 { 1.2 } else { 0.4 }, ..Group::HEALTHY }, rate, dice)
    };
    let refused = |at: f64, dice: &mut Dice, rate: f64| match at > 0.0 {
        true => BackendSeen {
            own_5xx: u64::from(dice.arrivals(rate)),
            servers: Some(ServersUp { up: 3, all: 3 }),
            seconds: 1.0,
            ..BackendSeen::default()
        },
        false => good(at, dice, rate),
    };
    let forbidden = |at: f64, dice: &mut Dice, rate: f64| match at > 0.0 {
        true => BackendSeen { own_refused: u64::from(dice.arrivals(rate)), seconds: 1.0, ..BackendSeen::default() },
        false => good(at, dice, rate),
    };
    // Beside the others, and three times as often.
    let stranger = |at: f64, dice: &mut Dice, rate: f64| {
        let mut seen = good(at, dice, rate);
        let refused = if at > 0.0 { u64::from(dice.arrivals(3.0 * rate)) } else { 0 };
        (seen.own_refused, seen.counts.refused) = (refused / 2, refused - refused / 2);
        seen
    };
    let down = |at: f64, dice: &mut Dice, rate: f64| BackendSeen {
        servers: Some(ServersUp { up: if at > 0.0 { 0 } else { 3 }, all: 3 }),
        ..good(at, dice, rate)
    };
    let hiccup = |at: f64, dice: &mut Dice, rate: f64| match (0.0..=4.0).contains(&at) {
        true => failing(1.0, at, dice, rate),
        false => good(at, dice, rate),
    };
    let silent = |_: f64, _: &mut Dice, _: f64| BackendSeen { seconds: 1.0, ..BackendSeen::default() };
    vec![
        kind("everything fails", 10.0, dead, "all back within 15 s", |all| all.all_back_within(15.0)),
        kind("everything fails", 1.0, dead, "all back within 2 min", |all| all.all_back_within(120.0)),
        kind("everything fails", 0.1, dead, "all back within 5 min", |all| all.all_back_within(300.0)),
        kind("half fails", 1.0, failing_half, "all back within 2 min", |all| all.all_back_within(120.0)),
        kind("20 % fail, 1 % before", 2.0, errors, "all back within 5 min", |all| all.all_back_within(300.0)),
        kind("HAProxy refuses all by itself", 1.0, forbidden, "all back within 2 min", |all| {
            all.all_back_within(120.0)
        }),
        kind("a stranger is refused, thrice as often", 1.0, stranger, "none back", all_clean),
        kind("HAProxy answers all by itself", 1.0, refused, "all back within 2 min", |all| all.all_back_within(120.0)),
        kind("first tokens 3 times as slow", 5.0, slow, "all back within 2 min", |all| all.all_back_within(120.0)),
        kind("no server is up", 1.0, down, "all back within 20 s", |all| all.all_back_within(20.0)),
        kind("nothing is worse", 0.1, good, "none back", all_clean),
        kind("nothing is worse", 1.0, good, "none back", all_clean),
        kind("nothing is worse", 10.0, good, "none back", all_clean),
        Kind { part: 20, ..kind("nothing is worse", 100.0, good, "none back", all_clean) },
        kind("all fails for 4 s at the apply", 10.0, hiccup, "none back", all_clean),
        Kind {
            other: failing_half,
            ..kind("half fails, also where nothing changed", 2.0, failing_half, "none back, all shared", |all| {
                all.back.is_empty() && all.shared == all.soaks
            })
        },
        Kind {
            elsewhere: Some(failing_half),
            ..kind("half fails, also at another node", 2.0, failing_half, "none back, all shared", |all| {
                all.back.is_empty() && all.shared == all.soaks
            })
        },
        Kind {
            elsewhere: Some(good),
            ..kind("half fails, not at another node", 2.0, failing_half, "all back within 2 min", |all| {
                all.all_back_within(120.0)
            })
        },
        kind("no traffic", 0.0, silent, "nothing is said", |all| all.quiet == all.soaks),
    ]
}

#[test]
fn rollout_table_of_soaks() {
    let (soaks, seed) = (lives_of_each_kind(), seed());
    let mut broken = Vec::new();
    println!(
        "\n{:<44} {:>6} {:>6} | {:>6} {:>12} | {:>6} {:>6} {:>6} | promise\n{:<58} | {:>19} |",
        "edit", "rate", "soaks", "back", "", "clean", "shared", "quiet", "", "median / all, s"
    );
    // Much traffic is for the script.
    for kind in kinds().into_iter().filter(|kind| kind.part <= soaks) {
        let mut all = Soaks::default();
        for (back, verdict) in for_seeds(seed..seed + soaks / kind.part, |seed| soak(&kind, seed)) {
            all.soaks += 1;
            match verdict {
                Verdict::Worse { reason } => all.why = Some(reason),
                Verdict::Shared { .. } => all.shared += 1,
                Verdict::Clean { .. } => all.clean += 1,
                Verdict::Quiet { .. } => all.quiet += 1,
            }
            all.back.extend(back.map(|(at, _)| at));
        }
        let times = median_and_worst(&mut all.back).map(|(median, slowest)| format!("{median} / {slowest}"));
        let is_kept = (kind.is_kept)(&all);
        println!(
            "{:<44} {:>6} {:>6} | {:>6} {:>12} | {:>6} {:>6} {:>6} | {}: {}",
            kind.name,
            format!("{}/s", kind.rate),
            all.soaks,
            all.back.len(),
            times.unwrap_or_default(),
            all.clean,
            all.shared,
            all.quiet,
            if is_kept { "kept" } else { "BROKEN" },
            kind.promise,
        );
        if !is_kept {
            let why = all.why.unwrap_or_default();
            broken.push(format!("{} at {}/s: not kept: {}; {why}", kind.name, kind.rate, kind.promise));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
