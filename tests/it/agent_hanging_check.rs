//! A `haproxy -c` that hangs: weights, commands and status go on beside it, and its death leaves no key behind.

use super::support::haproxy::{Binary, binaries};
use super::support::stage::{KEY, Stage, swapped};
use super::support::{PATIENCE, wait_for, write};
use hapilot::mock::{Fault, FaultKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a command may take while the check hangs. An idle machine needs a tenth.
const SOON: Duration = Duration::from_secs(10);

/// A node whose HAProxy hangs at `-c` while there is a file `hang` beside it, for so many seconds.
fn stage(binary: &Binary, seconds: u32) -> Stage {
    let real = binary.path.display().to_string();
    let mut stage = Stage::new(binary);
    let (script, hang) = (stage.path("slow-haproxy"), stage.path("hang"));
    write(
        &script,
        format!("#!/bin/sh\n[ \"$1\" = -c ] && [ -e {} ] && sleep {seconds}\nexec {real} \"$@\"\n", hang.display()),
    );
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let line = format!("binary        = \"{real}\"");
    stage.write_file(&swapped(&stage.text(), &line, &format!("binary = \"{}\"", script.display())));
    stage.done(&["apply"]);
    stage.start_haproxy();
    stage.start_agent();
    stage.wait_for_health();
    stage
}

/// Processes with these words in their command line.
fn processes(words: &str) -> usize {
    let all = fs_err::read_dir("/proc").expect("processes").filter_map(Result::ok);
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(words)).count()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(directory) else { return vec![] };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_check_that_hangs_keeps_nobody_from_steering() {
    for binary in binaries() {
        // A number that no other test's process has.
        let seconds = 50_000 + std::process::id() % 10_000;
        let stage = stage(&binary, seconds);
        write(stage.path("hang"), "");
        let worker = stage.worker();
        let since = stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the check to hang", PATIENCE, || (processes(&format!("sleep {seconds}")) > 0).then_some(()));
        let timed = |words: &[&str]| {
            let began = Instant::now();
            stage.done(words);
            assert!(began.elapsed() < SOON, "{words:?} took {:?}", began.elapsed());
        };
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        stage.effect("health to reach HAProxy", since, |stage| stage.weight("b") < 100);
        timed(&["server", "drain", "chat/c"]);
        assert!(!stage.is_ready("c"));
        timed(&["server", "ready", "chat/c"]);
        assert!(stage.is_ready("c"));
        let began = Instant::now();
        assert_eq!(stage.json(&["status"])["node"], "test");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        stage.mend_mock("b");
        stage.effect("health to come back", since, |stage| stage.weight("b") == 100);
        assert_eq!((stage.worker(), stage.revisions()), (worker, (1, 1)));
        assert!(stage.agent_said("takes its time over the change"));
        // Another file ends it, with all its children, and is served.
        fs_err::remove_file(stage.path("hang")).expect("the file");
        stage.edit("idle = \"12s\"", "idle = \"13s\"");
        wait_for("the next file", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        wait_for("the end of the check", PATIENCE, || (processes(&format!("sleep {seconds}")) == 0).then_some(()));
    }
}

#[test]
fn a_check_that_comes_late_is_heeded_when_it_comes() {
    for binary in binaries().into_iter().rev().take(1) {
        let stage = stage(&binary, 3);
        write(stage.path("hang"), "");
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        // Whether the file serves by then or not: it is answered.
        stage.done(&["plan"]);
        wait_for("the file", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.edit("balance  = \"roundrobin\"", "balance  = \"roundrobin\"\nraw = [\"no such words\"]");
        let problems = || {
            Some(stage.json(&["status"])["problems"].to_string()).filter(|problems| problems.contains("no such words"))
        };
        wait_for("the refusal", PATIENCE, problems);
        assert_eq!(stage.revisions(), (2, 2));
    }
}

#[test]
fn files_of_what_serves_follow_soon_after_a_slow_verdict() {
    let binary = binaries().pop().expect("a HAProxy");
    let stage = stage(&binary, 2);
    write(stage.path("hang"), "");
    // The same content as another file: all is compared and judged before it is replaced.
    let text = stage.read("haproxy.cfg");
    write(stage.path("haproxy.cfg"), &text);
    stage.done(&["server", "weight", "chat/b", "37"]);
    let began = Instant::now();
    wait_for("the file to follow", PATIENCE, || stage.read("haproxy.cfg").contains(" weight 37").then_some(()));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(stage.json(&["status"])["problems"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn whatever_is_said_while_a_check_runs_the_change_serves_when_it_is_judged() {
    for (turn, binary) in binaries().into_iter().rev().enumerate().take(2) {
        let stage = stage(&binary, 2);
        write(stage.path("hang"), "");
        let said: [&[&[&str]]; 4] = [
            &[&["server", "drain", "chat/c"], &["server", "ready", "chat/c"]],
            &[&["server", "weight", "chat/c", "7"], &["status"], &["server", "weight", "chat/c", "9"]],
            &[&["server", "drain", "chat/a", "--for", "1s"]],
            &[
                &["plan"],
                &["server", "maint", "chat/a"],
                &["server", "ready", "chat/a"],
                &["server", "ready", "chat/c"],
            ],
        ];
        for (round, words) in said.iter().enumerate() {
            let (before, after) = (10 + round, 11 + round);
            stage.edit(&format!("idle = \"{before}s\""), &format!("idle = \"{after}s\""));
            if (turn + round).is_multiple_of(2) {
                stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
            }
            words.iter().for_each(|words| drop(stage.done(words)));
            let began = Instant::now();
            wait_for("the change", PATIENCE, || (stage.revisions().0 == round + 2).then_some(()));
            assert!(began.elapsed() < SOON, "{}: {words:?}: {:?}", binary.version, began.elapsed());
            stage.mend_mock("b");
        }
    }
}

#[test]
fn who_asks_for_an_apply_hears_of_that_apply_and_a_file_that_is_not_served_yet_is_told() {
    for binary in binaries().into_iter().rev().take(1) {
        let stage = stage(&binary, 3);
        stage.edit("idle = \"10s\"", "idle = \"11s\"");
        wait_for("a second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        write(stage.path("hang"), "");
        stage.edit("idle = \"11s\"", "idle = \"12s\"");
        let pending = || {
            let status = stage.json(&["status"]);
            status["config"]["pending"].is_string().then_some(status)
        };
        let status = wait_for("the file to be told as pending", PATIENCE, pending);
        assert_eq!((&status["config"]["is_serving"], &status["problems"]), (&false.into(), &serde_json::json!([])));
        assert!(stage.done(&["status"]).contains("is about to be served: "), "{}", stage.done(&["status"]));
        std::thread::scope(|scope| {
            let apply = scope.spawn(|| stage.cli(&["apply"]));
            wait_for("the apply to wait", PATIENCE, || pending().map(drop));
            // What was never served is nothing to go back from.
            let back = stage.cli(&["rollback"]);
            assert!(back.code == Some(1) && back.stderr.contains("nothing to roll back"), "{back:?}");
            let applied = apply.join().expect("an answer");
            assert!(applied.code == Some(0) && applied.stdout.contains("revision 3"), "{applied:?}");
        });
        assert_eq!(stage.revisions().0, 3);
        stage.edit("idle = \"12s\"", "idle = \"13s\"");
        std::thread::scope(|scope| {
            let apply = scope.spawn(|| stage.cli(&["apply"]));
            wait_for("the apply to wait", PATIENCE, || pending().map(drop));
            let back = stage.cli(&["rollback", "2"]);
            assert!(back.code == Some(0) && back.stdout.contains("revision 4"), "{back:?}");
            let applied = apply.join().expect("an answer");
            assert!(applied.code == Some(1) && applied.stderr.contains("was asked for instead"), "{applied:?}");
        });
        assert_eq!(stage.revisions().0, 4);
    }
}

#[test]
fn a_deadline_that_passes_while_another_file_is_judged_takes_nothing_of_that_file() {
    for binary in binaries().into_iter().rev().take(1) {
        let stage = stage(&binary, 4);
        stage.edit("idle = \"10s\"", "idle = \"11s\"");
        stage.done(&["apply", "--confirm", "4s"]);
        write(stage.path("hang"), "");
        stage.edit("idle = \"11s\"", "idle = \"13s\"");
        let serves = |stage: &Stage| {
            let status = stage.json(&["status"]);
            let text = stage.done(&["history", "--json"]);
            (status["config"]["is_serving"] == true && status["config"]["revision"].as_u64() > Some(2)).then_some(text)
        };
        wait_for("the edit", PATIENCE * 2, || serves(&stage));
        assert!(fs_err::read_to_string(stage.path("haproxy.cfg")).is_ok_and(|text| text.contains("13s")), "the edit");
    }
}

#[test]
fn a_death_during_the_check_leaves_no_key_and_what_it_leaves_is_swept() {
    for binary in binaries().into_iter().rev().take(1) {
        let mut stage = stage(&binary, 30);
        write(stage.path("hang"), "");
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let staged = || {
            let files = files_below(&stage.path("state"));
            let files: Vec<_> =
                files.into_iter().filter(|file| file.to_string_lossy().contains("hapilot-check-")).collect();
            files.iter().any(|file| file.ends_with("haproxy.cfg")).then_some(files)
        };
        let files = wait_for("the staged files", PATIENCE, staged);
        assert!(files.iter().any(|file| file.ends_with("keys.map")), "{files:?}");
        for file in &files {
            let text = fs_err::read_to_string(file).expect("a staged file");
            assert!(!text.contains(KEY), "{} holds the key", file.display());
            let directory = fs_err::metadata(file.parent().expect("a directory")).expect("a directory");
            assert_eq!(directory.permissions().mode() & 0o077, 0, "{}", file.display());
        }
        fs_err::remove_file(stage.path("hang")).expect("the file");
        stage.agent().kill();
        assert!(files.iter().all(|file| file.exists()));
        stage.start_agent();
        assert!(stage.agent_said("a killed run left its staged files"));
        assert!(files.iter().all(|file| !file.exists()));
    }
}
