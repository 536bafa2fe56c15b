//! The matrix: every point of an apply, three ways to fail.

use super::edit::Edit;
use crate::support::haproxy::{Binary, binaries};
use crate::support::process::Finished;
use std::collections::{BTreeMap, BTreeSet};

/// One way to fail at one point.
#[derive(Clone, Debug)]
struct Trial {
    point: String,
    pass: u32,
    what: String,
    fault: &'static str,
    is_for_ever: bool,
}

impl Trial {
    fn faults(&self) -> String {
        let Self { point, pass, fault, is_for_ever, .. } = self;
        format!("{point}@{pass}{}={fault}", if *is_for_ever { "+" } else { "" })
    }

    fn is_death(&self) -> bool {
        matches!(self.fault, "abort" | "torn")
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.faults(), self.what)
    }
}

/// The errors that make sense at a point, in turn.
fn errors(point: &str) -> &'static [&'static str] {
    match point {
        "files.write" | "private.write" => &["short", "ENOSPC", "EIO"],
        "files.read" | "directory.list" | "history.list" | "lock.open" => &["EIO", "EACCES"],
        "process.spawn" => &["EACCES", "EIO"],
        "process.wait" => &["timeout", "EIO"],
        _ if point.ends_with(".reply") => &["half", "timeout", "EIO"],
        _ if point.starts_with("admin") || point.starts_with("master") || point.starts_with("bind") => {
            &["EACCES", "EIO"]
        }
        _ => &["ENOSPC", "EACCES", "EIO"],
    }
}

/// All trials: each point once and for ever with errors in turn, and as the last thing that is done.
fn trials(points: &[(String, u32, String)]) -> Vec<Trial> {
    let mut all = Vec::new();
    for (at, (point, pass, what)) in points.iter().enumerate() {
        let errors = errors(point);
        let death = if point.ends_with(".write") && at % 2 == 0 { "torn" } else { "abort" };
        let ways = [(errors[at % errors.len()], false), (errors[(at + 1) % errors.len()], true), (death, false)];
        all.extend(ways.map(|(fault, is_for_ever)| Trial {
            point: point.clone(),
            pass: *pass,
            what: what.clone(),
            fault,
            is_for_ever,
        }));
    }
    all
}

/// The first pass of each point; with `more` also the one in the middle and the last.
fn sample(points: &[(String, u32, String)], more: bool) -> Vec<(String, u32, String)> {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    points.iter().for_each(|(point, pass, _)| {
        last.insert(point, *pass);
    });
    let is_chosen = |(point, pass, _): &&(String, u32, String)| {
        let last = last[point.as_str()];
        *pass == 1 || (more && [last.div_ceil(2), last].contains(pass))
    };
    points.iter().filter(is_chosen).cloned().collect()
}

/// How much of the matrix is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Full,
    Sample,
    Little,
}

/// All on the first HAProxy where that is asked for; a sample, and a smaller one on the others.
fn extent(binary_number: usize) -> Extent {
    let full = std::env::var_os("HAPILOT_TEST_FAULTS").is_some_and(|value| value == "full");
    match (binary_number, full) {
        (0, true) => Extent::Full,
        (0, false) => Extent::Sample,
        _ => Extent::Little,
    }
}

/// Tries the part `part` of `parts` of all trials on one HAProxy.
fn check(binary: &Binary, part: usize, parts: usize, extent: Extent) {
    let mut edit = Edit::start(binary);
    let points = edit.points();
    let chosen = match extent {
        Extent::Full => points,
        Extent::Sample => sample(&points, true),
        Extent::Little => sample(&points, false),
    };
    let trials = trials(&chosen);
    let mine: Vec<_> = trials.iter().skip(part).step_by(parts).collect();
    let (mut took, mut failed) = (Vec::new(), 0);
    for trial in &mine {
        let context = format!("{}: {}", binary.version, trial.describe());
        edit.swap();
        let finished = edit.apply_with(&trial.faults());
        judge(trial, &finished, &context);
        failed += u32::from(finished.code != Some(0));
        // A single error is undone at once; where the disk fails for ever, nothing can be put back.
        edit.holds_after(&context, !trial.is_death() && !trial.is_for_ever);
        if trial.is_death() {
            edit.a_start_makes_the_files_whole(&context);
        }
        took.push(edit.converges(&context));
        edit.sweep();
        edit.wait_for_old_workers();
    }
    took.sort();
    eprintln!(
        "{}: {} trials, {failed} applies failed; the next apply took {:?} at the median, {:?} at the most",
        binary.version,
        mine.len(),
        took.get(took.len() / 2),
        took.last()
    );
}

/// The exit code and the words of the run that failed.
fn judge(trial: &Trial, finished: &Finished, context: &str) {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    if trial.is_death() {
        // How often a socket is asked again depends on the time; a pass beyond the last one is not reached.
        let may_be_missed =
            trial.pass > 1 && ["admin.", "master.", "bind."].iter().any(|kind| trial.point.starts_with(kind));
        let is_missed = may_be_missed && finished.code == Some(0);
        assert!(finished.code.is_none() || is_missed, "{context}: it died by a signal:\n{said}");
        return;
    }
    if finished.code == Some(0) {
        return;
    }
    // The operator's own file is the one thing whose failure is the operator's.
    let codes = if trial.what.ends_with("hapilot.toml") { vec![1, 2] } else { vec![1] };
    assert!(finished.code.is_some_and(|code| codes.contains(&code)), "{context}: refused, no bug of ours:\n{said}");
    assert!(finished.stderr.starts_with("error"), "{context}: an error is told:\n{said}");
    let tells_cause = match trial.fault {
        // The question why it did not answer was answered.
        _ if trial.point.starts_with("master.") && !trial.is_for_ever && said.contains("does not answer") => true,
        "timeout" => ["in time", "within", "timed out"].iter().any(|word| said.contains(word)),
        "half" => ["replies", "could not read", "answered", "not proven"].iter().any(|word| said.contains(word)),
        "EACCES" => said.contains("ermission"),
        "EIO" => said.contains("Input/output error"),
        _ => said.contains("No space left"),
    };
    assert!(tells_cause, "{context}: what failed is told:\n{said}");
    // The file, the program or the socket, by its name.
    let name = trial.what.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let is_named = match trial.point.as_str() {
        // Temporary names and numbers of revisions are others in each run.
        "directory.temporary" | "private.create" | "private.write" => said.contains("staged"),
        point if point.starts_with("history.") || trial.what.contains("/.new-") => said.contains("/revisions"),
        point if point.starts_with("bind.") => said.contains(" of api"),
        // For ever: another one may be the first that matters.
        _ if trial.is_for_ever => said.contains("hapilot-") || said.contains("haproxy"),
        _ => said.contains(name) || said.contains("staged"),
    };
    assert!(is_named, "{context}: {name} is named:\n{said}");
}

macro_rules! parts {
    ($($name:ident: $part:literal of $parts:literal;)*) => {$(
        #[test]
        fn $name() {
            for (at, binary) in binaries().iter().enumerate() {
                check(binary, $part, $parts, extent(at));
            }
        }
    )*};
}

// No multiple of three: each part gets all three ways to fail, of which those for ever take long.
parts! {
    whatever_fails_the_next_apply_mends_it_01: 0 of 19;
    whatever_fails_the_next_apply_mends_it_02: 1 of 19;
    whatever_fails_the_next_apply_mends_it_03: 2 of 19;
    whatever_fails_the_next_apply_mends_it_04: 3 of 19;
    whatever_fails_the_next_apply_mends_it_05: 4 of 19;
    whatever_fails_the_next_apply_mends_it_06: 5 of 19;
    whatever_fails_the_next_apply_mends_it_07: 6 of 19;
    whatever_fails_the_next_apply_mends_it_08: 7 of 19;
    whatever_fails_the_next_apply_mends_it_09: 8 of 19;
    whatever_fails_the_next_apply_mends_it_10: 9 of 19;
    whatever_fails_the_next_apply_mends_it_11: 10 of 19;
    whatever_fails_the_next_apply_mends_it_12: 11 of 19;
    whatever_fails_the_next_apply_mends_it_13: 12 of 19;
    whatever_fails_the_next_apply_mends_it_14: 13 of 19;
    whatever_fails_the_next_apply_mends_it_15: 14 of 19;
    whatever_fails_the_next_apply_mends_it_16: 15 of 19;
    whatever_fails_the_next_apply_mends_it_17: 16 of 19;
    whatever_fails_the_next_apply_mends_it_18: 17 of 19;
    whatever_fails_the_next_apply_mends_it_19: 18 of 19;
}

#[test]
fn an_apply_passes_every_kind_of_point() {
    let Some(binary) = binaries().into_iter().next() else { return };
    let points = Edit::start(&binary).points();
    let kinds: BTreeSet<&str> = points.iter().map(|(point, _, _)| point.as_str()).collect();
    eprintln!("{} points of {} kinds", points.len(), kinds.len());
    for (at, (point, pass, what)) in points.iter().enumerate() {
        eprintln!("{:4} {point}@{pass} {what}", at + 1);
    }
    for kind in [
        "admin.connect",
        "admin.send",
        "admin.reply",
        "master.connect",
        "master.send",
        "master.reply",
        "bind.connect",
        "bind.send",
        "bind.reply",
        "process.spawn",
        "process.wait",
        "files.create",
        "files.write",
        "files.sync",
        "files.rename",
        "files.read",
        "directory.sync",
        "directory.create",
        "directory.list",
        "lock.open",
        "history.stage",
        "history.rename",
        "space.look",
        "private.write",
    ] {
        assert!(kinds.contains(kind), "{kind}");
    }
}
