//! Long random histories of a node: edits, operators' words, health, drift by hand, deaths in the middle, refused
//! commands and failed reloads.
//!
//! The agent's own code runs from the operator's file to the bytes on the sockets: parse, render, plan, journal, files,
//! commands, proof. Below it is a *model* of HAProxy that reads the very files and takes the very commands; nothing else
//! is made up. Real HAProxies take the same commands in the other tests; here it is the number of histories that
//! counts. Between any two file operations HAProxy must be able to start from the files, and the agent may die there. A
//! seed gives one history, always the same.
//!
//! `HAPILOT_SIMULATION_SEED=N` runs one seed alone, `HAPILOT_SIMULATION_ROUNDS=N` so many events per history,
//! `HAPILOT_SIMULATION_HISTORIES=N` so many histories per version.

mod by_hand;
mod history;
mod judge;
mod loaded;
mod meddle;
mod model;
mod sockets;
mod wanted;
mod watch;
mod worker;
mod world;

use crate::support::port::free_port;
use world::{Broken, World};

/// Events of one history.
const ROUNDS: u64 = 40;
/// Histories of each version.
const HISTORIES: u64 = 3;

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
    let port = free_port();
    for seed in seeds {
        let (world, lived) = live(version, seed, rounds, port);
        if let Err(broken) = lived {
            let last = world.told.len().saturating_sub(60);
            panic!(
                "{}\n\nHAPILOT_SIMULATION_SEED={seed} HAPILOT_SIMULATION_ROUNDS={rounds} on {version}: {broken}",
                world.told[last..].join("\n")
            );
        }
    }
}

/// One history from its begin to its end, or to the first event after which something is not as it must be.
fn live(version: &'static str, seed: u64, rounds: u64, port: u16) -> (World, Result<(), Broken>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut world = World::new(seed, version, port);
        let mut lived = Box::pin(world.begin()).await;
        for _ in 0..rounds {
            if lived.is_ok() {
                lived = Box::pin(world.step()).await;
            }
        }
        (world, lived)
    })
}

#[test]
fn a_seed_gives_one_history_always_the_same() {
    let port = free_port();
    let seed = number("HAPILOT_SIMULATION_SEED").unwrap_or(77);
    let rounds = number("HAPILOT_SIMULATION_ROUNDS").unwrap_or(15);
    let histories = [(); 2].map(|()| {
        let (world, lived) = live("3.0.11", seed, rounds, port);
        let heard = world.haproxy.borrow().heard.clone();
        let lines = world.told.iter().chain(&heard).map(|line| line.replace(world.directory.as_str(), "/DIR"));
        (lines.collect::<Vec<_>>(), lived)
    });
    let [(first, lived), (second, _)] = &histories;
    lived.as_ref().unwrap();
    let differs = first.iter().zip(second).find(|(first, second)| first != second);
    assert_eq!((differs, first.len()), (None, second.len()));
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
