//! A disk whose every `fsync` takes its time: what is written down comes later, and nothing else does.

use super::support::agent;
use super::support::haproxy::{Binary, binaries};
use super::support::stage::{Stage, swapped};
use super::support::{PATIENCE, pause, wait_for};
use hapilot::mock::{Fault, FaultKind};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// An agent on a disk that needs so many milliseconds for each `fsync`.
fn stage(binary: &Binary, milliseconds: u32) -> Stage {
    let mut stage = Stage::with_haproxy(binary, |text| text);
    stage.begin_agent_with(&format!("files.sync@1+=slow{milliseconds}"));
    stage.agent().wait_for_output("serving");
    stage.wait_for_health();
    stage
}

fn with_weight(text: &str, weight: u16) -> String {
    swapped(text, "weight = 100 # a", &format!("weight = {weight} # a"))
}

#[test]
fn an_edit_and_a_rollback_are_carried_out_in_the_order_in_which_they_came() {
    for binary in binaries() {
        let stage = stage(&binary, 60);
        let first = stage.text();
        for (number, weight) in (50..).step_by(10).take(3).enumerate() {
            stage.write_file(&with_weight(&first, weight));
            wait_for("the edit", PATIENCE, || (stage.weight("a") == weight).then_some(()));
            // It is not yet written down when the rollback comes, and another edit behind it.
            let before = stage.revisions().0;
            std::thread::scope(|scope| {
                let back = scope.spawn(|| stage.cli(&["rollback"]));
                // Longer than a command takes to reach the agent.
                pause(Duration::from_millis(150));
                stage.write_file(&with_weight(&first, weight + 1));
                let back = back.join().expect("an answer");
                assert_eq!(back.code, Some(0), "{} turn {number}: {}", binary.version, back.stderr);
            });
            wait_for("what was saved last", PATIENCE, || {
                (stage.weight("a") == weight + 1 && stage.cli(&["status"]).code == Some(0)).then_some(())
            });
            assert!(stage.revisions().0 > before, "{}", binary.version);
        }
    }
}

#[test]
fn a_file_that_is_saved_again_and_again_keeps_no_command_waiting() {
    for binary in binaries() {
        let stage = stage(&binary, 100);
        let edited = with_weight(&stage.text(), 40);
        let (said, saved, took) = std::thread::scope(|scope| {
            stage.write_file(&edited);
            let began = Instant::now();
            let apply = scope.spawn(|| stage.done(&["apply", "--confirm", "5m", "--reason", "a try"]));
            let mut saved = 0;
            while !apply.is_finished() {
                // Each a content of its own.
                stage.write_file(&format!("{edited}# {saved}\n"));
                saved += 1;
                pause(Duration::from_millis(100));
            }
            (apply.join().expect("the apply"), saved, began.elapsed())
        });
        println!("{}: saved {saved} times, the apply took {} ms", binary.version, took.as_millis());
        assert!(said.contains("on trial"), "{}: {said}", binary.version);
        // What came behind it is served as well.
        wait_for("what was saved last", PATIENCE, || {
            (stage.weight("a") == 40 && stage.cli(&["status"]).code == Some(0)).then_some(())
        });
    }
}

#[test]
fn health_words_and_status_wait_for_no_disk() {
    /// What an idle machine does in a twentieth.
    const SOON: Duration = Duration::from_secs(2);
    for binary in binaries() {
        // An apply takes several seconds.
        let stage = stage(&binary, 1000);
        stage.write_file(&with_weight(&stage.text(), 90));
        let mut slowest = [Duration::ZERO; 3];
        let began = Instant::now();
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        slowest[0] = stage.effect("health", began, |stage| stage.weight("b") == 0);
        for weight in ["90", "100"] {
            let began = Instant::now();
            let said = std::thread::scope(|scope| {
                let said = scope.spawn(|| stage.done(&["server", "weight", "chat/c", weight]));
                stage.effect("the word", began, |stage| stage.weight("c").to_string() == weight);
                slowest[2] = slowest[2].max(began.elapsed());
                let began = Instant::now();
                assert_eq!(stage.json(&["status"])["node"], "test");
                slowest[1] = slowest[1].max(began.elapsed());
                said.join().expect("an answer")
            });
            assert!(said.contains("weight chat/c"), "{said}");
        }
        println!("{}: out, status, word at the most {slowest:?}", binary.version);
        assert!(slowest.iter().all(|took| *took < SOON), "{}: {slowest:?}", binary.version);
    }
}

#[test]
fn a_disk_that_hangs_is_told_and_keeps_no_server_in() {
    for binary in binaries().into_iter().take(1) {
        // Longer than anybody waits.
        let stage = stage(&binary, 120_000);
        stage.write_file(&with_weight(&stage.text(), 90));
        let began = Instant::now();
        stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
        stage.effect("health", began, |stage| stage.weight("b") == 0);
        // Operators are answered all the same, and told.
        let said = stage.done(&["server", "weight", "chat/c", "90"]);
        assert_eq!(stage.weight("c"), 90);
        assert!(said.contains("not yet kept over a restart: the disk of"), "{said}");
        let status = wait_for("the trouble", PATIENCE, || {
            let status = stage.cli(&["status"]);
            status.stdout.contains("the disk does not answer").then_some(status)
        });
        assert_eq!(status.code, Some(1), "{}", status.stdout);
        println!("{}", status.stdout);
    }
}

/// An agent of which some operations fail, and whose edits are on trial.
fn on_trial(binary: &Binary, confirm: &str, faults: &str) -> Stage {
    let mut stage = Stage::with_haproxy(binary, |text| format!("{text}\n[apply]\nconfirm = \"{confirm}\"\n"));
    stage.begin_agent_with(faults);
    stage.agent().wait_for_output("serving");
    stage.wait_for_health();
    stage
}

#[test]
fn a_trial_ends_in_its_time_though_the_history_cannot_be_written() {
    for binary in binaries() {
        let stage = on_trial(&binary, "8s", "history.stage@1+=ENOSPC");
        let edited = stage.write_file(&with_weight(&stage.text(), 40));
        stage.effect("the edit", edited, |stage| stage.weight("a") == 40);
        wait_for("the trial to be told", PATIENCE, || stage.agent_said("is on trial").then_some(()));
        let took = stage.effect("the weight of before", edited, |stage| stage.weight("a") == 100);
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(15), "{}: {took:?}", binary.version);
    }
}

#[test]
fn what_was_confirmed_before_it_could_be_written_down_stays() {
    for binary in binaries() {
        let stage = on_trial(&binary, "6s", "history.stage@1=ENOSPC");
        let edited = stage.write_file(&with_weight(&stage.text(), 40));
        wait_for("the trial to be told", PATIENCE, || stage.agent_said("is on trial").then_some(()));
        let said = stage.done(&["confirm"]);
        assert!(said.contains("what serves is confirmed") || said.contains("revision 2 is confirmed"), "{said}");
        wait_for("the history", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        assert_eq!(stage.json(&["history"])[0]["outcome"], "confirmed");
        wait_for("the time of the deadline", PATIENCE, || (edited.elapsed() > Duration::from_secs(9)).then_some(()));
        assert_eq!((stage.weight("a"), stage.revisions()), (40, (2, 2)), "{}", binary.version);
        assert_eq!(stage.cli(&["status"]).code, Some(0));
    }
}

#[test]
fn whoever_waits_for_a_disk_that_hangs_is_answered_and_the_agent_can_be_stopped() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = stage(&binary, 300_000);
        let file = stage.file();
        let _tag = agent::start(&["-c", file.to_str().expect("ASCII"), "tag", "1", "good"]);
        pause(Duration::from_millis(300));
        let began = Instant::now();
        let said = stage.done(&["server", "weight", "chat/c", "90"]);
        println!("answered after {:?}: {said}", began.elapsed());
        assert!(said.contains("not yet kept over a restart"), "{said}");
        assert_eq!(stage.weight("c"), 90);
        stage.agent().signal(Signal::SIGTERM);
        let ended = stage.agent().wait(Duration::from_secs(60));
        assert!(ended.is_some(), "it runs on");
    }
}
