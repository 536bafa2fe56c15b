//! Revisions: what served, how they differ, and the way back.

use super::support::haproxy::binaries;
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for};
use nix::sys::signal::Signal;

#[test]
fn a_rollback_is_a_new_revision_that_only_an_edit_ends() {
    for binary in binaries() {
        let mut stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        let diff = stage.done(&["diff", "1", "2"]);
        assert!(diff.contains("-weight = 100 # a") && diff.contains("+weight = 40 # a"), "{diff}");
        let worker = stage.worker();

        let said = stage.done(&["rollback", "--reason", "too light"]);
        assert!(said.contains("revision 3 serves"), "{said}");
        assert_eq!((stage.weight("a"), stage.revisions(), stage.worker()), (100, (3, 3), worker));
        let newest = stage.json(&["history"])[0].to_string();
        assert!(newest.contains("too light"), "{newest}");
        assert!(stage.text().contains("weight = 40 # a"), "the operator's file is never rewritten");
        let told = |stage: &Stage| {
            let status = stage.json(&["status"]);
            assert_eq!(status["config"]["is_serving"], false, "{status}");
            assert!(status["problems"].to_string().contains("rolled back"), "{status}");
        };
        told(&stage);

        // Neither SIGHUP nor a restart serves the rolled-back file again.
        stage.agent().signal(Signal::SIGHUP);
        assert_eq!(stage.done(&["diff", "1", "3"]).trim(), "no difference");
        stage.agent().kill();
        stage.start_agent();
        stage.wait_for_health();
        told(&stage);
        assert_eq!((stage.weight("a"), stage.revisions()), (100, (3, 3)));

        stage.edit("weight = 40 # a", "weight = 60 # a");
        wait_for("the edit", PATIENCE, || (stage.weight("a") == 60).then_some(()));
        wait_for("its revision", PATIENCE, || (stage.revisions() == (4, 4)).then_some(()));
        assert_eq!(stage.cli(&["status"]).code, Some(0));
    }
}

#[test]
fn an_apply_serves_a_rolled_back_file_after_all() {
    for binary in binaries().into_iter().take(1) {
        let stage = Stage::running(&binary, |text| text);
        stage.edit("weight = 100 # a", "weight = 40 # a");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        stage.done(&["rollback", "1"]);
        assert_eq!(stage.weight("a"), 100);
        stage.done(&["apply"]);
        assert_eq!((stage.weight("a"), stage.revisions()), (40, (4, 4)));
        assert_eq!(stage.cli(&["rollback", "99"]).code, Some(1));
    }
}

#[test]
fn a_hangup_reads_the_file_again_and_unchanged_it_writes_nothing() {
    for binary in binaries().into_iter().take(1) {
        let mut stage = Stage::running(&binary, |text| text);
        let writes = stage.json(&["status"])["agent"]["writes"].clone();
        stage.agent().signal(Signal::SIGHUP);
        stage.done(&["apply"]);
        assert_eq!(stage.json(&["status"])["agent"]["writes"], writes);
        assert_eq!(stage.revisions(), (1, 1));
    }
}

#[test]
fn a_rollback_over_a_reload_serves_the_old_structure() {
    for binary in binaries() {
        let stage = Stage::running(&binary, |text| text);
        let marker = stage.json(&["status"])["haproxy"]["structure"].clone();
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        wait_for("the second revision", PATIENCE, || (stage.revisions() == (2, 2)).then_some(()));
        // Waits for the gap between two reloads by itself.
        let said = stage.done(&["rollback"]);
        assert!(said.contains("reload"), "{said}");
        assert_eq!(stage.revisions(), (3, 3));
        assert_eq!(stage.json(&["status"])["haproxy"]["structure"], marker);
        assert_eq!(stage.done(&["diff", "--haproxy", "1", "3"]).trim(), "no difference");
    }
}
