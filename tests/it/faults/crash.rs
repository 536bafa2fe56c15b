//! Random `kill -9` of `hapilot apply` and of the agent in the midst of edits, with the assertions of the matrix.
//!
//! `scripts/measure/crash` runs it and chooses how often; without that it is a handful, so that it stays alive.

use super::edit::Edit;
use crate::support::haproxy::binaries;
use crate::support::pause;
use crate::support::process::Background;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rounds where nobody asks for more.
const FEW: u32 = 6;
/// An apply takes 0.1 to 0.4 s: a death beyond its end is a round without a death.
const LATEST_DEATH_OF_APPLY_MS: u64 = 250;
/// The agent lives on; its first apply begins at once.
const LATEST_DEATH_OF_AGENT_MS: u64 = 600;

/// What the rounds of one kind came to.
#[derive(Default)]
struct Row {
    rounds: u32,
    died_within: u32,
    slowest: Duration,
    total: Duration,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_death_at_any_moment_leaves_whole_files_and_a_serving_haproxy() {
    let rounds = number("HAPILOT_CRASH_ROUNDS").and_then(|n| u32::try_from(n).ok()).unwrap_or(FEW);
    let seed = number("HAPILOT_CRASH_SEED").unwrap_or_else(rand::random);
    eprintln!("seed {seed}, {rounds} rounds on each HAProxy (HAPILOT_CRASH_SEED, HAPILOT_CRASH_ROUNDS)");
    for (at, binary) in binaries().iter().enumerate() {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(at as u64));
        let mut edit = Edit::start(binary);
        let mut table: BTreeMap<&str, Row> = BTreeMap::new();
        for round in 1..=rounds {
            let (kind, latest) = match random.random_bool(0.7) {
                true => ("apply", LATEST_DEATH_OF_APPLY_MS),
                false => ("run", LATEST_DEATH_OF_AGENT_MS),
            };
            let after = Duration::from_millis(random.random_range(0..latest));
            let context = format!("{}, seed {seed}, round {round}: {kind} killed after {after:?}", binary.version);
            edit.swap();
            let mut victim = Background::start(edit.site.command(&[kind]));
            let began = Instant::now();
            while began.elapsed() < after && victim.status().is_none() {
                pause(Duration::from_millis(1));
            }
            let died_within = victim.status().is_none();
            victim.kill();
            drop(victim);
            edit.holds_after(&context, false);
            edit.a_start_makes_the_files_whole(&context);
            let took = edit.converges(&context);
            edit.sweep();
            edit.wait_for_old_workers();
            let row = table.entry(kind).or_default();
            row.rounds += 1;
            row.died_within += u32::from(died_within);
            row.slowest = row.slowest.max(took);
            row.total += took;
        }
        eprintln!(
            "{:<10} {:<6} {:>7} {:>7} {:>12} {:>12}",
            "haproxy", "victim", "rounds", "deaths", "next: mean", "slowest"
        );
        for (kind, row) in &table {
            let mean = row.total / row.rounds.max(1);
            eprintln!(
                "{:<10} {kind:<6} {:>7} {:>7} {:>9} ms {:>9} ms",
                binary.version.to_string(),
                row.rounds,
                row.died_within,
                mean.as_millis(),
                row.slowest.as_millis()
            );
        }
    }
}
