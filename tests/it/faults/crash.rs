//! Deaths of `hapilot apply` and of the agent in the midst of edits: by `kill -9` at random moments, or at each point
//! that an apply passes. What must never be is counted; a round that finds something is described and the next begins.
//!
//! `scripts/measure/crash` runs it and chooses how often; without that it is a handful, so that it stays alive.

use super::edit::{Edit, Wrong, Wrongs};
use crate::support::haproxy::{Binary, binaries};
use crate::support::process::Background;
use crate::support::{PATIENCE, pause, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Rounds where nobody asks for more.
const FEW: u32 = 6;
/// An apply takes 0.1 to 0.4 s: a death beyond its end is a round without a death.
const LATEST_DEATH_OF_APPLY_MS: u64 = 250;
/// The agent lives on; its first apply begins at once.
const LATEST_DEATH_OF_AGENT_MS: u64 = 400;
/// Rounds between two lines of progress.
const PROGRESS: u32 = 100;

/// How a process is brought to its death.
#[derive(Clone, Debug)]
enum Death {
    /// `apply`, so long after its start.
    Apply(Duration),
    /// The agent, started on a file that it has not applied yet.
    AgentAtItsStart(Duration),
    /// The agent that runs already, so long after an edit.
    AgentAtAnEdit(Duration),
    /// `apply`, by its own hand at this pass of this point.
    Point(String, u32),
}

impl Death {
    fn random(random: &mut StdRng, share_of_apply: f64) -> Self {
        let mut within = |latest| Duration::from_millis(random.random_range(0..latest));
        let (soon, late) = (within(LATEST_DEATH_OF_APPLY_MS), within(LATEST_DEATH_OF_AGENT_MS));
        match (random.random_bool(share_of_apply), random.random_bool(0.5)) {
            (true, _) => Self::Apply(soon),
            (false, true) => Self::AgentAtItsStart(late),
            (false, false) => Self::AgentAtAnEdit(late),
        }
    }

    /// The row that it is counted in.
    fn kind(&self) -> String {
        match self {
            Self::Apply(_) => "apply".to_owned(),
            Self::AgentAtItsStart(_) => "run, starting".to_owned(),
            Self::AgentAtAnEdit(_) => "run, at an edit".to_owned(),
            Self::Point(point, _) => point.clone(),
        }
    }

    /// Edits the operator's file and lets the process die of it; whether it was alive until then.
    fn befall(&self, edit: &mut Edit) -> bool {
        match self {
            Self::Point(point, pass) => {
                edit.swap();
                edit.apply_with(&format!("{point}@{pass}=abort")).code.is_none()
            }
            Self::Apply(after) => {
                edit.swap();
                kill_after(Background::start(edit.site.command(&["apply"])), *after)
            }
            Self::AgentAtItsStart(after) => {
                edit.swap();
                kill_after(Background::start(edit.site.command(&["run"])), *after)
            }
            Self::AgentAtAnEdit(after) => {
                let agent = Background::start(edit.site.command(&["run"]));
                let socket = edit.site.directory().join("hapilot.sock");
                wait_for("the agent to listen", PATIENCE, || UnixStream::connect(&socket).ok());
                edit.swap();
                kill_after(agent, *after)
            }
        }
    }
}

fn kill_after(mut victim: Background, after: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < after && victim.status().is_none() {
        pause(Duration::from_millis(1));
    }
    let was_alive = victim.status().is_none();
    victim.kill();
    was_alive
}

/// What the rounds of one kind came to.
#[derive(Default)]
struct Row {
    rounds: u32,
    deaths: u32,
    slowest: Duration,
    total: Duration,
    wrongs: BTreeMap<Wrong, u32>,
}

/// The rounds of one HAProxy, on all of its nodes.
#[derive(Default)]
struct Tally {
    rows: BTreeMap<String, Row>,
    rounds: u32,
    /// From the start to the end of the last round.
    elapsed: Duration,
}

impl Tally {
    fn add(&mut self, kind: String, was_alive: bool, took: Duration, wrongs: &Wrongs) -> u32 {
        let row = self.rows.entry(kind).or_default();
        row.rounds += 1;
        row.deaths += u32::from(was_alive);
        row.slowest = row.slowest.max(took);
        row.total += took;
        wrongs.iter().for_each(|(wrong, _)| *row.wrongs.entry(*wrong).or_default() += 1);
        self.rounds += 1;
        self.rounds
    }

    fn print(&self, binary: &Binary) {
        eprintln!(
            "{:<8} {:<20} {:>7} {:>7} {:>8} {:>8} {:>9} {:>8} {:>10} {:>10} {:>8}",
            "haproxy",
            "victim",
            "rounds",
            "deaths",
            "strange",
            "refused",
            "two revs",
            "silent",
            "not mended",
            "next: mean",
            "slowest"
        );
        for (kind, row) in &self.rows {
            let count = |wrong| row.wrongs.get(&wrong).copied().unwrap_or(0);
            eprintln!(
                "{:<8} {kind:<20} {:>7} {:>7} {:>8} {:>8} {:>9} {:>8} {:>10} {:>7} ms {:>5} ms",
                binary.version.to_string(),
                row.rounds,
                row.deaths,
                count(Wrong::StrangeFile),
                count(Wrong::Refused),
                count(Wrong::TwoRevisions),
                count(Wrong::NotServing),
                count(Wrong::NotMended),
                (row.total / row.rounds.max(1)).as_millis(),
                row.slowest.as_millis()
            );
        }
    }

    fn wrongs(&self) -> u32 {
        self.rows.values().flat_map(|row| row.wrongs.values()).sum()
    }
}

/// One death, what it left, and the way back; how many rounds there were with it.
fn round(edit: &mut Edit, death: &Death, context: &str, tally: &Mutex<Tally>) -> u32 {
    let was_alive = death.befall(edit);
    let mut wrongs = edit.wrongs(false);
    wrongs.extend(edit.wrongs_after_a_start());
    let (took, left) = edit.mend();
    wrongs.extend(left);
    edit.sweep();
    edit.wait_for_old_workers();
    for (wrong, words) in &wrongs {
        eprintln!("{context}, {death:?}: {wrong:?}: {words}");
    }
    tally.lock().unwrap().add(death.kind(), was_alive, took, &wrongs)
}

/// What is tried on each HAProxy.
struct Wanted {
    rounds: u32,
    each_step: Option<u32>,
    share_of_apply: f64,
    seed: u64,
}

/// One HAProxy, what is tried on it, and what came of it.
struct Trial {
    binary: Binary,
    /// Chosen by the first node that has come up: one list for all.
    deaths: OnceLock<Vec<Death>>,
    tally: Mutex<Tally>,
}

impl Trial {
    fn new(binary: Binary) -> Self {
        Self { binary, deaths: OnceLock::new(), tally: Mutex::default() }
    }
}

fn deaths(edit: &mut Edit, wanted: &Wanted) -> Vec<Death> {
    let mut random = StdRng::seed_from_u64(wanted.seed);
    match wanted.each_step {
        None => (0..wanted.rounds).map(|_| Death::random(&mut random, wanted.share_of_apply)).collect(),
        Some(times) => {
            let death = |(point, pass, _): (String, u32, String)| Death::Point(point, pass);
            edit.points().into_iter().map(death).flat_map(|death| vec![death; times as usize]).collect()
        }
    }
}

/// The part of the rounds of one HAProxy that one node of several carries out.
fn carry_out(trial: &Trial, wanted: &Wanted, part: u32, parts: u32) {
    let Trial { binary, deaths: list, tally } = trial;
    let mut edit = Edit::start(binary);
    let deaths = list.get_or_init(|| deaths(&mut edit, wanted));
    let began = Instant::now();
    // In turn: a point that is slow is slow for all.
    for (at, death) in (0_u32..).zip(deaths).filter(|(at, _)| at % parts == part) {
        let context = format!("{}, seed {}, round {at}", binary.version, wanted.seed);
        let done = round(&mut edit, death, &context, tally);
        if done.is_multiple_of(PROGRESS) {
            eprintln!("{}: {done} of {} rounds after {:?}", binary.version, deaths.len(), began.elapsed());
        }
    }
    tally.lock().unwrap().elapsed = began.elapsed();
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_death_at_any_moment_leaves_whole_files_and_a_serving_haproxy() {
    let wanted = Wanted {
        rounds: number("HAPILOT_CRASH_ROUNDS").unwrap_or(FEW),
        each_step: number("HAPILOT_CRASH_EACH_STEP"),
        share_of_apply: if std::env::var_os("HAPILOT_CRASH_AGENT").is_some() { 0.1 } else { 0.7 },
        seed: number("HAPILOT_CRASH_SEED").map_or_else(|| u64::from(rand::random::<u32>()), u64::from),
    };
    let binaries = binaries();
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    // A node waits half of its time for HAProxy: one for each core, and at least one for each HAProxy.
    let parts = cores.div_ceil(u32::try_from(binaries.len()).unwrap().max(1));
    let trials: Vec<_> = binaries.into_iter().map(Trial::new).collect();
    eprintln!("seed {}, {parts} nodes for each HAProxy", wanted.seed);
    std::thread::scope(|scope| {
        for trial in &trials {
            for part in 0..parts {
                let wanted = &wanted;
                scope.spawn(move || carry_out(trial, wanted, part, parts));
            }
        }
    });
    let mut wrongs = 0;
    for Trial { binary, tally, .. } in trials {
        let tally = tally.into_inner().unwrap();
        tally.print(&binary);
        let each = tally.elapsed / tally.rounds.max(1);
        eprintln!("{}: {} rounds in {:.1?}, one every {each:.1?}", binary.version, tally.rounds, tally.elapsed);
        wrongs += tally.wrongs();
    }
    assert_eq!(wrongs, 0, "states that must never be; each was described when it was found");
}
