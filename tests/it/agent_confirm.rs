//! A revision on trial: confirmed in time, or gone by itself, whoever has died meanwhile.

use super::support::haproxy::{Binary, binaries};
use super::support::process::is_alive;
use super::support::stage::Stage;
use super::support::{PATIENCE, pause, wait_for, write};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How late after its deadline a revision may still be rolled back.
const LATE: Duration = Duration::from_secs(5);

/// Applies another weight of server a on trial.
fn on_trial(stage: &Stage, weight: &str, confirm: &str) -> Instant {
    // With an agent, the edit may serve before the command: then that revision is on trial.
    stage.edit("weight = 100 # a", &format!("weight = {weight} # a"));
    let said = stage.done(&["apply", "--confirm", confirm, "--reason", "a try"]);
    assert!(said.contains("on trial"), "{said}");
    Instant::now()
}

/// A stage whose agent leaves edits to `apply`: it is not there.
fn without_agent(binary: &Binary) -> Stage {
    Stage::with_haproxy(binary, |text| text)
}

fn guard_pid(stage: &Stage) -> Option<Pid> {
    let text = fs_err::read_to_string(stage.path("state/deadline.lock")).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

fn guard_is_gone(stage: &Stage) {
    wait_for("the guard's end", PATIENCE, || guard_pid(stage).is_none_or(|pid| !is_alive(pid)).then_some(()));
}

fn outcomes(stage: &Stage) -> Vec<String> {
    let history = stage.json(&["history"]);
    let all = history.as_array().expect("a list").iter().rev();
    all.map(|revision| revision["outcome"].as_str().expect("an outcome").to_owned()).collect()
}

#[test]
fn an_unconfirmed_revision_goes_by_itself_though_the_agent_was_killed() {
    for binary in binaries() {
        let mut stage = without_agent(&binary);
        stage.start_agent();
        stage.wait_for_health();
        // A change that needs a reload, so that the way back is the long one.
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let said = stage.done(&["apply", "--confirm", "3s"]);
        let applied = Instant::now();
        assert!(said.contains("revision 2 is on trial"), "{said}");
        assert!(stage.read("haproxy.cfg").contains("12s"));
        wait_for("the guard", PATIENCE, || guard_pid(&stage).filter(|pid| is_alive(*pid)));
        stage.agent().kill();
        let limit = Duration::from_secs(3) + LATE;
        wait_for("the revision before", limit, || (!stage.read("haproxy.cfg").contains("12s")).then_some(()));
        println!("{} rolled back {} ms after the apply", binary.version, applied.elapsed().as_millis());
        assert!(applied.elapsed() >= Duration::from_millis(2900), "not before its time");
        wait_for("the history", PATIENCE, || (stage.revisions() == (3, 3)).then_some(()));
        // Whoever rolled back writes it down a moment after the revision.
        guard_is_gone(&stage);
        let outcomes = outcomes(&stage);
        assert!(outcomes[1].contains("rolled-back: revision 2 was not confirmed within 3s"), "{outcomes:?}");
        assert_eq!((outcomes[0].as_str(), outcomes[2].as_str()), ("confirmed", "confirmed"));

        // The agent that comes back serves neither the file that was rolled back nor anything else anew.
        stage.start_agent();
        let status = stage.json(&["status"]);
        assert!(status["problems"].to_string().contains("rolled back"), "{status}");
        assert_eq!((stage.revisions(), &status["trial"]), ((3, 3), &serde_json::Value::Null));
    }
}

#[test]
fn a_running_agent_rolls_back_at_the_deadline_and_says_so_before() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text + "\n[apply]\nconfirm = \"2s\"\n");
        let edited = stage.edit("weight = 100 # a", "weight = 40 # a");
        stage.effect("the edit", edited, |stage| stage.weight("a") == 40);
        // HAProxy has it before it is written down.
        wait_for("the status of a trial", PATIENCE, || {
            let status = stage.cli(&["status"]).stdout;
            let is_told = |words: &str| status.contains(words);
            (is_told("revision 2: without `hapilot confirm`") && is_told("revision 1 comes")).then_some(())
        });
        stage.effect("the weight of before", edited, |stage| stage.weight("a") == 100);
        assert!(edited.elapsed() < Duration::from_secs(2) + LATE, "{:?}", edited.elapsed());
        wait_for("the history", PATIENCE, || (stage.revisions() == (3, 3)).then_some(()));
        guard_is_gone(&stage);
    }
}

#[test]
fn a_confirmation_keeps_the_revision_and_ends_the_guard() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let begun = on_trial(&stage, "40", "4s");
        assert_eq!(stage.json(&["status"])["trial"]["back_to"], 1);
        assert_eq!(outcomes(&stage)[1], "provisional");
        let said = stage.done(&["confirm"]);
        assert!(said.contains("is confirmed"), "{said}");
        guard_is_gone(&stage);
        assert!(begun.elapsed() < Duration::from_secs(4), "the guard ends before the deadline");
        assert_eq!(outcomes(&stage)[1], "confirmed");
        let refused = stage.cli(&["confirm"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("no revision waits"), "{}", refused.stderr);
        wait_for("the time of the deadline", PATIENCE, || {
            (begun.elapsed() > Duration::from_millis(4500)).then_some(())
        });
        assert_eq!((stage.weight("a"), stage.revisions().1), (40, 2));
        // And a rollback goes to the confirmed one before it.
        stage.done(&["rollback"]);
        assert_eq!(stage.weight("a"), 100);
    }
}

#[test]
fn a_restarted_agent_goes_on_with_the_deadline() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let begun = on_trial(&stage, "40", "6s");
        let guard = wait_for("the guard", PATIENCE, || guard_pid(&stage).filter(|pid| is_alive(*pid)));
        nix::sys::signal::kill(guard, nix::sys::signal::Signal::SIGKILL).expect("our own guard");
        stage.agent().kill();
        stage.start_agent();
        assert_eq!(stage.json(&["status"])["trial"]["revision"], 2);
        let again = wait_for("another guard", PATIENCE, || guard_pid(&stage).filter(|pid| is_alive(*pid)));
        assert_ne!(again, guard);
        stage.effect("the weight of before", begun, |stage| stage.weight("a") == 100);
        assert!(begun.elapsed() >= Duration::from_millis(5500), "not before its time");
        assert!(begun.elapsed() < Duration::from_secs(6) + LATE, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_start_after_the_deadline_begins_with_the_way_back() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let begun = on_trial(&stage, "40", "1s");
        // Both are killed, as by a power cut.
        if let Some(guard) = guard_pid(&stage) {
            let _ = nix::sys::signal::kill(guard, nix::sys::signal::Signal::SIGKILL);
        }
        stage.agent().kill();
        wait_for("the deadline", PATIENCE, || (begun.elapsed() > Duration::from_millis(1200)).then_some(()));
        stage.start_agent();
        stage.effect("the weight of before", begun, |stage| stage.weight("a") == 100);
        wait_for("no trial", PATIENCE, || stage.json(&["status"])["trial"].is_null().then_some(()));
    }
}

#[test]
fn an_apply_that_works_alone_is_guarded_as_well() {
    for binary in binaries().into_iter().take(1) {
        let stage = without_agent(&binary);
        let begun = on_trial(&stage, "40", "2s");
        assert_eq!(stage.weight("a"), 40);
        stage.effect("the weight of before", begun, |stage| stage.weight("a") == 100);
        assert!(begun.elapsed() < Duration::from_secs(2) + LATE, "{:?}", begun.elapsed());
        wait_for("the history", PATIENCE, || (stage.revisions() == (3, 3)).then_some(()));
        guard_is_gone(&stage);
    }
}

#[test]
fn the_first_revision_has_nothing_to_go_back_to() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::new(&binary);
        let said = stage.done(&["apply", "--confirm", "1s"]);
        assert!(said.contains("counts as confirmed"), "{said}");
        assert_eq!(outcomes(&stage), ["confirmed"]);
    }
}

/// Typed once more when all is well, or after a rollback: nobody wants to lose what serves for that.
#[test]
fn what_was_judged_before_is_not_put_on_trial() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        on_trial(&stage, "40", "60s");
        stage.done(&["confirm"]);
        let said = stage.done(&["apply", "--confirm", "1s"]);
        assert!(said.contains("revision 2 was confirmed before, and stays so"), "{said}");
        assert!(stage.json(&["status"])["trial"].is_null());
        stage.done(&["rollback", "1"]);
        stage.done(&["rollback", "2"]);
        let status = stage.json(&["status"]);
        assert_eq!(status["problems"].to_string(), "[]", "the file has what serves");
        let said = stage.done(&["apply", "--confirm", "1s"]);
        assert!(said.contains("revision 4 was confirmed before, and stays so"), "{said}");
        assert!(stage.json(&["status"])["trial"].is_null());
        assert_eq!(stage.weight("a"), 40);
    }
}

#[test]
fn an_apply_that_waits_for_its_reload_keeps_its_trial_and_reason_whoever_looks_at_the_file_meanwhile() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("idle = \"10s\"", "idle = \"11s\"");
        wait_for("the first reload", PATIENCE, || stage.read("haproxy.cfg").contains("11s").then_some(()));
        // The next reload waits for its gap, and the watch over the file comes before, behind and between.
        stage.edit("idle = \"11s\"", "idle = \"12s\"");
        let (said, again) = std::thread::scope(|scope| {
            let apply = scope.spawn(|| stage.done(&["apply", "--confirm", "5m", "--reason", "a try"]));
            let mut again = 0;
            while !apply.is_finished() {
                // As an editor that writes the same twice.
                stage.write_file(&stage.text());
                again += 1;
                pause(Duration::from_millis(100));
            }
            (apply.join().expect("the apply"), again)
        });
        assert!(said.contains("on trial") && again > 0, "{}: {again} times: {said}", binary.version);
        let history = stage.json(&["history"]);
        assert_eq!(
            (&history[0]["reason"], &history[0]["outcome"]),
            (&"a try".into(), &"provisional".into()),
            "{history}"
        );
    }
}

#[test]
fn a_way_back_that_fails_stands_as_a_problem_until_it_succeeds() {
    let binary = binaries().remove(0);
    let mut stage = without_agent(&binary);
    stage.start_agent();
    stage.wait_for_health();
    // The revision on trial has another key, and the one before it has lost its own.
    let (key, other) = (stage.path("key"), stage.path("key2"));
    let text = fs_err::read_to_string(&key).expect("the key");
    write(other, &text);
    let names = stage.text().replace("/key\"", "/key2\"").replace("weight = 100 # a", "weight = 7 # a");
    stage.write_file(&names);
    let said = stage.done(&["apply", "--confirm", "6s"]);
    assert!(said.contains("on trial"), "{said}");
    fs_err::remove_file(&key).expect("a key that is taken away");
    let problem = wait_for("the problem", PATIENCE, || {
        let status = stage.cli(&["status"]);
        (status.code == Some(1) && status.stdout.contains("cannot come back")).then_some(status.stdout)
    });
    for words in ["revision 1 cannot come back", "of revision 1", "revision 2 serves on, which nobody confirmed"] {
        assert!(problem.contains(words), "{problem}");
    }
    assert!(!problem.contains("last good state"), "{problem}");
    pause(Duration::from_secs(12));
    let events = stage.done(&["events"]);
    let count = |words: &str| events.matches(words).count();
    assert_eq!((count("cannot come back"), count("was not confirmed within")), (1, 1), "{events}");
    write(key, &text);
    wait_for("the way back", PATIENCE, || (stage.weight("a") == 100).then_some(()));
    wait_for("no problem", PATIENCE, || {
        let status = stage.json(&["status"]);
        status["problems"]
            .as_array()
            .is_some_and(|all| !all.iter().any(|one| one.to_string().contains("cannot come")))
            .then_some(())
    });
    assert!(stage.done(&["events"]).contains("no revision has to be taken back any more"));
}
