//! Long random histories of a node: edits, operators' words, health, drift by hand, deaths in the middle, refused
//! commands and failed reloads.
//!
//! The agent's own code runs from the operator's file to the bytes on the sockets: parse, render, plan, journal, files,
//! commands, proof. Below it is a *model* of HAProxy that reads the very files and takes the very commands; nothing else
//! is made up. Real HAProxies take the same commands in the other tests; here it is the number of histories that
//! counts. A seed gives one history, always the same.
//!
//! `HAPILOT_SIMULATION_SEED=N` runs one seed alone, `HAPILOT_SIMULATION_ROUNDS=N` so many events per history,
//! `HAPILOT_SIMULATION_HISTORIES=N` so many histories per version.

mod by_hand;
mod chance;
mod history;
mod judge;
mod loaded;
mod model;
mod sockets;
mod wanted;
mod watch;
mod worker;
mod world;

use crate::support::port::free_port;
use world::World;

/// Events of one history.
const ROUNDS: u64 = 40;
/// Histories of each version.
const HISTORIES: u64 = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

/// Lives through histories on one version, each version with seeds of its own.
fn check(version: &'static str, first: u64) {
    let rounds = number("HAPILOT_SIMULATION_ROUNDS").unwrap_or(ROUNDS);
    let seeds = match number("HAPILOT_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("HAPILOT_SIMULATION_HISTORIES").unwrap_or(HISTORIES),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = free_port();
    for seed in seeds {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let mut world = World::new(seed, version, port);
            let mut lived = world.begin().await;
            for _ in 0..rounds {
                if lived.is_ok() {
                    lived = world.step().await;
                }
            }
            if let Err(broken) = lived {
                let last = world.told.len().saturating_sub(60);
                panic!(
                    "{}\n\nHAPILOT_SIMULATION_SEED={seed} HAPILOT_SIMULATION_ROUNDS={rounds} on {version}: {broken}",
                    world.told[last..].join("\n")
                );
            }
        });
    }
}

#[test]
fn whatever_happens_haproxy_2_6_ends_up_as_wanted() {
    check("2.6.12", 1_000);
}

#[test]
fn whatever_happens_haproxy_3_0_ends_up_as_wanted() {
    check("3.0.11", 2_000);
}

#[test]
fn whatever_happens_haproxy_3_2_ends_up_as_wanted() {
    check("3.2.26", 3_000);
}
