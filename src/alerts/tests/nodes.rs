//! Two nodes that see the same and tell one sink, whatever dies and moves.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const POOLS: [&str; 3] = ["chat", "embed", "images"];
/// Between two changes of one thing.
const CALM: i64 = 400;
/// A life.
const END: i64 = 7_200;
/// Between two looks.
const STEP: usize = 15;

/// A node whose agent may be dead.
struct Half {
    life: Life,
    /// Since when its agent is dead.
    dead: Option<i64>,
    /// When its agent looks at the backends first.
    sees: i64,
    /// The backends that its history says are out.
    believes: [bool; 3],
    /// What the other heard of it last, and when.
    said: (AlertNews, i64),
}

impl Half {
    fn new(name: &str) -> Self {
        let mut life = Life::new();
        life.who.node = name.into();
        Self { life, dead: None, sees: 0, believes: [false; 3], said: (AlertNews::default(), 0) }
    }

    fn look(&mut self, is_out: [bool; 3], owns: bool, other: (&str, &(AlertNews, i64), bool)) {
        let now = self.life.now;
        for (at, pool) in POOLS.iter().enumerate() {
            if now >= self.sees && self.believes[at] != is_out[at] {
                self.believes[at] = is_out[at];
                self.life.event(match is_out[at] {
                    true => Event::begins(EventKind::Outage, Severity::Error, *pool, "it cannot serve"),
                    false => Event::ends(EventKind::Outage, *pool, "it serves again"),
                });
            }
        }
        let (name, (news, heard), owned) = other;
        let silent = Duration::from_secs((now - heard).unsigned_abs());
        let peer = Other { name, is_heard: silent.is_zero(), silent, owns: owned };
        let part = if owns { Part::Owner } else { Part::Backup };
        self.life.who.speaks = speaks(&self.life.who.node, part, &[peer]);
        let mut elsewhere = Elsewhere::default();
        elsewhere.hear(news, Timestamp::from_second(START + heard).unwrap());
        self.life.who.elsewhere = elsewhere;
        self.life.look();
        let (book, at) = (&self.life.book, self.life.at());
        self.said =
            (AlertNews::of(self.life.who.speaks, book.open_marks("team", at), book.over_marks("team", at)), now);
    }
}

/// What a sink was told of each backend, in its order: when, and whether it began.
type Heard = BTreeMap<String, Vec<(i64, bool)>>;

/// Two hours of two nodes, in which each backend is out once. Answers what the sink was told, and when each was out.
fn life(seed: u64) -> (Heard, [(i64, i64); 3]) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut halves = [Half::new("lb1"), Half::new("lb2")];
    let outages = POOLS.map(|_| {
        let began = random.random_range(600..3_000);
        (began, began + random.random_range(CALM..3_000))
    });
    let (mut owner, mut moved, mut revived) = (0, 0, 0);
    for now in (0..END).step_by(STEP) {
        let is_calm = now > END - 1_000;
        // An agent dies, for a moment or for long; the other one lives meanwhile.
        match halves.iter().position(|half| half.dead.is_some()) {
            Some(at) if random.random_bool(0.06) || is_calm => {
                (halves[at].dead, halves[at].sees, revived) = (None, now + 15, now);
            }
            None if now - revived > CALM && !is_calm && random.random_bool(0.05) => {
                let half = &mut halves[usize::from(random.random_bool(0.5))];
                // One that dies before the other heard what it has just told is not believed to have told it.
                let has_told = half.life.told.last().is_some_and(|(at, _)| now - at < 2 * STEP as i64);
                half.dead = Some(now).filter(|_| !has_told);
            }
            _ => {}
        }
        if now - moved > CALM && random.random_bool(0.03) {
            (owner, moved) = (1 - owner, now);
        }
        for at in 0..2 {
            let said = halves[1 - at].said.clone();
            let half = &mut halves[at];
            half.life.now = now;
            if half.dead.is_none() {
                let is_out = outages.map(|(began, ended)| (began..ended).contains(&now));
                half.look(is_out, owner == at, (["lb2", "lb1"][at], &said, owner != at));
            }
        }
    }
    let mut heard = Heard::new();
    let mut told: Vec<_> = halves.into_iter().flat_map(|half| half.life.told).collect();
    told.sort_by_key(|(at, _)| *at);
    for (at, told) in told {
        match told.change {
            Change::Trigger => heard.entry(told.scope).or_default().push((at, true)),
            Change::Resolve => heard.entry(told.scope).or_default().push((at, false)),
            _ => {}
        }
    }
    (heard, outages)
}

#[test]
fn whatever_dies_and_moves_each_beginning_and_each_end_is_told_once() {
    for seed in 0..200 {
        let (heard, outages) = life(seed);
        for (pool, (began, ended)) in POOLS.iter().zip(outages) {
            let told = heard.get(*pool).map(Vec::as_slice).unwrap_or_default();
            let [(first, true), (last, false)] = told else {
                panic!("seed {seed}: {pool} was out from {began} to {ended}, and told is {told:?}");
            };
            let is_soon = (0..CALM).contains(&(first - began)) && (0..CALM).contains(&(last - ended));
            assert!(is_soon, "seed {seed}: {pool} was out from {began} to {ended}, and told is {told:?}");
        }
    }
}
